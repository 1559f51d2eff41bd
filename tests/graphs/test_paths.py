"""Influence and strongest paths, against the power series and against listing every path."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given

from graphs import edge_influence, influence, strongest_paths
from graphs.paths import mean_length
from tests.worlds import graph_of, graphs


def shares_of(graph, biases=False):
    """|A| over its row sums as a dense matrix: circuit-tracer's way, on a whole graph."""
    size = np.abs(graph.to_dense())
    if not biases:
        size[:, graph.nodes.kind == "bias"] = 0
    sums = size.sum(1, keepdims=True)
    return size / np.where(sums == 0, 1, sums)


def power_series(shares, goal):
    total, step = np.zeros(len(goal)), goal
    for _ in range(len(goal)):
        step = step @ shares
        total = total + step
    return total


def every_path(graph):
    """(carries, nodes) of each path from a token to the goal, by listing them one by one."""
    shares = shares_of(graph)
    found = []

    def extend(path, carries):
        if graph.nodes.kind[path[0]] == "token":
            found.append((carries / graph.goal.sum(), tuple(path)))
        for source in np.flatnonzero(shares[path[0]]):
            extend([int(source), *path], carries * shares[path[0], source])

    for logit in np.flatnonzero(graph.goal):
        extend([int(logit)], graph.goal[logit])
    return sorted(found, reverse=True)


def test_a_token_carries_what_both_its_paths_carry():
    #   token 0 --2--> left 1 ---3--> logit 3
    #         \--2--> right 2 --(-1)--/
    diamond = graph_of([(0, 1, 2), (0, 2, 2), (1, 3, 3), (2, 3, -1)], "token feature feature logit")

    token, left, right, logit = influence(diamond)

    assert (left, right) == (0.75, 0.25)
    assert token == left + right
    assert logit == 0.0
    assert edge_influence(diamond).tolist() == [0.75, 0.25, 0.75, 0.25]


def test_a_bias_carries_nothing_unless_it_is_counted():
    #   token 0 --1--> logit 2 <--3-- bias 1
    biased = graph_of([(0, 2, 1), (1, 2, 3)], "token bias logit")

    assert influence(biased).tolist() == [1, 0, 0]
    assert influence(biased, biases=True).tolist() == [0.25, 0.75, 0]
    assert edge_influence(biased).tolist() == [1, 0]


def test_what_was_cut_away_still_takes_its_share():
    #   token 0 --1--> logit 2 <--1-- feature 1 <--1-- token 0
    whole = graph_of([(0, 1, 1), (0, 2, 1), (1, 2, 1)], "token feature logit")

    assert influence(whole)[0] == 1
    assert influence(whole.select([0, 2]))[0] == 0.5


@given(graphs())
def test_one_sweep_is_the_whole_power_series(graph):
    for biases in (False, True):
        expected = power_series(shares_of(graph, biases), graph.goal)
        np.testing.assert_allclose(influence(graph, biases=biases), expected, rtol=1e-12, atol=1e-15)


@given(graphs())
def test_all_of_the_goal_ends_somewhere(graph):
    carried = influence(graph)
    ends = graph.nodes.where("token", "error", "unselected")

    np.testing.assert_allclose(carried[ends].sum(), graph.goal.sum(), rtol=1e-12)


@given(graphs())
def test_the_inputs_of_a_node_carry_what_flows_on_from_it(graph):
    carried = influence(graph)
    into = np.bincount(graph.target, edge_influence(graph), minlength=len(graph.nodes))
    inner = graph.nodes.gross > 0

    np.testing.assert_allclose(into[inner], (carried + graph.goal)[inner], rtol=1e-12, atol=1e-15)


@given(graphs(most_inner=7))
def test_the_strongest_paths_are_the_strongest_of_all_there_are(graph):
    expected = every_path(graph)

    for count in (1, 3, 500):
        found = strongest_paths(graph, count)
        assert len(found) == min(count, len(expected))
        np.testing.assert_allclose([path.influence for path in found], [c for c, _ in expected[:count]], rtol=1e-9)
    assert {path.nodes for path in found} == {nodes for _, nodes in expected}


@given(graphs(most_inner=7))
def test_a_path_says_its_weights_and_shares(graph):
    for path in strongest_paths(graph, 3):
        weights = [graph.to_dense()[target, source] for source, target in itertools.pairwise(path.nodes)]
        assert list(path.weights) == weights
        np.testing.assert_allclose(path.shares, np.array(weights) / graph.nodes.gross[list(path.nodes[1:])])
        carried = np.abs(path.shares).prod() * graph.goal[path.nodes[-1]] / graph.goal.sum()
        np.testing.assert_allclose(path.influence, carried)


@given(graphs(most_inner=7))
def test_the_mean_length_weighs_each_path_by_what_it_carries(graph):
    carries, lengths = zip(*((c, len(nodes) - 1) for c, nodes in every_path(graph)), strict=True)

    np.testing.assert_allclose(mean_length(graph), np.average(lengths, weights=carries), rtol=1e-9)


def test_no_paths_are_found_where_there_are_none():
    assert strongest_paths(graph_of([(1, 2, 1.0)], "token error logit")) == ()
    assert strongest_paths(graph_of([(0, 1, 1.0)], "token logit"), count=0) == ()
