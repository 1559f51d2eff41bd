"""Groups: nothing is lost or made by grouping, circles are refused, and like goes with like."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies

from graphs.errors import BadOption, ForeignFolder
from graphs.grouping import group, read_groups
from graphs.naming import find_nodes
from graphs.paths import edge_influence, influence, is_bias
from graphs.pruning import prune
from graphs.scores import scores
from graphs.suggesting import suggest_groups
from tests.worlds import graph_of, graphs, layered


def twins():
    #   dallas 0 --2--> texas 1 --1--> austin 4, dallas 0 --2--> texas 2 --1--> austin 4
    #   dallas 0 --1--> not 3 --(-1)--> austin 4;  bias 5? none
    graph = graph_of(
        [(0, 1, 2), (0, 2, 2), (0, 3, 1), (1, 4, 1), (2, 4, 1), (3, 4, -1)], "token feature feature feature logit"
    )
    label = np.array(["dallas", "texas", "texas", "not", "austin"], dtype=object)
    shares = np.array([3, 1, 1, 1, 0]) / 3
    nodes = graph.nodes.with_columns(layer=np.array([-1, 0, 0, 0, 1]), label=label, influence=shares)
    return replace(graph, nodes=nodes)


def test_units_that_do_the_same_are_suggested_as_one_group_and_those_that_do_the_opposite_are_not():
    assert suggest_groups(twins()) == {"texas": [1, 2]}
    assert suggest_groups(twins(), distance=1.0) == {"texas": [1, 2]}

    merged = group(twins())

    assert merged.nodes.kind.tolist() == ["token", "supernode", "feature", "logit"]
    assert merged.nodes.label.tolist() == ["dallas", "texas", "not", "austin"]
    assert merged.to_dense()[3].tolist() == [0.0, 2.0, -1.0, 0.0]
    assert merged.to_dense()[1, 0] == 2.0
    (texas,) = merged.provenance["groups"]
    assert (texas["nodes"], texas["names"], texas["layers"]) == ([1, 2], ["L0/1@0", "L0/2@0"], [0, 0])
    assert np.allclose(merged.nodes.influence, [1, 2 / 3, 1 / 3, 0])


@strategies.composite
def grouped(draw, positive=False):
    """A graph and groups of neighbours in reading order, of one sort each: those never feed each other in a circle."""
    graph = draw(graphs())
    if positive:
        graph = replace(graph, weight=np.abs(graph.weight))
        value = np.bincount(graph.target, graph.weight, minlength=len(graph.nodes))
        graph = replace(
            graph, nodes=graph.nodes.with_columns(value=np.where(np.isnan(graph.nodes.value), np.nan, value))
        )
    cuts = draw(strategies.lists(strategies.booleans(), min_size=len(graph.nodes), max_size=len(graph.nodes)))
    groups, last = [], None
    for row, kind in enumerate(graph.nodes.kind.tolist()):
        if cuts[row] or kind != last:
            groups.append([])
        groups[-1].append(row)
        last = kind
    return graph, {f"group {i}": rows for i, rows in enumerate(groups)}


@given(grouped(positive=True))
def test_where_nothing_cancels_the_same_shares_end_in_the_same_places(world):
    graph, groups = world

    merged = group(graph, groups)

    before, after = scores(graph), scores(merged)
    for name in ("replacement", "error", "unselected", "pruned"):
        assert np.isclose(getattr(before, name), getattr(after, name), equal_nan=True), name
    # And so does every edge: what its edges carried, it carries.
    place = np.empty(len(graph.nodes), dtype=int)
    label = merged.nodes.label.tolist()
    for name, rows in groups.items():
        place[rows] = label.index(name)
    carries = np.zeros((len(label), len(label)))
    np.add.at(carries, (place[graph.target], place[graph.source]), edge_influence(graph))
    np.fill_diagonal(carries, 0)
    found = np.zeros_like(carries)
    found[merged.target, merged.source] = edge_influence(merged)
    assert np.allclose(found, carries)
    assert np.isclose(merged.kept["influence"], 1.0)


@given(grouped())
def test_inputs_sum_to_the_value_and_grouping_never_makes_a_graph_look_better(world):
    graph, groups = world

    merged = group(graph, groups)

    inputs = np.bincount(merged.target, merged.weight, minlength=len(merged.nodes))
    inner = ~np.isnan(merged.nodes.value)
    scale = np.maximum(1.0, np.abs(np.nan_to_num(merged.nodes.value)) + merged.nodes.gross)
    assert np.allclose((inputs / scale)[inner], (merged.nodes.value / scale)[inner])
    arrives = np.bincount(merged.target, np.abs(merged.weight) * ~is_bias(merged)[merged.source], len(merged.nodes))
    assert (arrives <= merged.nodes.gross * (1 + 1e-9) + 1e-12).all()
    assert not scores(merged).replacement > scores(graph).replacement + 1e-9
    assert merged.kept["influence"] <= 1 and merged.kept["grouped"]["nodes"] == len(graph.nodes)
    assert np.isclose(merged.goal.sum(), graph.goal.sum())


@given(graphs())
def test_no_groups_leave_a_graph_as_it_is(graph):
    same = group(graph, {})

    assert np.allclose(same.to_dense(), graph.to_dense())
    assert same.nodes.label.tolist() == graph.nodes.label.tolist()
    assert np.allclose(same.nodes.gross, graph.nodes.gross)


@given(graphs())
def test_suggested_groups_never_feed_each_other_in_a_circle_and_join_no_opposites(graph):
    wide, near = suggest_groups(graph, distance=1.0), suggest_groups(graph, distance=0.1)

    group(graph, wide)  # would refuse a circle
    inner = lambda found: sum(len(rows) - 1 for name, rows in found.items() if name not in ("errors", "biases"))  # noqa: E731
    assert inner(near) <= inner(wide)


def test_a_grouped_graph_can_be_pruned_sifted_and_grouped_again():
    graph = prune(layered(80, layers=5, positions=4), nodes=0.9)
    once = group(graph, distance=0.6)
    units = once.nodes.where("supernode", "feature")[-2:].tolist()
    twice = group(once, {"last": units})

    assert len(prune(once, nodes=0.5).nodes) < len(once.nodes) < len(graph.nodes)
    assert len(twice.nodes) == len(once.nodes) - 1
    (row,) = np.flatnonzero(twice.nodes.label == "last")
    found = twice.provenance["groups"][twice.nodes.feature[row]]
    before = [
        once.provenance["groups"][once.nodes.feature[u]]["nodes"] if once.nodes.kind[u] == "supernode" else [u]
        for u in units
    ]
    assert found["nodes"] == [node for nodes in before for node in nodes]
    # Supernodes of a part still find their members.
    part = once.select(np.flatnonzero(once.nodes.kind != "token"))
    for row in part.nodes.where("supernode"):
        assert part.provenance["groups"][part.nodes.feature[row]]["label"] == part.nodes.label[row]
    assert influence(twice).sum() > 0


def chain():
    #   token 0 -> feature 1 -> feature 2 -> feature 3 -> logit 4
    return graph_of([(0, 1, 1), (1, 2, 1), (2, 3, 1), (3, 4, 1)], "token feature feature feature logit")


def test_groups_that_make_no_sense_are_refused_with_what_is_wrong():
    with pytest.raises(BadOption, match=r"group 'ends' feeds itself in a circle.*: L\S+ \(feature 2\)\. Put them into"):
        group(chain(), {"ends": [1, 3]})
    crossed = graph_of(
        [(0, 1, 1), (0, 2, 1), (1, 4, 1), (2, 3, 1), (3, 5, 1), (4, 5, 1)], "token" + 4 * " feature" + " logit"
    )
    with pytest.raises(BadOption, match=r"groups feed each other in a circle \(one, two\)"):
        group(crossed, {"one": [1, 3], "two": [2, 4]})
    with pytest.raises(BadOption, match=r"node 1, L\S+ \(feature 1\), is in two groups, 'a' and 'b'"):
        group(chain(), {"a": [1], "b": [1, 2]})
    with pytest.raises(BadOption, match="holds token and unit"):
        group(chain(), {"a": [0, 1]})
    with pytest.raises(BadOption, match=r"nodes 0\.\.4, found 7"):
        group(chain(), {"a": [7]})
    with pytest.raises(BadOption, match="no node 'L9/9'"):
        group(chain(), {"a": ["L9/9"]})
    with pytest.raises(BadOption, match="0 to 1"):
        suggest_groups(chain(), distance=2)


def test_nodes_are_found_by_unit_with_or_without_position_and_by_label():
    graph = chain()
    graph = replace(
        graph,
        nodes=graph.nodes.with_columns(
            position=np.array([0, 0, 1, 0, 1]), layer=np.array([-1, 0, 0, 1, 2]), feature=np.array([5, 7, 7, 8, 9])
        ),
        tokens=("a", "b"),
        token_ids=(1, 2),
    )

    assert find_nodes(graph, ["L0/7"]) == [1, 2]
    assert find_nodes(graph, ["L0/7@1"]) == [2]
    assert find_nodes(graph, ["feature 3", 1]) == [1, 3]


def test_groups_are_read_from_both_shapes_of_json(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"texas": ["L1/5@3", 4], "say": [7]}))
    (tmp_path / "b.json").write_text(json.dumps([["texas", "L1/5@3", 4], ["say", 7]]))

    assert read_groups(tmp_path / "a.json") == read_groups(tmp_path / "b.json") == {"texas": ["L1/5@3", 4], "say": [7]}


@pytest.mark.parametrize("text", ["", "3", '{"a": 3}', '[["a", true]]', "[[1, 2]]", '[["a"], ["a"]]', "[" * 100_000])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)

    with pytest.raises(ForeignFolder, match=r"x\.json"):
        read_groups(tmp_path / "x.json")
