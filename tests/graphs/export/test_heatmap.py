"""Heat maps: every value in its place, as coloured as it is large."""

from xml.etree import ElementTree

import numpy as np
import pytest

from graphs.errors import BadOption
from graphs.export.heatmap import compose_heatmap, short
from graphs.export.picture import to_svg
from graphs.export.scene import THEMES

VALUES = np.array([[1.0, -0.5, 0.0], [np.nan, 0.25, 0.001]])


def scene(values=VALUES, **options):
    names = {"rows": [f"layer {at}" for at in range(len(values))], "columns": ["the", "big", "dog"], "title": "heat"}
    return compose_heatmap(values, **{**names, **options})


def test_the_last_row_is_on_top_and_each_square_says_its_value():
    squares = scene().shapes

    assert len(squares) == 6
    first, last = squares[0], squares[-1]
    assert first.y > last.y and first.x < last.x
    assert first.tip == "layer 0, the: 1" and squares[1].tip == "layer 0, big: -0.5"


@pytest.mark.parametrize("theme", list(THEMES))
def test_the_largest_is_the_colour_itself_and_nought_is_paper(theme):
    colours = THEMES[theme]
    fills = [square.fill for square in scene(theme=theme).shapes]

    assert fills[0] == colours["raise"]
    assert fills[2] == colours["paper"]
    assert fills[3] == colours["error"]
    assert fills[1] not in (colours["lower"], colours["paper"])


def test_long_names_take_turns_so_that_none_runs_into_another():
    columns = ["containing", "<bos>", "tallahassee"] * 4
    found = compose_heatmap(np.ones((2, 12)), rows=["a", "b"], columns=columns, title="t", note="n " * 80)
    boxes = [text.box for text in found.texts]

    for at, one in enumerate(boxes):
        assert one[0] >= 0 and one[2] <= found.width and one[3] <= found.height
        for other in boxes[at + 1 :]:
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, (one, other)


def test_it_is_a_file_that_any_reader_takes_whatever_the_tokens():
    svg = to_svg(scene(columns=["<script>", "\x00\n", "&amp;"], title='"a" < b'))

    ElementTree.fromstring(svg)
    assert "<script>" not in svg


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, ".50"), (-0.126, "-.13"), (0.001, "0"), (-0.001, "0"), (1.25, "1.2"), (-123.4, "-123")]
)
def test_numbers_are_short(value, text):
    assert short(value) == text


def test_names_and_values_must_fit():
    with pytest.raises(BadOption, match="wants as many values"):
        scene(columns=["the"])
    with pytest.raises(BadOption, match="theme"):
        scene(theme="pink")
