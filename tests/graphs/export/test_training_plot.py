"""Charts of numbers that were followed: the line goes where the numbers go."""

from graphs.export.picture import to_svg
from graphs.export.plots.training import SIZE, compose_training
from graphs.export.scene.legend import TRAILS

LINES = [
    {"step": 1.0, "a": 4.0, "b": float("nan")},
    {"step": 2.0, "a": 1.0, "b": 3.0},
    {"step": 4.0, "a": 2.0, "b": 3.0},
]


def strokes(scene):
    return [line for line in scene.lines if line.colour == scene.colours[TRAILS["kept"][0]]]


def test_a_line_goes_through_its_numbers_upwards_from_zero():
    scene = compose_training(LINES, across="step", names={"a": "error"}, title="a training")
    first, second = strokes(scene)
    bottom = max(line.y0 for line in scene.lines)

    assert [round(bottom - y, 6) for y in (first.y0, first.y1, second.y1)] == [SIZE[1], SIZE[1] / 4, SIZE[1] / 2]
    assert second.x1 - second.x0 == 2 * (first.x1 - first.x0)
    assert {"error", "at last 2"} <= {text.words for text in scene.texts}


def test_a_value_that_is_no_number_leaves_a_gap_and_no_lines_leave_an_empty_chart():
    assert len(strokes(compose_training(LINES, across="step", names={"a": "A", "b": "B"}, title="x"))) == 3
    empty = compose_training([], across="step", names={"a": "A"}, title="x <&> y")
    assert not strokes(empty)
    assert "x &lt;&amp;&gt; y" in to_svg(empty)


def test_large_numbers_are_said_by_thousands():
    scene = compose_training([{"t": 0.0, "a": 1.0}, {"t": 40000.0, "a": 1.0}], across="t", names={"a": "A"}, title="x")
    assert {"20,000", "40,000"} <= {text.words for text in scene.texts}
