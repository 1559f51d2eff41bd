"""Scores, against circuit-tracer's definitions on dense matrices, also for what pruning took away."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, strategies

from graphs import influence, prune, scores
from graphs.paths import is_bias
from tests.worlds import graph_of, graphs

ERRORS = ("error", "unselected")


def peers_scores(matrix, kind, goal):
    """Replacement and completeness of METHODS 5.1 on a [target, source] matrix, and that over rows with inputs."""
    normalised = np.abs(matrix) / np.maximum(np.abs(matrix).sum(1, keepdims=True), 1e-10)
    total, step = np.zeros(len(goal)), goal
    while step.any():
        step = step @ normalised
        total = total + step
    token, error = total[kind == "token"].sum(), total[np.isin(kind, ERRORS)].sum()
    explained, out = 1 - normalised[:, np.isin(kind, ERRORS)].sum(1), total + goal
    inputs = np.abs(matrix).sum(1) > 0
    return (
        token / (token + error),
        (explained * out).sum() / out.sum(),
        (explained * out)[inputs].sum() / out[inputs].sum(),
    )


def without_biases(graph):
    rows = np.flatnonzero(~is_bias(graph))
    return graph.to_dense()[rows][:, rows], graph.nodes.kind[rows], graph.goal[rows]


@given(graphs())
def test_a_whole_graph_scores_as_the_peer_scores_it(graph):
    found = scores(graph)

    expected = peers_scores(*without_biases(graph))
    np.testing.assert_allclose((found.replacement, found.completeness, found.completeness_inputs), expected, atol=1e-12)
    assert found.pruned == 0


@given(graphs(most_inner=20), strategies.floats(0.3, 0.95))
def test_what_was_pruned_counts_as_an_error_of_its_own(graph, share):
    small = prune(graph, nodes=share, edges=0.9)
    whole, kind, goal = without_biases(graph)
    kept = np.isin(graph.nodes.feature, small.nodes.feature)[~is_bias(graph)]
    part, _, _ = without_biases(small)

    # The whole graph again, in which every input that was cut comes from one more node, an error.
    cut = np.abs(whole[kept]).sum(1) - np.abs(part).sum(1)
    matrix = np.zeros((len(part) + 1, len(part) + 1))
    matrix[:-1, :-1], matrix[:-1, -1] = part, cut
    expected = peers_scores(matrix, np.append(kind[kept], "error"), np.append(goal[kept], 0.0))

    found = scores(small)
    np.testing.assert_allclose((found.replacement, found.completeness, found.completeness_inputs), expected, atol=1e-9)


@given(graphs(most_inner=20), strategies.floats(0.3, 1.0))
def test_the_ends_of_all_influence_sum_to_one(graph, share):
    found = scores(prune(graph, nodes=share))

    np.testing.assert_allclose(found.replacement + found.error + found.unselected + found.pruned, 1)


@given(graphs())
def test_the_bias_share_is_what_ends_in_biases_when_they_count(graph):
    with_biases = influence(graph, biases=True)

    np.testing.assert_allclose(scores(graph).bias, with_biases[is_bias(graph)].sum() / graph.goal.sum(), atol=1e-12)


def test_a_known_graph_has_known_scores():
    #   token 0 --3--> feature 2 <--1-- error 1;  feature 2 --1--> logit 4 <--1-- error 1;  bias 3 --2--> logit 4
    graph = graph_of([(0, 2, 3), (1, 2, 1), (2, 4, 1), (1, 4, -1), (3, 4, 2)], "token error feature bias logit")

    found = scores(graph)

    assert found.replacement == 0.375  # half of the goal, three quarters of it
    assert found.completeness_inputs == 1 - (0.5 * 0.25 + 1 * 0.5) / 1.5
    assert found.error == 0.625
    assert found.bias == 0.5
    assert found.path_length == 2


def test_a_goal_that_nothing_reaches_has_no_scores():
    lonely = scores(graph_of([], "token logit"))

    assert math.isnan(lonely.replacement) and math.isnan(lonely.path_length)
