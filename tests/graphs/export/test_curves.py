"""Faithfulness curves: the figures of an assay at their heights, and what was not measured said."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from graphs import draw
from graphs.assays import Assay, Curve
from graphs.errors import BadOption
from graphs.export.picture import to_dot, to_svg
from graphs.export.plots import compose_plots
from graphs.export.scene.themes import THEMES
from tests.worlds import graph_of

NAN = float("nan")
GRAPH = graph_of([(0, 1, 1), (1, 2, 1)], "token feature logit")
CURVE = Curve(
    "mean", "kept", [0, 2, 4, 9], [0.0, 0.5, 1.0, 1.0], [1.0, 9.0, 0.0, 0.0], [[0.0, NAN, 0.25]], 0.5, [0.1], 0.5
)
EMPTY = Curve("zero", "ablated", [], [], [], [], NAN, [], NAN, "<script> no errors to ablate")


def assayed(*curves):
    return Assay({}, 1e-7, [], {}, [], [], curves=list(curves))


def test_survival_stands_at_its_height_and_only_the_complement_is_dashed():
    scene = compose_plots(GRAPH, ["curves"], assay=assayed(CURVE), legend=False)
    colours = THEMES["light"]
    kept = [line for line in scene.lines if line.colour == colours["raise"]]
    taken = [line for line in scene.lines if line.colour == colours["lower"]]
    zero, half, whole = (line.y0 for line in scene.lines if line.colour == colours["line"])

    assert [line.y0 for line in kept] + [kept[-1].y1] == pytest.approx([zero, half, whole, whole])
    assert [line.x0 for line in kept] == sorted(line.x0 for line in kept)
    assert kept[1].x0 - kept[0].x0 == pytest.approx(kept[2].x0 - kept[1].x0) and kept[2].x1 > kept[2].x0
    assert all(line.dashed for line in taken) and not any(line.dashed for line in kept)
    # 900% lies outside: the lines to it and from it end at the upper edge.
    edge = whole - (zero - whole) / 4
    assert min(min(line.y0, line.y1) for line in taken) == pytest.approx(edge)
    assert [line.y1 for line in taken[:1]] + [line.y0 for line in taken[1:2]] == pytest.approx([edge, edge])
    words = " ".join(text.words for text in scene.texts)
    assert "mean ablation, errors kept" in words and "area 0.50, p = 0.500" in words
    assert "graph: 4" in words and "all: 9" in words


def test_what_was_not_measured_says_why_and_every_word_is_escaped():
    svg = to_svg(compose_plots(GRAPH, ["curves"], assay=assayed(CURVE, EMPTY)))

    assert "untested: &lt;script&gt; no errors to ablate" in svg and ElementTree.fromstring(svg) is not None
    assert "style=dashed" in to_dot(compose_plots(GRAPH, ["curves"], assay=assayed(CURVE)))


def test_a_graph_without_curves_is_told_how_to_get_them(tmp_path):
    with pytest.raises(BadOption, match="circuits check"):
        draw(GRAPH, tmp_path / "x.svg", assayed(), picture="curves")
    with pytest.raises(BadOption, match="was not tested"):
        draw(GRAPH, tmp_path / "x.svg", picture="curves")
    assert draw(GRAPH, tmp_path / "x.svg", assayed(CURVE), picture="curves", theme="print", width_cm=17).exists()
