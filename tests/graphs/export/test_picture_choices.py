"""What a picture's options draw, grey or hide: nothing disappears without being counted in the caption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from graphs.assays import Ablation, Assay, Edges
from graphs.errors import BadOption
from graphs.export.picture import to_dot, to_svg
from graphs.export.scene import compose
from graphs.export.scene.themes import THEMES
from tests.worlds import graph_of, graphs


def world():
    #   <bos> 0 --1--> texas 3 --2--> austin 6;  dallas 1 --3--> texas 3;  error 2 --(-1)--> texas 3
    #   bias 4 --6--> austin 6;  error 5 --1--> austin 6;  <bos> 0 --1--> austin 6
    graph = graph_of(
        [(0, 3, 1), (1, 3, 3), (2, 3, -1), (3, 6, 2), (4, 6, 6), (5, 6, 1), (0, 6, 1)],
        "token token error feature bias error logit",
    )
    nodes = graph.nodes.with_columns(
        position=np.array([0, 1, 1, 1, -1, 1, 1]),
        layer=np.array([-1, -1, 0, 1, 1, 1, 2]),
        influence=np.array([0.35, 0.3, 0.1, 0.5, 0.0, 0.25, 0.0]),
        label=np.array(["<bos>", "dallas", "error L0", "texas", "decoder bias L1", "error L1", "austin"], dtype=object),
    )
    return replace(graph, nodes=nodes, token_ids=(1, 2), tokens=("<bos>", "dallas"))


def rows_of(scene):
    return {shape.row for shape in scene.shapes if shape.row is not None}


def edges_of(scene):
    return {curve.ends: curve for curve in scene.curves if curve.ends}


def words_of(scene):
    return " ".join(text.words for text in scene.texts)


def test_biases_are_left_out_and_counted_unless_they_are_asked_for():
    without, with_them = compose(world()), compose(world(), biases=True)

    assert 4 not in rows_of(without) and (4, 6) not in edges_of(without)
    assert "1 bias node is not drawn" in words_of(without) and "decoder bias" not in words_of(without)
    assert rows_of(with_them) == set(range(7)) and len(edges_of(with_them)) == 7
    assert "not drawn" not in words_of(with_them) and "bias: a constant of the model" in words_of(with_them)
    (plus,) = (shape for shape in with_them.shapes if shape.row == 4)
    assert plus.shape == "plus"
    assert 'id="n4"' in to_svg(with_them) and "n4 [" in to_dot(with_them) and "n4 -> n6" in to_dot(with_them)


def test_the_fan_of_the_opening_mark_is_grey_drawn_or_hidden_and_its_share_said():
    grey, drawn, hidden = (compose(world(), bos=how) for how in ("grey", "draw", "hide"))

    faint = THEMES["light"]["faint"]
    assert edges_of(grey)[0, 3].colour == edges_of(grey)[0, 6].colour == faint != edges_of(grey)[1, 3].colour
    assert faint not in {curve.colour for curve in edges_of(drawn).values()}
    assert {(0, 3), (0, 6)} & set(edges_of(hidden)) == set() and 0 in rows_of(hidden)
    # <bos> carries 1/4 straight and 1/5 of texas' half, dallas 3/5 of that half: .35 of .65.
    assert "grey: what comes from <bos>, 54% of what ends in tokens" in words_of(grey)
    assert "not drawn: what comes from <bos>, 54% of what ends in tokens" in words_of(hidden)
    assert "drawn: 4 of 6 edges" in words_of(hidden)
    assert "<bos>," not in words_of(drawn)


def test_hidden_errors_are_counted_with_their_edges():
    scene = compose(world(), errors="hide")

    assert rows_of(scene) == {0, 1, 3, 6}
    # Of 1.5 that all edges carry, the error's to texas has .1, the one to austin .25.
    assert "drawn: 4 of 6 edges, 77% of what they carry" in words_of(scene)
    assert "2 error nodes are not drawn" in words_of(scene)
    assert "what the features miss" not in words_of(scene)


def test_errors_at_the_last_token_and_units_that_are_always_active_are_told():
    notes = {"1/0": {"label": "texas", "density": 0.7}, "0/9": {"density": 0.9}}
    graph = world()
    nodes = graph.nodes.with_columns(feature=np.array([0, 1, -1, 0, -1, -1, 6]))
    scene = compose(replace(graph, nodes=nodes, provenance={"feature_notes": notes}))

    # The error at texas has 1/5 of its half of the goal, that at austin 1/4 of the goal: both are of the last token.
    assert "35% of the influence ends in errors at the last token" in words_of(scene)
    assert "active on more than two thirds of all tokens: texas" in words_of(scene)
    rare = {"1/0": {"density": 0.6}}
    assert "active on" not in words_of(compose(replace(graph, nodes=nodes, provenance={"feature_notes": rare})))
    earlier = graph.nodes.with_columns(position=np.array([0, 1, 0, 1, -1, 0, 1]))
    assert "at the last token" not in words_of(compose(replace(graph, nodes=earlier)))


def test_the_strongest_of_what_is_not_hidden_are_drawn():
    scene = compose(world(), errors="hide", most_edges=2)

    assert set(edges_of(scene)) == {(3, 6), (1, 3)}
    assert "drawn: the 2 strongest of 6 edges" in words_of(scene)


def test_without_labels_only_logits_are_called_by_name():
    called = {text.row for text in compose(world(), labels=False).texts if text.row is not None}

    assert called == {6}


@pytest.mark.parametrize("choice", [{"bos": "gray"}, {"errors": "draw"}])
def test_an_unknown_choice_is_refused(choice):
    with pytest.raises(BadOption, match=r"grey, .*found '(gray|draw)'"):
        compose(world(), **choice)


@settings(deadline=None, max_examples=25)
@given(graphs())
def test_whatever_is_chosen_every_node_is_drawn_or_counted(graph):
    kinds = graph.nodes.kind
    for choice, kind in (({"biases": False}, "bias"), ({"biases": True, "errors": "hide"}, "error")):
        scene = compose(graph, **choice)
        missing = set(range(len(kinds))) - rows_of(scene)
        assert missing == set(np.flatnonzero(kinds == kind).tolist())
        assert not missing or f"{len(missing)} {kind} node" in words_of(scene)


def test_a_node_that_moved_the_target_against_a_prediction_that_counts_is_red():
    def outline(predicted, measured):
        tried = Ablation(3, 0.5, predicted, measured, 0.1, predicted, 0.1)
        scene = compose(
            world(), assay=Assay({"thresholds": {"sizeable": 0.1}}, 1e-7, [tried], {"clean": -20.0}, [], [])
        )
        said = "moved the target against the prediction" in words_of(scene)
        (shape,) = (shape for shape in scene.shapes if shape.row == 3)
        assert said == (shape.outline == THEMES["light"]["failed"])
        return said

    assert outline(-2.5, 0.1) and outline(2.0, -3.0)
    assert not outline(-2.5, -0.1)
    assert not outline(-1.9, 0.1)  # too small a promise to be held to


def test_edges_below_the_cut_are_not_drawn_and_the_caption_says_so():
    scene = compose(world(), least_share=0.3)

    # At texas dallas has 3 of 5; at austin texas has 2 of 4, the others 1 of 4.
    assert set(edges_of(scene)) == {(1, 3), (3, 6)}
    assert "drawn: 2 of 6 edges" in words_of(scene) and "none below 0.3 of its target's input" in words_of(scene)
    with pytest.raises(BadOption, match="0 to 1"):
        compose(world(), least_share=3)


def test_a_picture_without_a_legend_keeps_its_caption():
    scene = compose(world(), legend=False)

    assert "raises its target" not in words_of(scene) and "replacement" in words_of(scene)
    assert rows_of(scene) == rows_of(compose(world())) and len(scene.shapes) == len(rows_of(scene))


def test_font_and_width_reach_the_file():
    scene = compose(world(), font="serif", width_cm=8.5)
    svg, dot = to_svg(scene), to_dot(scene)

    high = 8.5 * scene.height / scene.width
    assert 'width="8.5cm"' in svg and f'height="{high:.4g}cm"' in svg and "Times New Roman" in svg
    assert f'size="{8.5 / 2.54:.4f},{high / 2.54:.4f}!"' in dot and "dpi" not in dot and 'fontname="Times' in dot
    for choice in ({"font": "comic"}, {"width_cm": 0.1}, {"width_cm": float("nan")}):
        with pytest.raises(BadOption):
            compose(world(), **choice)


def test_in_print_the_two_signs_differ_in_grey_too():
    def grey(colour):
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    assert abs(grey(THEMES["print"]["raise"]) - grey(THEMES["print"]["lower"])) > 80


def test_the_dot_of_an_ablated_node_is_in_every_kind_of_file_and_told_from_its_fill():
    tried = [Ablation(3, 0.5, -2.5, -0.1, 0.1, -2.5, 0.1)]
    for theme in THEMES:
        scene = compose(world(), assay=Assay({}, 1e-7, tried, {}, [], []), theme=theme)
        (shape,) = (each for each in scene.shapes if each.row == 3)
        assert shape.dot and shape.dot != shape.fill
        assert '<g id="n3"' in to_svg(scene) and f'fill="{shape.dot}" stroke="none"' in to_svg(scene)
        assert "n3dot [" in to_dot(scene) and "dotted" not in to_dot(scene)
        assert '<circle id="n0"' not in to_svg(scene) and "n0dot" not in to_dot(scene)


def test_edges_that_were_measured_are_solid_others_dashed_and_the_one_that_failed_red():
    graph = world()
    graph = replace(
        graph, nodes=graph.nodes.with_columns(kind=np.where(np.arange(7) == 5, "unselected", graph.nodes.kind))
    )

    def drawn(largest):
        assay = Assay({"thresholds": {"exact": 1e-4}}, 1e-7, [], {}, [], [], edges=[Edges(6, 1, largest, 1, 3)])
        scene = compose(graph, assay=assay)
        return edges_of(scene), words_of(scene), to_dot(scene), to_svg(scene)

    edges, words, dot, svg = drawn(1e-6)
    assert [ends for ends, curve in edges.items() if curve.dashed] == [(5, 6)]
    assert "measured by taking its source away" in words and "not measured" in words and "too far" not in words
    assert dot.count("style=dashed") == svg.count("stroke-dasharray") == 2  # the edge and its sample
    edges, words, _, _ = drawn(0.2)
    red = [ends for ends, curve in edges.items() if curve.colour == THEMES["light"]["failed"]]
    assert red == [(1, 3)] and "too far" in words
    assert "furthest from its weight: dallas → texas L1 @dallas" in words and "furthest" not in drawn(1e-6)[1]
    assert not any(curve.dashed for curve in edges_of(compose(graph)).values())


def test_an_edge_into_what_no_experiment_reads_is_dashed():
    graph = graph_of([(0, 1, 1), (1, 2, 2), (1, 3, 1)], "token feature direction logit", goal=[0, 0, 0.5, 0.5])
    assay = Assay({}, 1e-7, [], {}, [], [], edges=[Edges(2, 1, 1e-6, 1, 3)])

    assert [curve.ends for curve in compose(graph, assay=assay).curves if curve.ends and curve.dashed] == [(1, 2)]
