"""Groups as hypotheses: what is registered, each figure by another route, and what a group of idle units is told."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from circuits import assay, attribute, intervene
from circuits.assaying import assaying, thresholds
from circuits.assaying.bench import Bench
from circuits.assaying.group_verdicts import judge_groups
from circuits.assaying.groups import draw_groups, fewest_controls, leave_untested, predict_group
from circuits.assaying.groups import test_groups as try_groups
from circuits.assaying.single import predict_ablations
from circuits.errors import BadOption
from circuits.interventions import change_node
from graphs.assays import Arrow, Assay, Group
from graphs.errors import BadOption as BadGroup
from graphs.errors import ForeignFolder
from tests.circuits.test_assay_levels import PROMPT, bench_of, graph_of
from tests.circuits.test_assay_targets import unit_of
from tests.circuits.worlds import dictionary_of, model_of

KINDS = [("llama", "per-layer"), ("gemma2", "cross-layer"), ("gpt_neox", "neurons"), ("gpt2", "skip")]


def grouped(family: str, kind: str) -> Bench:
    """A bench with the two halves of a graph's units as groups, the earlier ones and the later ones."""
    bench = bench_of(family, kind)
    rows = bench.graph.nodes.where("feature", "neuron").tolist()
    half = len(rows) // 2
    return replace(bench, groups={"early": rows[:half], "late": rows[half:]})


# -- what the graph says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "kind"), KINDS)
def test_of_a_group_of_one_the_graph_says_what_it_says_of_that_node(family: str, kind: str):
    bench = bench_of(family, kind)
    rows, metric = bench.graph.nodes.where("feature", "neuron"), bench.metric
    alone = predict_ablations(bench.transcoders, bench.run, bench.graph, metric, rows)

    for row, wanted in zip(rows, alone, strict=True):
        _, changes = predict_group(bench, np.array([row]))
        found = metric.worth[metric.rows] @ (changes[metric.rows] / bench.graph.nodes.value[metric.rows])
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_what_one_member_does_through_another_counts_once():
    bench = grouped("llama", "per-layer")
    nodes, graph = bench.graph.nodes, bench.graph
    members = np.array([row for rows in bench.groups.values() for row in rows])

    _, changes = predict_group(bench, members)

    # All of the graph's units at once: nothing is left that could pass a change on, so edges to the answer say it all.
    (target,) = bench.metric.rows
    into = np.isin(graph.source, members) & (graph.target == target)
    assert changes[target] == pytest.approx(-graph.weight[into].sum())
    joined = np.isin(graph.source, members) & np.isin(graph.target, members)
    assert joined.any() and nodes.value[target] != 0


# -- what is measured -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "kind"), KINDS)
def test_the_joint_ablation_is_one_intervention_on_all_members(family: str, kind: str):
    bench = grouped(family, kind)
    nodes = bench.graph.nodes

    early, late = try_groups(bench)

    layers = nodes.layer[early.node]
    held = {"mlps": "live"}
    if kind == "cross-layer":
        held = {"window": range(layers.min(), min(layers.max() + 3, bench.model.layers))}
    changes = [change_node(nodes, row, 0.0) for row in early.node]
    for attention, found, kl in (
        ("live", early.measured, early.kl),
        ("frozen", early.measured_frozen, early.kl_frozen),
    ):
        read = intervene(bench.model, bench.transcoders, bench.run, [changes], attention=attention, **held)
        assert found == pytest.approx(float(bench.metric.explained(read)[0]) - bench.metric.clean, rel=1e-6, abs=1e-9)
        assert kl == pytest.approx(float(bench.metric.moved(read)[0]), rel=1e-6, abs=1e-9)
    alone = intervene(bench.model, bench.transcoders, bench.run, [[each] for each in changes], **held)
    assert early.singles == pytest.approx((bench.metric.explained(alone) - bench.metric.clean).tolist(), abs=1e-9)
    assert late.node == bench.groups["late"] and not late.untested


def test_an_arrow_is_the_change_of_the_other_groups_value():
    bench = grouped("gpt_neox", "neurons")
    nodes, model, late = bench.graph.nodes, bench.model, bench.groups["late"]

    (arrow,) = try_groups(bench)[0].arrows

    changes = [change_node(nodes, row, 0.0) for row in bench.groups["early"]]
    moved = size = 0.0
    for row in late:
        layer, position, unit = (int(column[row]) for column in (nodes.layer, nodes.position, nodes.feature))
        here = bench.transcoders.at(layer)
        read = intervene(model, bench.transcoders, bench.run, [changes], mlps="live", read=(here.reads, layer))[
            0, position
        ]
        vector, constant = bench.transcoders.reading(layer, read[None], bench.run.unit.new_tensor([unit]))
        clean = float(nodes.value[row])
        moved += math.copysign(1, clean) * (float(vector[0] @ read + constant[0]) - clean)
        size += abs(clean)
    assert arrow.to == "late" and arrow.measured == pytest.approx(moved / size, rel=1e-4)
    assert len(arrow.random) == len(try_groups(bench)[0].random)


