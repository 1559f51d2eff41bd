"""A graph in words."""

from __future__ import annotations

import numpy as np

from graphs import prune, scores, strongest_paths
from graphs.assays import Assay, Verdict
from graphs.wording import (
    assay_in_words,
    expansion_in_words,
    kept_in_words,
    logits_in_words,
    name_node,
    path_in_words,
    paths_in_words,
    scores_in_words,
    table_in_words,
    visible,
)
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


def test_what_would_not_show_is_quoted():
    assert [visible(text) for text in ("austin", " austin", "\n", "", "a b", "caf\u00e9", "\x00")] == [
        *("austin", "' austin'", "'\\n'", "''", "a b", "caf\u00e9", "'\\x00'")
    ]


def test_a_token_that_comes_twice_is_told_with_its_position_and_one_of_space_is_quoted():
    parts = {**vars(GRAPH), "token_ids": (7, 8, 7, 9), "tokens": (" the", "\n", " the", " end")}
    nodes = GRAPH.nodes.with_columns(position=np.array([2, 1, 3, 0, 0], dtype=np.int32))
    label = np.array([" the", "", "", "\n", " end"], dtype=object)
    graph = type(GRAPH)(**{**parts, "nodes": nodes.with_columns(label=label)})

    names = ["the[2]", "feature 1 L1 @'\\n'", "error 2 L2 @end", "'\\n'", "end"]
    assert [name_node(graph, row) for row in range(5)] == names


def test_paths_are_counted_in_good_grammar():
    first, second = strongest_paths(GRAPH)
    assert paths_in_words(GRAPH, [first, second])[0] == "the 2 strongest paths from a token to the answer carry 80%:"
    assert paths_in_words(GRAPH, [second])[0] == "the strongest path from a token to the answer carries 20%:"
    assert paths_in_words(GRAPH, []) == ["no path leads from a token to the answer"]


def test_a_contrast_is_a_difference_of_logits_and_no_probability():
    graph = type(GRAPH)(**{**vars(GRAPH), "provenance": {"against": [5, -1]}})

    first, second = logits_in_words(graph)
    assert first == "logit 3: -2.00 logits"
    assert second == " 50.0%  logit 4"


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


def test_a_target_that_is_no_token_is_told_with_its_value():
    graph = graph_of([(0, 1, 2.5)], "token feature", goal=[0.0, 1.0])
    assert logits_in_words(graph) == ["feature 1 L1 @dallas: +2.50"]


def test_what_was_not_expanded_is_bounded_in_words():
    said = {"order": "layers", "min_influence": 0.02, "left": 0.063, "largest_left": 0.0123}
    graph = graph_of([(0, 1, 1.0)], "token logit", provenance={"traced": 1184, "expansion": said})
    assert expansion_in_words(graph) == [
        "expanded 1,184 features; of the others none carries more than 1.23% of the goal, all together 6.3%"
    ]
    assert expansion_in_words(graph_of([(0, 1, 1.0)], "token logit")) == []


def test_of_an_expansion_that_left_nothing_nothing_is_said():
    said = {"order": "layers", "min_influence": 1e-6, "left": 0.0, "largest_left": 0.0}
    graph = graph_of([(0, 1, 1.0)], "token logit", provenance={"traced": 1184, "expansion": said})
    assert expansion_in_words(graph) == []


def test_an_assay_fits_a_terminal_and_says_first_what_was_measured():
    verdicts = [
        Verdict("what goes in comes out", "supported", 0.5, "at most 1", "a law"),
        Verdict("it is needed", "not supported", 0.42, "≤ 20% survives", "chance: 98%"),
        Verdict("it does better", "supported", 1.07, "more survives than of theirs, p ≤ 0.05", "20 of them: best 23%"),
        Verdict("it is enough", "untested", float("nan"), "at least 1", "untested: no time"),
    ]
    registration = {"metric": "explained: logit of 'austin'", "hash": "f00"}
    assay = Assay(registration, 0.0, [], {}, [], verdicts, seconds={"trace": 1.0, "edges": 2.5})

    assert assay_in_words(assay) == [
        "explained: logit of 'austin'",
        "supported      what goes in comes out",
        "               0.5 (wanted: at most 1); a law",
        "not supported  it is needed",
        "               42% (wanted: ≤ 20% survives); chance: 98%",
        "supported      it does better",
        "               107% (wanted: more survives than of theirs, p ≤ 0.05); 20 of them: best 23%",
        "untested       it is enough",
        "               no time",
        "2 supported, 1 not supported, 1 untested, on this prompt; registered as f00, 3.5 s",
    ]
