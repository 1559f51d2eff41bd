"""Heat maps: every value in its place, as coloured as it is large."""

from xml.etree import ElementTree

import numpy as np
import pytest

from graphs.errors import BadOption
from graphs.export.heatmap import MOST_COLUMNS, RANKS, HeatMap, compose_heatmap, short, stack
from graphs.export.picture import to_svg
from graphs.export.scene.themes import THEMES

VALUES = np.array([[1.0, -0.5, 0.0], [np.nan, 0.25, 0.001]])


def heat(values=VALUES, **options):
    rows = options.pop("rows", [f"layer {at}" for at in range(values.shape[0])])
    columns = options.pop("columns", ["the", "big", "dog"])
    parts = {
        "effect": 3 * values,
        "share": values,
        "places": [[f"{row}, {column}" for column in columns] for row in rows],
        "title": "heat",
        "direction": "denoising",
        "unit": "logits",
        "kept": "share of the difference brought back",
    }
    return HeatMap(rows=rows, columns=columns, **{**parts, **options})


def scene(values=VALUES, theme="light", **options):
    return compose_heatmap(heat(values, **options), theme=theme)


def squares(found):
    return [shape for shape in found.shapes if shape.about is not None]


def words(found):
    return [text.words for text in found.texts]


def test_the_last_row_is_on_top_and_each_square_says_its_value():
    found = squares(scene())

    assert [square.about for square in found] == list(range(6))
    first, last = found[0], found[-1]
    assert first.y > last.y and first.x < last.x
    assert first.tip == "layer 0, the: 100.0%, +3 logits" and found[1].tip == "layer 0, big: -50.0%, -1.5 logits"
    assert found[3].tip == "layer 1, the: not measured"


@pytest.mark.parametrize("theme", list(THEMES))
def test_the_largest_is_the_colour_itself_and_nought_is_paper(theme):
    colours = THEMES[theme]
    fills = [square.fill for square in squares(scene(theme=theme))]

    assert fills[0] == colours["raise"]
    assert fills[2] == colours["paper"]
    assert fills[3] == colours["error"]
    assert fills[1] not in (colours["lower"], colours["paper"])


def test_the_bar_says_what_the_ends_of_its_colours_are():
    found = scene()
    bar = [shape for shape in found.shapes if shape.about is None]

    assert (bar[0].fill, bar[-1].fill) == (THEMES["light"]["lower"], THEMES["light"]["raise"])
    assert bar[len(bar) // 2].fill == THEMES["light"]["paper"]
    said = words(found)
    assert {"−100%", "0", "+100%"} <= set(said)
    assert "brought back; grey: not" in " ".join(said)
    assert not [shape for shape in compose_heatmap(heat(), legend=False).shapes if shape.about is None]


def test_without_shares_effects_are_drawn_in_their_unit():
    found = scene(np.full((2, 3), np.nan), effect=3 * VALUES)

    assert "+3" in words(found) and "colour and number: effect in logits" in " ".join(words(found))
    assert squares(found)[0].tip == "layer 0, the: +3 logits"


def test_in_a_crowd_a_minus_says_the_sign():
    values = np.linspace(-1, 1, 60)[None]
    found = scene(values, columns=["a"] * 60)

    marks = [text for text in found.texts if text.words == "−"]
    negative = [square for square in squares(found) if values.flat[square.about] < -0.02]
    assert [mark.x for mark in marks] == [square.x for square in negative]


def test_of_ranked_rows_the_strongest_squares_stand_first_under_their_own_names():
    values = np.zeros((2, 30))
    values[0, 7], values[0, 2], values[1, 29] = -0.5, 0.25, 1.0
    found = scene(values, columns=[f"n{at}" for at in range(30)], ranked=True, across="neurons")

    assert [square.about for square in squares(found)[:2]] == [7, 2]
    assert squares(found)[RANKS].about == 30 + 29
    own = {text.words: text for text in found.texts}
    assert own["n29"].x == squares(found)[RANKS].x and "neurons, strongest first" in own
    assert f"of each row the {RANKS} strongest of 30 are drawn" in " ".join(words(found))


def test_of_too_many_rows_and_columns_the_strongest_are_drawn_in_their_order():
    values = np.zeros((9, MOST_COLUMNS + 50))
    values[[2, 7], [3, 5]] = 1.0, -1.0
    found = scene(values, columns=["a"] * values.shape[1], most=2)

    rows = {square.about // values.shape[1] for square in squares(found)}
    assert rows == {2, 7} and {"layer 2", "layer 7"} <= set(words(found)) and "layer 0" not in words(found)
    assert len(squares(found)) == 2 * MOST_COLUMNS
    assert "the 2 strongest of 9 rows" in " ".join(words(found))


def test_stacked_scenes_do_not_touch():
    one = scene()
    found = stack([one, scene(columns=["a", "b", "c"])])

    assert found.height == 2 * one.height
    lower = [text for text in found.texts if text.words in ("a", "b", "c")]
    assert len(lower) == 3 and all(text.y > one.height for text in lower)
    assert squares(found)[6].y == squares(one)[0].y + one.height


def test_long_names_take_turns_so_that_none_runs_into_another():
    columns = ["containing", "<bos>", "tallahassee"] * 4
    found = scene(np.ones((2, 12)), rows=["a", "b"], columns=columns, title="t", note="n " * 80)
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
    ("value", "text"),
    [
        *((0.5, ".50"), (-0.126, "-.13"), (0.001, "0"), (-0.001, "0"), (1.25, "1.2"), (-123.4, "-123")),
        *((0.996, "1.0"), (-0.994, "-.99"), (9.96, "10")),  # alike where they round to the same
    ],
)
def test_numbers_are_short(value, text):
    assert short(value) == text


def test_names_and_values_must_fit():
    with pytest.raises(BadOption, match="wants as many values"):
        heat(columns=["the"])
    with pytest.raises(BadOption, match="theme"):
        scene(theme="pink")
