"""Two graphs held beside each other: what is the same in both, by hand, by plain loops, and as the page says it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from graphs import align, compare, group, influence, prune
from graphs.errors import BadOption
from graphs.export.page import contents, to_html
from tests.browser import CHROMIUM
from tests.graphs.export.test_page_driven import drive
from tests.worlds import graph_of, graphs


def question(prompt, units, answer="austin", last_first=False, **provenance):
    """A prompt with a feature of layer 0 for each (number, places before the last token, influence, weight).

    token --1--> each feature at it --weight--> answer. Tokens carry a tenth each.
    """
    tokens = tuple(prompt.split())
    units = units[::-1] if last_first else units
    kinds = ["token"] * len(tokens) + ["feature"] * len(units) + ["logit"]
    at = [len(tokens) - 1 - back for _, back, _, _ in units]
    rows = range(len(tokens), len(tokens) + len(units))
    edges = [(place, row, 1.0) for place, row in zip(at, rows, strict=True)]
    edges += [(row, len(kinds) - 1, unit[3]) for row, unit in zip(rows, units, strict=True)]
    ids = tuple(sum(map(ord, word)) for word in (*tokens, answer))
    graph = graph_of(edges, kinds, token_ids=ids[:-1], tokens=tokens, provenance={"model": "toy", **provenance})
    nodes = graph.nodes.with_columns(
        position=np.array([*range(len(tokens)), *at, len(tokens) - 1]),
        layer=np.array([-1] * len(tokens) + [0] * len(units) + [1]),
        feature=np.array([*ids[:-1], *(unit[0] for unit in units), ids[-1]]),
        influence=np.array([0.1] * len(tokens) + [unit[2] for unit in units] + [0.0]),
        label=np.array([*tokens, *(f"L0/{unit[0]}" for unit in units), answer], dtype=object),
    )
    return replace(graph, nodes=nodes)


def constants(token, count):
    graph = graph_of([(0, 3, 1), (1, 3, 1), (2, 3, 1)], "token unselected bias logit", tokens=(token,))
    labels = np.array([token, f"{count} untraced", f"read-out L1 @{token}", "austin"], dtype=object)
    return replace(graph, nodes=graph.nodes.with_columns(label=labels))


DALLAS = question("in dallas is", [(5, 1, 0.4, 2.0), (6, 0, 0.3, -1.0), (7, 0, 0.2, 3.0)])
OAKLAND = question("so in oakland is", [(6, 0, 0.1, -2.0), (7, 0, 0.3, 3.0), (8, 1, 0.5, 1.0)], "sacramento")


TWINS = question("in dallas is", [(5, 1, 0.4, 2.0), (5, 1, 0.3, 1.0)])  # two of one name


def labels(graph, rows):
    return graph.nodes.label[rows].tolist()


def test_the_same_graph_twice_overlaps_whole_and_nothing_is_only_in_one():
    found = compare(DALLAS, DALLAS)

    assert found.overlap == 1.0 and found.correlation == pytest.approx(1.0)
    assert (found.both[:, 0] == found.both[:, 1]).all() and len(found.both) == len(DALLAS.nodes)
    assert len(found.edges) == len(DALLAS.source) and not found.moved.any()
    assert not any(map(len, (found.only_a, found.only_b, found.edges_only_a, found.edges_only_b)))
    assert found.scores[0] == found.scores[1]


def test_graphs_without_a_common_node_overlap_not_at_all():
    found = compare(DALLAS, question("el paso", [(1, 0, 0.4, 2.0)], "sacramento"))

    assert found.overlap == 0.0 and math.isnan(found.correlation)
    assert not len(found.both) and not len(found.edges)
    assert len(found.only_a) == 7 and len(found.only_b) == 4


def test_places_count_from_the_end_and_overlap_is_the_lesser_over_the_greater():
    found = compare(DALLAS, OAKLAND)

    assert labels(DALLAS, found.both[:, 0]) == labels(OAKLAND, found.both[:, 1]) == ["in", "is", "L0/6", "L0/7"]
    assert labels(DALLAS, found.only_a) == ["dallas", "L0/5", "austin"]
    assert labels(OAKLAND, found.only_b) == ["so", "oakland", "L0/8", "sacramento"]
    # in and is .1 of .1, L0/6 .1 of .3, L0/7 .2 of .3; alone dallas .1, L0/5 .4, so and oakland .1, L0/8 .5
    assert found.overlap == pytest.approx(0.5 / (0.8 + 0.5 + 0.7))
    np.testing.assert_allclose(found.moved, [0, 0, -0.2, 0.1])
    assert len(found.edges) == 2  # is -> L0/6, is -> L0/7


def test_weights_of_shared_edges_are_correlated_over_those_alone():
    other = question("in dallas is", [(5, 1, 0.4, 1.0), (6, 0, 0.3, 4.0), (9, 0, 0.2, 9.0)])
    found = compare(DALLAS, other)

    ours, theirs = DALLAS.weight[found.edges[:, 0]], other.weight[found.edges[:, 1]]
    assert sorted(zip(ours, theirs, strict=True)) == [(-1, 4), (1, 1), (1, 1), (2, 1)]
    assert found.correlation == pytest.approx(np.corrcoef(ours, theirs)[0, 1])


def test_the_order_of_nodes_changes_nothing():
    units = [(5, 1, 0.4, 2.0), (6, 0, 0.3, -1.0), (7, 0, 0.2, 3.0)]
    turned = compare(question("in dallas is", units, last_first=True), OAKLAND)
    found = compare(DALLAS, OAKLAND)

    assert (turned.overlap, turned.correlation) == pytest.approx((found.overlap, found.correlation), nan_ok=True)
    assert turned.both[:, 1].tolist() == [1, 3, 5, 4] and found.both[:, 1].tolist() == [1, 3, 4, 5]
    assert len(turned.edges) == len(found.edges)


@given(graphs(), graphs())
def test_figures_are_those_of_plain_loops_and_turn_with_the_graphs(one, other):
    a, b = (replace(g, nodes=g.nodes.with_columns(influence=influence(g))) for g in (one, other))
    found, turned = compare(a, b), compare(b, a)

    def named(graph):  # in these worlds a row is the number, and biases are told apart by their labels, which name it
        return {
            (k, int(layer), row): row
            for row, (k, layer) in enumerate(zip(graph.nodes.kind, graph.nodes.layer, strict=True))
        }

    ours, theirs = named(a), named(b)
    pairs = {(ours[each], theirs[each]) for each in ours if each in theirs}
    assert {tuple(pair) for pair in found.both.tolist()} == pairs
    least = sum(min(a.nodes.influence[i], b.nodes.influence[j]) for i, j in pairs)
    assert found.overlap == pytest.approx(least / (a.nodes.influence.sum() + b.nodes.influence.sum() - least))
    edges = [
        (e, f)
        for e in range(len(a.source))
        for f in range(len(b.source))
        if {(a.source[e], b.source[f]), (a.target[e], b.target[f])} <= pairs
    ]
    assert sorted(map(tuple, found.edges.tolist())) == edges
    assert turned.overlap == pytest.approx(found.overlap)
    assert (turned.only_a.tolist(), turned.only_b.tolist()) == (found.only_b.tolist(), found.only_a.tolist())


def test_constants_are_the_same_at_another_token_and_what_was_not_traced_whatever_its_number():
    assert align(constants("dallas", 12), constants("oakland", 7)).tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]


def test_groups_are_the_same_by_name_not_by_their_place_in_the_list():
    units = [(5, 1, 0.4, 2.0), (6, 1, 0.3, -1.0), (7, 0, 0.2, 3.0), (8, 0, 0.2, 3.0)]
    graph = question("in dallas is", units)
    a = group(graph, {"texas": ["L0/5", "L0/6"], "is": ["L0/7", "L0/8"]})
    b = group(graph, {"else": ["L0/7", "L0/8"], "texas": ["L0/5", "L0/6"]})

    both = compare(a, b).both
    assert "texas" in labels(a, both[:, 0]) and labels(a, both[:, 0]) == labels(b, both[:, 1])
    assert "is" not in labels(a, both[a.nodes.kind[both[:, 0]] == "supernode", 0])


def test_two_nodes_of_one_name_are_two():
    graph = question("is", [(5, 0, 0.4, 2.0), (5, 0, 0.1, 1.0)])
    found = compare(graph, question("is", [(5, 0, 0.4, 2.0)]))

    assert found.both.tolist() == [[0, 0], [1, 1], [3, 2]] and found.only_a.tolist() == [2]


def test_what_pruning_takes_shows_as_a_shift_and_only_in_the_whole():
    small = prune(DALLAS, nodes=0.5, edges=1)
    found = compare(DALLAS, small)

    assert not len(found.only_b) and len(found.only_a) == len(DALLAS.nodes) - len(small.nodes) > 0
    assert found.scores[0].pruned == 0 < found.scores[1].pruned


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ({"model": "toy"}, {"model": "gpt2"}, "one of toy and one of gpt2.*add --force"),
        ({"model_hash": "aa"}, {"model_hash": "bb"}, r"toy \(aa\) and one of toy \(bb\)"),
        ({"transcoders": "plt"}, {"transcoders": "clt"}, "one set of transcoders are compared, found plt and clt"),
    ],
)
def test_numbers_of_two_models_or_sets_are_not_compared_unless_asked_for(ours, theirs, said):
    a, b = (question("is", [(5, 0, 0.4, 2.0)], **made) for made in (ours, theirs))

    with pytest.raises(BadOption, match=said):
        compare(a, b)
    assert compare(a, b, force=True).overlap == 1.0


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"model": "here/toy", "model_hash": "aa"}, {"model": "toy", "model_hash": "aa"}),
        ({"transcoders": "plt"}, {}),
        ({"model": ""}, {"model": "gpt2"}),
    ],
)
def test_one_model_under_two_names_and_what_is_not_known_is_let_through(ours, theirs):
    a, b = (question("is", [(5, 0, 0.4, 2.0)], **made) for made in (ours, theirs))

    assert compare(a, b).overlap == 1.0


def test_where_nothing_carries_influence_there_is_no_overlap():
    graph = graph_of([(0, 1, 1)], "token logit")

    assert math.isnan(compare(graph, graph).overlap)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the page was not driven")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("a", "b"),
    [(DALLAS, OAKLAND), (constants("dallas", 12), constants("oakland", 7)), (TWINS, DALLAS)],
    ids=["units", "constants", "twins"],
)
def test_the_page_says_the_same(a, b, tmp_path):
    found = drive(
        to_html(a),
        tmp_path,
        f"""
        const found = compare(readOther({json.dumps(json.dumps(contents(b)))}));
        return {{...found, both: found.both.map((pair) => [pair.row, pair.other])}};
        """,
    )

    ours = compare(a, b)
    assert found["both"] == ours.both.tolist()
    assert found["here"] == ours.only_a.tolist() and sorted(found["there"]) == ours.only_b.tolist()
    assert (found["overlap"] or 0) == pytest.approx(np.nan_to_num(ours.overlap), abs=1e-6)
    shared, here, there = (len(each) for each in (ours.edges, ours.edges_only_a, ours.edges_only_b))
    assert found["edges"] == {"both": shared, "here": shared + here, "there": shared + there}
