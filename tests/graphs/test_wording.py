"""A graph in words."""

from __future__ import annotations

from graphs import prune, scores, strongest_paths
from graphs.wording import kept_in_words, logits_in_words, name_node, path_in_words, scores_in_words, table_in_words
from tests.worlds import graph_of

#   token 0 --1--> feature 1 --(-3)--> logit 3 <--1-- error 2;  goal: logit 3, and a little logit 4, fed by the token
GRAPH = graph_of(
    [(0, 1, 1), (1, 3, -3), (2, 3, 1), (0, 4, 1)], "token feature error logit logit", goal=[0, 0, 0, 0.8, 0.2]
)


def test_a_node_is_called_by_its_label_and_place():
    assert [name_node(GRAPH, row) for row in (0, 1, 3)] == ["token 0", "feature 1 L1 @dallas", "logit 3"]
    nameless = GRAPH.nodes.with_columns(label=GRAPH.nodes.label * 0)
    assert name_node(type(GRAPH)(**{**vars(GRAPH), "nodes": nameless}), 1) == "feature 1 L1 @dallas"


def test_a_path_is_told_with_its_signs():
    first, second = strongest_paths(GRAPH)

    assert path_in_words(GRAPH, first) == "60.0%  token 0 (+1.00)> feature 1 L1 @dallas (-0.75)> logit 3"
    assert path_in_words(GRAPH, second) == "20.0%  token 0 (+1.00)> logit 4"


def test_the_likeliest_target_comes_first():
    probable = GRAPH.nodes.with_columns(activation=GRAPH.goal)
    graph = type(GRAPH)(**{**vars(GRAPH), "nodes": probable})

    assert logits_in_words(graph) == [" 80.0%  logit 3", " 20.0%  logit 4"]


def test_what_was_kept_is_told_against_what_was_there():
    assert kept_in_words(GRAPH) == "whole graph: 5 nodes, 4 edges"
    assert kept_in_words(prune(GRAPH, nodes=0.7)).startswith("kept 4 of 5 nodes and 3 of 4 edges, carrying 88%")


def test_a_score_is_never_given_unpruned_alone():
    small = prune(GRAPH, nodes=0.7)
    first, second = scores_in_words(scores(small).to_json(), small.kept)

    assert first.startswith("replacement 0.80 (0.80 after pruning); completeness ")
    assert "error 0%, unselected 0%, pruned 20%" in second
    assert scores_in_words(scores(GRAPH).to_json(), {})[0].startswith("replacement 0.80; completeness")
    assert "undefined" in scores_in_words({**scores(GRAPH).to_json(), "path_length": None}, {})[1]


def test_a_table_lines_up():
    assert table_in_words([("a", "bb"), ("ccc", "d")]) == ["a    bb", "ccc  d"]
