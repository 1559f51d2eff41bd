"""The plots of an assay: every figure at its place, what was not measured said, and the same bytes each time."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import draw
from graphs.assays import (
    Ablation,
    Arrow,
    Assay,
    Between,
    Contributions,
    Control,
    Curve,
    Disturbance,
    Group,
    Prunings,
    Rewording,
    Steps,
    Subset,
)
from graphs.errors import BadOption, ForeignFolder
from graphs.export.picture import to_dot, to_svg
from graphs.export.plots import PLOTS, chart_plots, compose_plots
from graphs.export.plots.charts import Chart, Trail, axis, lay_out_charts
from graphs.export.scene.themes import THEMES
from tests.worlds import graph_of

NAN = float("nan")
NASTY = '<script>alert(1)</script>&"\u202e\x00'
COLOURS = THEMES["light"]
#   token 0 -> texas 1 -> say austin 2 -> austin 4 <- error 3
GRAPH = graph_of([(0, 1, 1), (1, 2, 1), (2, 4, 1), (3, 4, 1)], "token feature feature error logit")


def ablation(node, predicted, measured, frozen, dose=1.0, influence=0.5):
    return Ablation(node, influence, predicted, measured, 0.1, frozen, 0.2, dose)


def group(name, rows, predicted, measured, random, arrows):
    figures = {"kl": 0.1, "measured_frozen": measured, "kl_frozen": 0.1, "left": 0.5, "p": 0.3, "unmatched": ""}
    lists = {"singles": [measured] * len(rows), "random": random, "random_kl": random, "arrows": arrows}
    return Group(name, rows, predicted, measured, alike="layer", **figures, **lists)


def assayed(**parts):
    """An assay in which everything was measured."""
    records = {
        "ablations": [ablation(1, -2.0, -2.0, 1.0), ablation(2, -1.0, 0.5, -1.0), ablation(3, 1.0, 0.25, NAN)],
        "doses": [ablation(1, -1.0, -0.5, -0.5, 0.5), ablation(1, -4.0, -3.0, NAN, 2.0)],
        "subsets": [Subset("mean", 0.9, 0.1, [0.2, 0.3, NAN], [0.8, 0.8], 0.25, 0.25)],
        "curves": [Curve("zero", "kept", [0, 2, 9], [0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [[0.0, 0.5]], 0.5, [0.1], 0.5)],
        "contributions": [Contributions([1, 2], [0.5, 0.0], [0.01, 0.02, -0.01])],
        "controls": [Control("graphs of other prompts", "what survives", 0.9, [0.1, 0.2], 0.3)],
        "between": [Between([1, 1], [2, 2], [1, 5], [0.5, 0.1], [0.375, 0.0], [0.5, 0.25], [0.75, 0.5], [0.5, NAN], 3)],
        "disturbances": [
            Disturbance("a random direction", way, [1, 2], [9, 4], [0.9, 0.7], [0.1, NAN], [1.0, 100.0], [1.0, 0.9])
            for way in ("live", "frozen")
        ],
        "steps": [Steps([1, 2], [-2, -1], [-3, -1], [-3, -1], [-3, NAN], [-3, -1.0], [-0.5, -1], [-0.5, 0.25])],
        "groups": [
            group("texas", [1], -2.0, -1.0, [0.5, -0.25], [Arrow("austin", -0.5, -0.5, 0.25, 0.2, [0.0, 0.125], 0.3)]),
            group("austin", [2], -1.0, -1.5, [0.0, 0.0], []),
            replace(group("words", [0], NAN, NAN, [], []), untested="it holds a token"),
        ],
        "prunings": [Prunings([[0.7, 0.9], [0.8, 0.9]], [1.0, 0.5, 0.5, 1.0, 0.0], [1.0] * 4)],
        "rewordings": [
            Rewording("in austin is", False, True, 1.0, 0.9, 0.8),
            Rewording("is texas", False, False, 0.5, 0.3, 0.2),
            Rewording("the cat", True, False, 0.0, 0.0, 0.0),
        ],
    }
    registration = {"hash": "c0ffee", "thresholds": {"sizeable": 0.05, "faithful": 0.8}}
    statistics = {"clean": 10.0, "slope": 0.75, "beyond_slope": 0.5}
    return Assay(
        registration,
        1e-7,
        verdicts=[],
        **{"statistics": statistics, **records, **parts},
    )


def dots(scene, node=None):
    return [each for each in scene.shapes if each.about is not None and node in (None, each.about)]


def words(scene):
    return " ".join(text.words for text in scene.texts)


def test_what_came_as_predicted_lies_on_the_dashed_line_and_what_went_the_other_way_is_hollow_and_red():
    scene = compose_plots(GRAPH, ["predictions"], assay=assayed(), legend=False)
    live, held = [line for line in scene.lines if line.dashed]

    def above(dot, line):
        slope = (line.y1 - line.y0) / (line.x1 - line.x0)
        return line.y0 + slope * (dot.x - line.x0) - dot.y

    texas, texas_held = dots(scene, 1)
    say, say_held = dots(scene, 2)
    (error,) = dots(scene, 3)  # with attention held it gave no number
    assert above(texas, live) == pytest.approx(0, abs=1e-9) and above(say_held, held) == pytest.approx(0, abs=1e-9)
    assert above(texas_held, held) > above(say, live) > 0 > above(error, live)
    assert above(texas_held, held) == pytest.approx(2 * above(say, live))
    red = [dot for dot in dots(scene) if dot.outline == COLOURS["failed"]]
    assert red == [say, texas_held] and {dot.fill for dot in red} == {COLOURS["paper"]}
    assert error.shape == "diamond" and texas.shape == "circle"
    assert "slope 0.75" in words(scene) and "predicted −2, measured −2 logits" in texas.tip


def test_each_node_is_followed_from_the_graph_to_the_model():
    (chart,) = chart_plots(GRAPH, assayed(statistics={"kept_by_whole": 1.5}))["steps"]

    texas = sorted((dot.x, dot.y) for dot in chart.dots if dot.about == 1)
    assert texas == list(enumerate([-2, -3, -3, -3, -3, -0.5, -0.5]))
    assert [trail.points for trail in chart.trails][-1] == texas  # the largest lies above
    assert sorted(dot.x for dot in chart.dots if dot.about == 2) == [0, 1, 2, 4, 5, 6]  # one gave no number
    assert chart.notes[-1] == "all active units × 1.50"


def test_groups_stand_in_rows_with_random_ones_and_an_arrow_that_goes_the_other_way_is_red():
    groups, arrows = chart_plots(GRAPH, assayed())["hypotheses"]

    assert [words for _, words in groups.upwards.ticks] == ["texas", "austin"]  # one could not be ablated
    assert [(dot.x, dot.y) for dot in groups.dots] == [(-2.0, 2.0), (-1.0, 2.0), (-1.0, 1.0), (-1.5, 1.0)]
    assert [dot.colour for dot in groups.dots] == ["paper", "raise"] * 2
    strokes = [trail.points[0][0] for trail in groups.trails if trail.points[0][1] > 1.5]
    assert strokes == [0.5, -0.25] and {trail.style for trail in groups.trails} == {"chance"}
    assert [words for _, words in arrows.upwards.ticks] == ["texas → austin"]
    predicted, measured = arrows.dots
    assert (predicted.x, measured.x, measured.colour) == (-0.5, 0.25, "failed")
    assert "predicted −50.0%, measured 25.0%, p = 0.300" in measured.tip


def test_doses_go_through_nothing_at_none_and_the_most_influential_nodes_come_first():
    many = [ablation(node, -1.0, -1.0, -1.0, dose, influence=node) for node in (1, 2, 3) for dose in (1.0, 2.0)]
    first = chart_plots(GRAPH, assayed(ablations=many[::2], doses=many[1::2]))["doses"]
    assert [chart.dots[0].about for chart in first] == [3, 2, 1]

    (chart,) = chart_plots(GRAPH, assayed())["doses"]  # the other nodes had one dose
    predicted, held, live = (list(trail.points) for trail in chart.trails)
    assert live == [(0.0, 0.0), (0.5, -0.5), (1.0, -2.0), (2.0, -3.0)]
    assert predicted == [(0.0, 0.0), (0.5, -1.0), (1.0, -2.0), (2.0, -4.0)]
    assert math.isnan(held[-1][1])
    scene = compose_plots(GRAPH, ["doses"], assay=assayed(), legend=False)
    assert len(dots(scene, 1)) == 3 and len([line for line in scene.lines if line.width == 1.2]) == 2


def test_bars_count_the_controls_and_the_graph_stands_where_it_stands_on_their_axis():
    kept, taken, area, other, lost = chart_plots(GRAPH, assayed())["controls"]

    assert [sum(bar.count for bar in chart.bars) for chart in (kept, taken, area, other, lost)] == [2, 2, 1, 2, 3]
    assert [bar.low <= value < bar.high for bar, value in zip(kept.bars, (0.2, 0.3), strict=True)] == [True, True]
    assert [(dot.x, dot.about) for dot in kept.dots] == [(0.9, None)]
    assert [trail.points[0][0] for trail in kept.trails] == [0.8, 0.9]
    assert [trail.points[0][0] for trail in taken.trails] == pytest.approx([0.2, 0.1])
    assert [(dot.x, dot.about) for dot in lost.dots] == [(0.5, 1), (0.0, 2)]
    assert "100%" not in kept.notes[0] and "the graph 90%" in kept.notes[0] and "p = 0.250" in kept.notes[0]


def test_what_longer_paths_do_is_told_apart_from_what_an_edge_does():
    charts = chart_plots(GRAPH, assayed())["pairs"]

    assert [(chart.title, chart.notes[0], len(chart.dots)) for chart in charts] == [
        ("joined by an edge", "attention live; 1 pair, 3 left out of all", 1),
        ("joined by an edge", "attention held; 1 pair, 3 left out of all", 1),
        ("joined by longer paths only", "attention live; 1 pair, 3 left out of all", 1),
        ("joined by longer paths only", "attention held; 0 pairs, 3 left out of all", 0),
        ("longer paths, less the edge's own part", "attention live; 2 pairs, 3 left out of all", 2),
        ("longer paths, less the edge's own part", "attention held; 1 pair, 3 left out of all", 1),
    ]
    near, far, beyond = ([(dot.x, dot.y, dot.about) for dot in chart.dots] for chart in charts[::2])
    assert near == [(0.5, 0.75, 1)] and far == [(0.25, 0.5, 1)]
    assert beyond == [(0.25, 0.5, 1), (0.125, 0.375, 1)]  # the edge's own part was 0.375
    many = Between([1] * 700, [2] * 700, [1] * 700, [i / 700 for i in range(700)], *[[0.5] * 700] * 4, 0)
    live, _ = chart_plots(GRAPH, assayed(between=[many]))["pairs"]
    assert live.notes[0] == "attention live; the 600 strongest of 700 pairs" and len(live.dots) == 600
    assert "feature 1" in charts[2].dots[0].tip and "5 hops" in charts[2].dots[0].tip
    assert "slope 0.5" in charts[4].notes[1] and charts[0].notes[1] == ""


def test_wordings_stand_above_unrelated_prompts_and_one_that_is_answered_otherwise_is_hollow():
    nodes, edges, features, influence, overlap = chart_plots(GRAPH, assayed())["stability"]

    assert nodes.notes == ["2 of 5 are kept by all 2"] and edges.notes == ["4 of 4 are kept by all 2"]
    assert [sum(bar.count for bar in chart.bars) for chart in (nodes, edges, features)] == [5, 4, 1]
    assert [dot.x for dot in features.dots] == [1.0, 0.5] and [dot.x for dot in overlap.dots] == [0.8, 0.2]
    assert [dot.colour for dot in influence.dots] == ["raise", "paper"]
    assert "answered otherwise" in influence.dots[1].tip


def test_a_kind_of_change_has_the_same_line_whatever_else_was_tried():
    cosine, error, length, *_ = chart_plots(GRAPH, assayed())["layers"]
    samples = dict(map(reversed, PLOTS["layers"].samples))

    assert [trail.style for trail in cosine.trails] == [samples["a random direction"]]
    assert [dot.y for dot in cosine.dots] == [0.9, 0.7] and [dot.y for dot in error.dots] == [-1.0]
    assert "mean of 4" in cosine.dots[1].tip
    # Lengths and errors stand at their powers of ten.
    assert [dot.y for dot in length.dots] == [0.0, 2.0] and [words for _, words in length.upwards.ticks] == [
        "1",
        "10",
        "100",
    ]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("which", [[each] for each in PLOTS] + [list(PLOTS)], ids=lambda which: "+".join(which))
def test_every_plot_stays_on_its_sheet_in_its_themes_colours_and_keeps_its_words_apart(which, theme):
    scene = compose_plots(GRAPH, which, assay=assayed(), theme=theme)

    assert scene == compose_plots(GRAPH, which, assay=assayed(), theme=theme)
    found = {line.colour for line in scene.lines} | {shape.fill for shape in scene.shapes}
    assert found <= set(THEMES[theme].values())
    for left, top, right, bottom in (text.box for text in scene.texts):
        assert 0 <= left and right <= scene.width and 0 <= top and bottom <= scene.height
    for x, y in ((shape.x, shape.y) for shape in scene.shapes):
        assert 0 <= x <= scene.width and 0 <= y <= scene.height
    boxes = [text.box for text in scene.texts]
    for one in range(len(boxes)):
        for other in boxes[:one]:
            a = boxes[one]
            apart = a[0] >= other[2] or a[2] <= other[0] or a[1] >= other[3] - 0.5 or a[3] - 0.5 <= other[1]
            assert apart, (scene.texts[one].words, scene.texts[boxes.index(other)].words)


def test_what_was_not_measured_is_named_and_nothing_at_all_is_refused(tmp_path):
    nothing = Assay({}, 1e-7, [], {}, [], [])
    some = replace(nothing, controls=[Control(NASTY, "", NAN, [], NAN, f"no {NASTY}")])

    scene = compose_plots(GRAPH, list(PLOTS), assay=some)
    assert "untested: no <script>" in words(scene)
    assert all(plot.title in words(scene) for plot in PLOTS.values())
    assert chart_plots(GRAPH, some).keys() == {"controls"} and not chart_plots(GRAPH, None)
    assert words(scene).count("not measured: ") == 1
    with pytest.raises(BadOption, match=r"`circuits check`; this graph was tested without it"):
        draw(GRAPH, tmp_path / "x.svg", nothing, picture="doses")
    with pytest.raises(BadOption, match=r"`circuits check`; this graph was not tested"):
        draw(GRAPH, tmp_path / "x.svg", picture="assay")
    with pytest.raises(BadOption, match="predictions, steps, doses"):
        draw(GRAPH, tmp_path / "x.svg", picture="nonsense")


@pytest.mark.parametrize("row", [-1, 5])
def test_an_assay_of_another_graph_is_told_from_one_of_this(row, tmp_path):
    foreign = {
        "ablations": [ablation(row, -1.0, -1.0, -1.0)],
        "contributions": [Contributions([row], [0.5], [0.1])],
        "groups": [group("texas", [row], -1.0, -1.0, [], [])],
        "between": [Between([1], [row], [1], [0.5], [0.5], [0.5], [0.5], [0.5], 0)],
    }
    for name, records in foreign.items():
        with pytest.raises(ForeignFolder, match=f"names node {row}, and the graph has nodes 0 to 4"):
            draw(GRAPH, tmp_path / "x.html", assayed(**{name: records}))


def test_no_word_of_an_assay_or_a_graph_becomes_markup():
    label = np.full(len(GRAPH.nodes), NASTY, dtype=object)
    graph = replace(GRAPH, nodes=GRAPH.nodes.with_columns(label=label))
    found = assayed(controls=[Control(NASTY, "", NAN, [], NAN, NASTY)])

    svg = to_svg(compose_plots(graph, list(PLOTS), assay=found))

    names = {each.tag.rpartition("}")[2] for each in ElementTree.fromstring(svg).iter()}
    assert names <= {"svg", "title", "rect", "path", "circle", "polygon", "text", "g"}
    assert "<script" not in svg and svg.count("&lt;script&gt;") > 10
    assert {each.get("data-about") for each in ElementTree.fromstring(svg).iter()} == {None, "1", "2", "3"}


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@pytest.mark.parametrize("ending", ["svg", "pdf", "png", "dot"])
def test_all_plots_are_drawn_by_the_same_route_as_other_pictures(tmp_path, ending):
    path = draw(GRAPH, tmp_path / f"x.{ending}", assayed(), picture="assay", width_cm=17, font="serif")

    assert path.stat().st_size > 1000
    if ending in ("svg", "dot"):
        again = draw(GRAPH, tmp_path / f"y.{ending}", assayed(), picture="assay", width_cm=17, font="serif")
        assert path.read_bytes() == again.read_bytes()
    assert "shape=diamond" in to_dot(compose_plots(GRAPH, ["controls"], assay=assayed()))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_an_axis_has_a_few_numbers_evenly_spaced_within_it(low, size):
    found = axis("", low, low + size)
    values = [value for value, _ in found.ticks]

    assert 2 <= len(values) <= 6
    slack = 1e-6 * size + 1e-9 * abs(low)
    assert low - slack <= values[0] and values[-1] <= low + size + slack
    assert np.diff(values) == pytest.approx(values[1] - values[0], rel=1e-3)


def test_a_line_that_leaves_its_chart_is_cut_at_the_edge():
    chart = Chart(
        "x", [], axis("", 0.0, 1.0), axis("", 0.0, 1.0), (100.0, 50.0), trails=[Trail([(0, 0), (1, 2)], "kept")]
    )

    marks = lay_out_charts([chart], 1, 0.0, 0.0, THEMES["light"])

    (line,) = (line for line in marks.lines if line.colour == THEMES["light"]["raise"])
    assert line.x1 - line.x0 == pytest.approx(50) and line.y0 - line.y1 == pytest.approx(50)
