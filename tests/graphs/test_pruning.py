"""Pruning, against the peer's rule written out on dense matrices, and what must hold for any graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies

from graphs import edge_influence, influence, prune, scores
from graphs.errors import BadOption
from tests.worlds import graph_of, graphs, layered

ALWAYS = ("token", "logit", "bias")


def peers_threshold(values, share):
    """The value where the largest add up to the share: sort all, add up, look."""
    descending = np.sort(values.ravel())[::-1]
    reached = np.searchsorted(np.cumsum(descending) / descending.sum(), share)
    return descending[min(reached, len(descending) - 1)]


def peers_series(matrix, goal):
    sums = np.abs(matrix).sum(1, keepdims=True)
    normalised = np.abs(matrix) / np.maximum(sums, 1e-10)
    total, step = np.zeros(len(goal)), goal
    while step.any():
        step = step @ normalised
        total = total + step
    return normalised, total


def peers_rule(graph, nodes, edges):
    """Which nodes and edges circuit-tracer keeps, from METHODS 5.1, on [node, node] matrices. Without biases."""
    matrix, kind = graph.to_dense(), graph.nodes.kind
    _, carried = peers_series(matrix, graph.goal)
    always, features = np.isin(kind, ("token", "logit")), kind == "feature"
    kept = (carried >= peers_threshold(carried, nodes)) | always
    matrix[~kept] = 0
    matrix[:, ~kept] = 0
    normalised, carried = peers_series(matrix, graph.goal)
    score = normalised * (carried + graph.goal)[:, None]
    edge = (score >= peers_threshold(score, edges)) & (score > 0)
    while True:
        before = kept.copy()
        kept &= always | edge.any(0)
        kept &= ~features | edge.any(1)
        edge[~kept] = False
        edge[:, ~kept] = False
        if (before == kept).all():
            return kept, edge


def kept_rows(graph, small):
    """Rows of the whole graph that a part of it holds, by their feature number."""
    return np.isin(graph.nodes.feature, small.nodes.feature)


shares = strategies.floats(0.05, 0.97)


@given(graphs(most_inner=25, sources=("token", "error")), shares, shares)
def test_the_peers_rule_keeps_what_the_peer_keeps(graph, nodes, edges):
    kept, edge = peers_rule(graph, nodes, edges)

    small = prune(graph, nodes=nodes, edges=edges, renormalise=True)

    assert (kept_rows(graph, small) == kept).all()
    assert (small.to_dense() == np.where(edge, graph.to_dense(), 0)[kept][:, kept]).all()


def test_the_peers_rule_keeps_what_the_peer_keeps_in_a_graph_shaped_like_a_traced_one():
    graph = layered(150, layers=6, positions=8)
    kept, edge = peers_rule(graph, 0.8, 0.98)

    small = prune(graph, renormalise=True)

    assert (kept_rows(graph, small) == kept).all()
    assert len(small.source) == edge.sum()
    assert 0 < len(small.source) < len(graph.source) / 2


@given(graphs(most_inner=25, sources=("token", "error", "bias")), shares)
def test_without_renormalising_the_same_nodes_pass_the_first_cut(graph, nodes):
    honest = prune(graph, nodes=nodes, edges=1)
    peers = prune(graph, nodes=nodes, edges=1, renormalise=True)

    assert (kept_rows(graph, honest) == kept_rows(graph, peers)).all()


@given(graphs(most_inner=25), shares, shares)
def test_the_kept_carry_the_share_asked_for_before_dead_ends_go(graph, nodes, edges):
    carried = influence(graph)
    counts = graph.nodes.kind != "bias"
    small = prune(graph, nodes=nodes, edges=1)
    above = counts & (carried >= small.kept["node_threshold"])
    stricter = counts & (carried > small.kept["node_threshold"])

    assert carried[above].sum() >= nodes * carried.sum() * (1 - 1e-12)
    assert carried[stricter].sum() <= nodes * carried.sum() * (1 + 1e-12)  # and one node less would not

    part = graph.select(np.flatnonzero(above | np.isin(graph.nodes.kind, ALWAYS)))
    score = edge_influence(part)
    threshold = prune(graph, nodes=nodes, edges=edges).kept["edge_threshold"]
    rounding = 1e-9 * threshold
    assert score[score >= threshold - rounding].sum() >= edges * score.sum() * (1 - 1e-12)
    assert score[score > threshold + rounding].sum() <= edges * score.sum() * (1 + 1e-12)


@given(graphs(most_inner=25), shares, shares)
def test_nothing_is_left_hanging(graph, nodes, edges):
    small = prune(graph, nodes=nodes, edges=edges)
    kind = small.nodes.kind
    free = ~np.isin(kind, ALWAYS)
    drawn = kind[small.source] != "bias"
    outgoing = np.bincount(small.source, minlength=len(kind))
    incoming = np.bincount(small.target[drawn], minlength=len(kind))

    assert (outgoing[free] > 0).all()
    assert (incoming[kind == "feature"] > 0).all()


@given(graphs(most_inner=25), shares, shares)
def test_tokens_logits_and_biases_stay_with_the_edges_of_biases(graph, nodes, edges):
    small = prune(graph, nodes=nodes, edges=edges)

    for kind in ALWAYS:
        assert (small.nodes.kind == kind).sum() == (graph.nodes.kind == kind).sum()
    kept = np.flatnonzero(kept_rows(graph, small))
    bias = graph.nodes.kind[kept] == "bias"
    assert (small.to_dense()[:, bias] == graph.to_dense()[kept][:, kept][:, bias]).all()


@given(graphs(most_inner=25), shares, shares)
def test_what_was_carried_in_the_whole_trace_is_remembered(graph, nodes, edges):
    small = prune(graph, nodes=nodes, edges=edges)
    carried = influence(graph)
    kept = kept_rows(graph, small)

    np.testing.assert_array_equal(small.nodes.influence, carried[kept])
    np.testing.assert_array_equal(small.nodes.gross, graph.nodes.gross[kept])
    np.testing.assert_allclose(small.kept["influence"], carried[kept].sum() / carried.sum())
    score = np.zeros((len(kept), len(kept)))
    score[graph.target, graph.source] = edge_influence(graph)
    left = score[kept][:, kept][small.to_dense() != 0].sum()
    np.testing.assert_allclose(small.kept["edge_influence"], left / edge_influence(graph).sum())
    for name in ("replacement", "completeness", "completeness_inputs"):
        np.testing.assert_allclose(small.kept[f"{name}_before"], getattr(scores(graph), name), atol=1e-12)
        np.testing.assert_allclose(small.kept[f"{name}_after"], getattr(scores(small), name), atol=1e-12)


@given(graphs(most_inner=25))
def test_a_second_pruning_counts_from_the_whole_graph(graph):
    twice = prune(prune(graph, nodes=0.9), nodes=0.7)

    assert twice.kept["nodes_before"] == len(graph.nodes)
    assert twice.kept["edges_before"] == len(graph.source)
    assert twice.kept["replacement_before"] == prune(graph).kept["replacement_before"]
    known = influence(graph)
    np.testing.assert_allclose(twice.kept["influence"], known[kept_rows(graph, twice)].sum() / known.sum())
    assert (twice.nodes.influence == known[kept_rows(graph, twice)]).all()
    once = prune(graph, nodes=0.9)
    alone = prune(replace(once, kept={}), nodes=0.7)
    assert twice.kept["edge_influence"] == pytest.approx(once.kept["edge_influence"] * alone.kept["edge_influence"])


def test_the_peers_rule_leaves_untraced_features_out_from_the_start():
    #   token 0 --1--> logit 2 <--9-- untraced 1
    graph = graph_of([(0, 2, 1), (1, 2, 9)], "token unselected logit")

    assert prune(graph, nodes=1, edges=1).nodes.kind.tolist() == ["token", "unselected", "logit"]
    peers = prune(graph, nodes=1, edges=1, renormalise=True)
    assert peers.nodes.kind.tolist() == ["token", "logit"]
    assert peers.kept["influence"] == pytest.approx(0.1)  # of all that arrived


def test_a_feature_that_is_explained_stays_though_it_feeds_nothing():
    #   token 0 --> features 1 and 2 --> feature 3, the goal
    graph = graph_of([(0, 1, 1), (0, 2, 3), (1, 3, 0.1), (2, 3, 1)], "token feature feature feature", goal=[0, 0, 0, 1])
    assert prune(graph, nodes=0.5).nodes.feature.tolist()[-1] == 3


def test_a_share_of_one_keeps_all_that_leads_somewhere():
    #   token 0 --1--> feature 1 --1e-30--> logit 3;  token 0 --1--> feature 2, which leads nowhere
    graph = graph_of([(0, 1, 1), (0, 2, 1), (0, 3, 1), (1, 3, 1e-30)], "token feature feature logit")

    assert prune(graph, nodes=1, edges=1).nodes.feature.tolist() == [0, 1, 3]


def test_a_feature_that_only_a_bias_feeds_is_a_dead_end():
    #   bias 1 --5--> feature 2 --1--> logit 3 <--1-- token 0
    graph = graph_of([(1, 2, 5), (2, 3, 1), (0, 3, 1)], "token bias feature logit")

    assert prune(graph, nodes=1, edges=1).nodes.kind.tolist() == ["token", "bias", "logit"]


def test_at_most_so_many_nodes_stay_and_they_are_the_strongest():
    graph = layered(150, layers=6, positions=8)
    carried = influence(graph)
    free = ~np.isin(graph.nodes.kind, ALWAYS)

    small = prune(graph, nodes=0.95, edges=1, most_nodes=20)

    expected = np.flatnonzero(free)[np.argsort(-carried[free])[:20]]
    assert set(graph.nodes.feature[expected]) == set(small.nodes.feature[~np.isin(small.nodes.kind, ALWAYS)])
    assert small.kept["node_threshold"] == carried[expected].min()


@pytest.mark.parametrize("wrong", [{"nodes": 0}, {"edges": 1.5}, {"nodes": float("nan")}, {"most_nodes": -1}])
def test_a_share_that_is_none_is_refused(wrong):
    with pytest.raises(BadOption, match=next(iter(wrong))):
        prune(graph_of([(0, 1, 1.0)], "token logit"), **wrong)


def test_notes_go_with_the_features_they_are_on():
    #   token 0 --9--> feature 1 --9--> logit 3;  token 0 --.1--> feature 2 --.1--> logit 3
    notes = {unit: {"label": unit, "density": 0.5} for unit in ("0/1", "0/2", "7/7")}
    graph = graph_of(
        [(0, 1, 9), (0, 2, 0.1), (1, 3, 9), (2, 3, 0.1)], "token feature feature logit",
        provenance={"model": "toy", "feature_notes": notes},
    )  # fmt: skip
    graph = replace(graph, nodes=graph.nodes.with_columns(layer=np.array([-1, 0, 0, 1])))

    small = prune(graph, nodes=0.8, edges=0.98)

    assert [graph.nodes.unit(row) for row in (1, 2)] == ["0/1", "0/2"] and len(small.nodes) == 3
    assert small.provenance == {"model": "toy", "feature_notes": {"0/1": notes["0/1"]}}
    assert graph.select([0, 2, 3]).provenance["feature_notes"] == {"0/2": notes["0/2"]}
    assert graph.provenance["feature_notes"] == notes  # of the whole nothing is lost
    assert prune(replace(graph, provenance={"feature_notes": "none"})).provenance == {"feature_notes": "none"}