def test_random_groups_are_different_of_the_same_layers_and_hold_no_member():
    bench = grouped("gpt_neox", "neurons")
    members = {tuple(place) for rows in bench.groups.values() for place in bench.places(np.array(rows)).tolist()}

    for rows in bench.groups.values():
        found, _ = draw_groups(bench, np.array(rows), 40)
        layers = sorted(bench.graph.nodes.layer[rows].tolist())
        assert len({frozenset(map(tuple, each.tolist())) for each in found}) == len(found) == 40
        assert all(sorted(each[:, 0].tolist()) == layers for each in found)
        assert not any(tuple(unit) in members for each in found for unit in each.tolist())


def test_a_lone_unit_is_not_held_against_its_only_like_again_and_again():
    bench = bench_of("gpt_neox", "neurons")
    row = int(bench.graph.nodes.where("neuron")[0])

    found, alike = draw_groups(replace(bench, groups={"one": [row]}), np.array([row]), 20)

    assert len({tuple(each[0].tolist()) for each in found}) == len(found) == 20
    assert alike != "layer, position and activation"  # of 24 neurons, five to a fifth


def test_what_reads_within_the_held_layers_is_untested():
    bench = bench_of("gemma2", "cross-layer")
    nodes = bench.graph.nodes
    pairs = zip(bench.graph.source.tolist(), bench.graph.target.tolist(), strict=True)
    source, target = next(pair for pair in pairs if {*nodes.kind[list(pair)]} == {"feature"})
    bench = replace(bench, groups={"one": [source], "other": [target]})

    (arrow,) = try_groups(bench)[0].arrows

    assert "within the layers that the ablation holds" in arrow.untested and math.isnan(arrow.measured)


# -- what is said -----------------------------------------------------------------------------------------------------


def group(name: str = "texas", **parts) -> Group:
    """One that moves a target of 10 by half of it, as predicted, and no random group does."""
    random = parts.get("random", [0.1] * 100)
    figures = {
        "predicted": -5.0, "measured": -5.0, "kl": 1.0, "measured_frozen": -5.0, "kl_frozen": 1.0, "left": 0.5,
        "singles": [-5.0], "random": random, "random_kl": random, "alike": "layer", "p": 0.01, "unmatched": "",
        "arrows": [],
    }  # fmt: skip
    return Group(name, [1], **{**figures, **parts})


def arrow(**parts) -> Arrow:
    figures = {"direct": -0.5, "predicted": -0.5, "measured": -0.5, "measured_frozen": -0.5, "p": 0.01}
    return Arrow(**{"to": "austin", "random": [0.0] * 100, **figures, **parts})


def said(*groups: Group) -> list[str]:
    return [each.verdict for each in judge_groups(groups, 10.0)]


def test_a_group_matters_that_moves_the_answer_further_than_random_ones():
    assert said(group()) == ["supported", "supported"]
    assert said(group(p=0.2))[0] == "not supported"
    assert said(group(measured=-0.4))[0] == "not supported"  # less than 5 % of the target, whatever p is
    assert said(group(p=math.nan, unmatched="too few others are active"))[0] == "untested"


def test_a_prediction_stands_within_half_and_one_and_a_half_of_what_was_said():
    assert said(group(measured=-7.4))[1] == "supported"
    assert said(group(measured=-2.4))[1] == said(group(measured=5.0))[1] == "not supported"
    assert said(group(predicted=0.0))[1] == "not supported"
    assert said(group(predicted=-0.1, measured=0.1))[1] == "untested"


def test_an_arrow_stands_that_goes_the_way_predicted():
    assert said(group(arrows=[arrow()]))[2] == "supported"
    assert said(group(arrows=[arrow(measured=0.5)]))[2] == "not supported"
    assert said(group(arrows=[arrow(measured=-0.01)]))[2] == "not supported"
    assert said(group(arrows=[arrow(p=0.5)]))[2] == "not supported"
    assert said(group(arrows=[arrow(predicted=-0.06, measured=-0.04)]))[2] == "supported"  # more than half of it
    assert said(group(arrows=[arrow(predicted=-0.06, measured=-0.02)]))[2] == "not supported"
    assert said(group(arrows=[arrow(predicted=-0.01)]))[2] == "untested"


def test_many_groups_are_judged_together():
    many = [group(str(number), p=0.02) for number in range(3)]

    assert said(many[0])[0] == "supported"
    assert said(*many)[::2] == ["not supported"] * 3
    few = [group(str(number), random=[0.0] * 20, p=1 / 21) for number in range(3)]
    assert said(*few)[::2] == ["untested"] * 3
    assert fewest_controls(3, 2) == 60 and 1 / 61 <= thresholds.SIGNIFICANT / 3


# -- what is registered -----------------------------------------------------------------------------------------------


def test_without_groups_a_registration_says_nothing_of_them_and_with_them_has_another_hash():
    model = model_of("llama")
    dictionary, graph = dictionary_of(model, "per-layer"), graph_of("llama", "per-layer")
    rows = graph.nodes.where("feature")
    options = {"experiments": ["subsets", "groups"], "controls": 4}

    plain = assay(model, dictionary, graph, **options)
    named = assay(model, dictionary, graph, groups={"one": [int(rows[0])]}, **options)
    other = assay(model, dictionary, graph, groups={"one": [int(rows[1])]}, **options)

    assert "groups" not in plain.registration and "groups" not in plain.registration["experiments"]
    assert not plain.groups and not any("group" in each.claim for each in plain.verdicts)
    assert len({each.registration["hash"] for each in (plain, named, other)}) == 3
    layer, position, unit = (int(getattr(graph.nodes, name)[rows[0]]) for name in ("layer", "position", "feature"))
    assert named.registration["groups"]["members"] == {"one": [[layer, position, unit]]}
    assert {**named.registration, "experiments": ["subsets"], "hash": ""} == {
        **plain.registration,
        "groups": named.registration["groups"],
        "hash": "",
    }
    assert Assay.from_json(named.to_json()).groups == named.groups


def test_a_group_that_cannot_be_ablated_is_untested_and_says_why():
    model = model_of("llama")
    dictionary, graph = dictionary_of(model, "per-layer"), graph_of("llama", "per-layer")
    groups = {"words": graph.nodes.where("token")[:1].tolist(), "one": graph.nodes.where("feature")[:1].tolist()}

    found = assay(model, dictionary, graph, experiments=["groups"], groups=groups)

    words, one = found.groups
    assert "of kind token" in words.untested and not one.untested
    verdicts = {each.claim: each for each in found.verdicts}
    assert verdicts["the graph predicts what ablating group words does"].verdict == "untested"


def test_groups_that_there_was_no_time_for_are_told_by_name(monkeypatch: pytest.MonkeyPatch):
    model = model_of("llama")
    dictionary, graph = dictionary_of(model, "per-layer"), graph_of("llama", "per-layer")
    rows = graph.nodes.where("feature")[:1].tolist()

    found = assay(model, dictionary, graph, experiments=["groups"], groups={"texas": rows}, budget=1e-9)

    assert "groups" in found.skipped and found.groups[0].node == rows
    (verdict,) = [each for each in found.verdicts if each.claim.startswith("group texas matters")]
    assert verdict.verdict == "untested" and "budget" in verdict.control


def test_a_feature_that_is_explained_is_no_member_that_can_be_ablated():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    explained = attribute(model, dictionary, PROMPT, [unit_of(attribute(model, dictionary, PROMPT), 2, 3)])
    rows = np.flatnonzero(explained.goal).tolist()

    found = assay(model, dictionary, explained, experiments=["groups"], groups={"it": rows})

    assert "which is what the graph explains" in found.groups[0].untested


@pytest.mark.parametrize(
    ("groups", "error", "says"),
    [
        ({}, BadOption, "no groups to test"),
        ({"texas": []}, BadOption, "'texas' has no nodes"),
        ({" ": [0]}, BadOption, "wants a name"),
        ({"texas": ["L9/9@9"]}, BadGroup, "no node 'L9/9@9'"),
        ({"texas": [10**6]}, BadGroup, "found 1000000"),
    ],
)
def test_groups_that_are_none_are_refused(groups, error, says):
    model = model_of("llama")
    with pytest.raises(error, match=says):
        assay(model, dictionary_of(model, "per-layer"), graph_of("llama", "per-layer"), groups=groups)


def test_a_node_in_two_groups_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch):
    model = model_of("llama")
    graph = graph_of("llama", "per-layer")
    row = int(graph.nodes.where("feature")[0])
    monkeypatch.setattr(assaying, "trace", lambda *_: pytest.fail("it ran"))

    with pytest.raises(BadGroup, match="is in two groups, 'one' and 'two'"):
        assay(model, dictionary_of(model, "per-layer"), graph, groups={"one": [row], "two": [row]})


def test_a_record_whose_lists_do_not_fit_is_refused():
    model = model_of("llama")
    graph = graph_of("llama", "per-layer")
    rows = graph.nodes.where("feature")[:1].tolist()
    found = assay(model, dictionary_of(model, "per-layer"), graph, experiments=["groups"], groups={"one": rows})
    record = found.to_json()
    record["groups"][0]["random"].append(0.0)

    with pytest.raises(ForeignFolder, match=r"groups\[0\] should have a figure of each random group"):
        Assay.from_json(record)


def test_one_left_untested_has_no_figure():
    found = leave_untested("texas", [3, 4], "it is so")

    assert found.node == [3, 4] and math.isnan(found.measured) and found.untested == "it is so"
