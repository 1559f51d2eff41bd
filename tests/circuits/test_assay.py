"""The assay on worlds where the right verdict is known, and its pieces against plainer arithmetic."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from circuits import assay, attribute, trace
from circuits.ablation import ablate_sets
from circuits.assaying import thresholds
from circuits.assaying.metric import choose_metric
from circuits.assaying.registration import register
from circuits.assaying.set_verdicts import judge_subset
from circuits.assaying.sets import draw_controls
from circuits.assaying.single import summarise
from circuits.assaying.verdicts import judge, judge_singles
from circuits.errors import BadOption, WrongGraph
from circuits.sampling import mean_activations, sample_prompts
from graphs.assays import Ablation, Assay, Subset
from graphs.flow import flow
from graphs.folders import content_of
from graphs.graph import AttributionGraph
from graphs.pruning import prune
from graphs.store import Store
from tests.circuits.worlds import dictionary_of, model_of

PROMPT = "a red fox runs"


@pytest.mark.parametrize("kind", ["neurons", "per-layer", "cross-layer"])
def test_keeping_every_active_unit_leaves_the_answer_and_keeping_none_does_not(kind: str):
    model = model_of("gpt2")
    dictionary = dictionary_of(model, kind)
    run = trace(model, dictionary, PROMPT)
    everything = torch.stack([run.layer, run.position, run.unit], dim=1)

    whole, none = torch.cat(list(ablate_sets(model, dictionary, run, [everything, everything[:0]], keep=True)))

    torch.testing.assert_close(whole, run.logits, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(none[-1], run.logits[-1], atol=1e-2)


def test_keeping_a_set_is_ablating_the_rest():
    model = model_of("gpt2")
    neurons = dictionary_of(model, "neurons")
    run = trace(model, neurons, PROMPT)
    everything = torch.stack([run.layer, run.position, run.unit], dim=1)
    fill = mean_activations(model, neurons, sample_prompts(model, 1, count=4, length=5, seed=0))

    kept = next(ablate_sets(model, neurons, run, [everything[::2]], keep=True, fill=fill))
    ablated = next(ablate_sets(model, neurons, run, [everything[1::2]], keep=False, fill=fill))

    torch.testing.assert_close(kept, ablated, rtol=1e-9, atol=1e-9)


def test_contributions_of_all_sources_add_up_to_the_logit():
    model = model_of("llama")
    graph = attribute(model, dictionary_of(model, "cross-layer"), PROMPT, ["red"])

    contribution = flow(graph)

    sources = graph.nodes.where("token", "error", "bias")
    np.testing.assert_allclose(contribution[sources].sum(), graph.nodes.value[-1], rtol=1e-9)


def test_a_whole_graph_of_neurons_is_enough_and_needed(monkeypatch: pytest.MonkeyPatch):
    """With every neuron in the graph nothing is left out, so everything survives, and without them all is lost."""
    monkeypatch.setattr(thresholds, "SMALLEST", 1e-6)  # a random model's answers differ by little
    model = model_of("gpt2")
    neurons = dictionary_of(model, "neurons")
    graph = attribute(model, neurons, PROMPT)

    result = assay(model, neurons, graph, controls=3)

    for subset in result.subsets:
        assert subset.faithfulness == pytest.approx(1, abs=1e-6)
        assert subset.complement == pytest.approx(0, abs=1e-6)
    assert result.verdicts[0].verdict == "supported"


def test_controls_that_are_the_graph_itself_test_nothing():
    model = model_of("gpt2")
    neurons = dictionary_of(model, "neurons")

    result = assay(model, neurons, attribute(model, neurons, PROMPT))

    assert {each.verdict for each in result.verdicts if "features are" in each.claim} == {"untested"}
    with pytest.raises(BadOption, match="seed"):
        assay(model, neurons, attribute(model, neurons, PROMPT), seed=-1)


def test_an_assay_survives_being_stored_and_is_the_same_for_the_same_seed():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    graph = prune(attribute(model, dictionary, PROMPT), nodes=0.6)

    first, second = (assay(model, dictionary, graph, controls=4, seed=3) for _ in range(2))

    same = replace(second, seconds=first.seconds)
    assert json.dumps(first.to_json()) == json.dumps(same.to_json())
    again = Assay.from_json(json.loads(json.dumps(first.to_json())))
    assert json.dumps(again.to_json()) == json.dumps(first.to_json())


def test_a_graph_of_other_weights_is_refused():
    dictionary = dictionary_of(model_of("llama"), "per-layer")
    graph = attribute(model_of("llama"), dictionary, PROMPT)

    with pytest.raises(WrongGraph, match="load the same weights"):
        assay(model_of("gpt2"), dictionary_of(model_of("gpt2"), "per-layer"), graph)


def test_controls_have_the_shape_of_the_graph_and_none_of_its_units_while_others_are_left():
    numbers = np.random.default_rng(0)
    active = np.array([(layer, p, u) for layer in range(3) for p in range(4) for u in range(10)])
    ours = active[numbers.choice(len(active), 20, replace=False)]

    for control in draw_controls(active, np.ones(len(active)), ours, 5, seed=1):
        assert len({tuple(unit) for unit in control.tolist()}) == len(ours)
        assert not {tuple(unit) for unit in control.tolist()} & {tuple(unit) for unit in ours.tolist()}
        for column in (0, 1):
            np.testing.assert_array_equal(np.sort(control[:, column]), np.sort(ours[:, column]))


def test_controls_are_as_active_as_the_graphs_units_where_such_are_left():
    """Ten at each place, their activations 1 to 10: the graph has the strongest two of each, or one of each fifth."""
    active = np.array([(layer, p, u) for layer in range(2) for p in range(3) for u in range(10)])
    activation = np.where(active[:, 2] % 2, -1.0, 1.0) * (1 + active[:, 2])  # by size, whatever the sign
    strongest, spread = active[active[:, 2] == 9], active[np.isin(active[:, 2], (0, 2, 4, 6, 8))]

    for control in draw_controls(active, activation, strongest, 10, seed=0):
        assert (control[:, 2] == 8).all()  # the other one of the highest fifth, at the same place
        assert {tuple(place) for place in control[:, :2].tolist()} == {(a, p) for a in range(2) for p in range(3)}
    for control in draw_controls(active, activation, spread, 10, seed=0):
        assert sorted(control[:, 2].tolist()) == sorted([1, 3, 5, 7, 9] * 6)


def test_where_too_few_others_are_active_controls_keep_their_size_and_layer():
    active = np.array([(0, 1, 0), (0, 1, 1), (0, 2, 0), (1, 1, 0)])
    ours = np.array([(0, 1, 0), (0, 1, 1), (1, 1, 0)])

    (control,) = draw_controls(active, np.ones(4), ours, 1, seed=0)

    assert sorted(control[:, 0]) == [0, 0, 1]


def test_verdicts_follow_the_bars_and_no_number_means_untested():
    nan = float("nan")
    figures = {
        name + mode: nan
        for name in ("spearman_kl", "p_spearman_kl", "slope", "sign_agreement")
        for mode in ("", "_frozen")
    } | {"sizeable": 0}
    good = Subset("mean", 0.95, 0.05, [0.1] * 20, [0.9] * 20, 1 / 21, 1 / 21)
    poor = Subset("zero", 0.95, 0.5, [0.97] * 20, [0.9] * 20, 1.0, 1 / 21)

    verdicts = [
        each.verdict
        for each in judge(("ablations", "subsets"), 1e-7, {"ablations": [], "subsets": [good, poor]}, figures, {})
    ]

    assert verdicts[1:] == ["supported", *["untested"] * 4, "supported", "supported", "not supported", "not supported"]


def test_nothing_undefined_is_printed_and_every_untested_claim_says_why():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    whole = attribute(model, dictionary, PROMPT, ["red", "fox"])
    nodes = whole.nodes
    bare = whole.select(np.flatnonzero(nodes.kind != "feature"))
    few = whole.select(np.sort([*nodes.where("token", "logit"), *nodes.where("feature")[:3]]))

    for graph, why in ((bare, "no features"), (few, "3 ablated one by one, 8 are wanted")):
        result = assay(model, dictionary, graph, controls=20)
        untested = [each for each in result.verdicts if each.verdict == "untested"]
        assert any(why in each.control for each in untested)
        assert all(each.control.startswith("untested: ") for each in untested)
        assert not any("nan" in f"{each.threshold} {each.control}" for each in result.verdicts)
        assert not any(np.isnan(each.number) for each in result.verdicts if each.verdict != "untested")


@pytest.mark.parametrize(
    ("influence", "kl", "why"),
    [
        ([0.1] * 9, list(range(9)), "all have the same influence"),
        (list(range(9)), [0.0] * 9, "no ablation changed the output"),
        (list(range(9)), [0.5] * 9, "every ablation changed the output alike"),
        (list(range(9)), [*range(8), float("nan")], "an ablation gave no finite output"),
    ],
)
def test_where_there_is_no_order_the_reason_is_named(influence: list[float], kl: list[float], why: str):
    ablations = [
        Ablation(node, float(i), 1.0, 1.0, float(k), 1.0, float(k))
        for node, (i, k) in enumerate(zip(influence, kl, strict=True))
    ]

    ranks, _ = judge_singles(ablations, summarise(ablations, 1.0, 0), "", "attention live")

    assert (ranks.verdict, ranks.control) == ("untested", f"untested: {why}")


def test_both_halves_of_a_bar_are_in_its_words():
    good = Subset("mean", 0.95, 0.05, [0.1] * 20, [0.9] * 20, 1 / 21, 1 / 21)

    assert all("p ≤ 0.05" in each.threshold and "%" in each.threshold for each in judge_subset(good))


def test_of_several_targets_the_assay_says_that_it_tests_one():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")

    three = assay(model, dictionary, attribute(model, dictionary, PROMPT, ["red", "fox", "dog"]), controls=1, top=1)
    one = assay(model, dictionary, attribute(model, dictionary, PROMPT, ["red"]), controls=1, top=1)

    assert "logit of 'red'" in three.registration["metric"]
    assert "the foremost of 3 targets; the others are not tested" in three.registration["metric"]
    assert "targets" not in one.registration["metric"]


def test_two_prunings_have_two_registrations_and_the_same_plan_has_one():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    whole = attribute(model, dictionary, PROMPT)
    metric = choose_metric(model, dictionary, whole, trace(model, dictionary, PROMPT))

    def hash_of(graph: AttributionGraph, **options: Any) -> str:
        rows = graph.nodes.where("feature")[:2]
        return register(
            model, dictionary, graph, metric, rows, **{"controls": 4, "seed": 0, "experiments": ()} | options
        )["hash"]

    features = whole.nodes.where("feature")
    others = np.setdiff1d(
        np.arange(len(whole.nodes)), features[-1:]
    )  # the same rows 0 … n ablated, one feature less kept
    fewer_edges = whole.select(np.arange(len(whole.nodes)), np.arange(len(whole.source)) > 0)

    assert len({hash_of(whole), hash_of(whole.select(others)), hash_of(fewer_edges)}) == 3
    assert hash_of(whole) != hash_of(whole, seed=1) != hash_of(whole, controls=5)
    again = attribute(model, dictionary, PROMPT)
    assert hash_of(again) == hash_of(whole)


@pytest.mark.parametrize("name", ["SHUFFLES", "FEWEST", "LONGEST", "FAITHFUL"])
def test_every_bar_is_registered(name: str, monkeypatch: pytest.MonkeyPatch):
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    graph = attribute(model, dictionary, PROMPT)
    metric = choose_metric(model, dictionary, graph, trace(model, dictionary, PROMPT))
    rows = graph.nodes.where("feature")[:2]

    before = register(model, dictionary, graph, metric, rows, experiments=(), controls=4, seed=0)["hash"]
    monkeypatch.setattr(thresholds, name, getattr(thresholds, name) * 2)

    assert register(model, dictionary, graph, metric, rows, experiments=(), controls=4, seed=0)["hash"] != before


def test_what_is_ablated_is_registered_by_layer_position_and_unit_and_so_is_the_precision():
    plans = []
    for dtype in ("float32", "float64"):
        model = model_of("llama", dtype)
        dictionary = dictionary_of(model, "per-layer")
        result = assay(model, dictionary, attribute(model, dictionary, PROMPT), top=2, controls=1)
        nodes = attribute(model, dictionary, PROMPT).nodes
        ablated = [each.node for each in result.ablations]
        places = [[int(nodes.layer[r]), int(nodes.position[r]), int(nodes.feature[r])] for r in ablated]
        assert result.registration["single"]["units"] == places
        plans.append(result.registration)

    assert [plan["dtype"] for plan in plans] == ["float32", "float64"]


def test_a_stored_graph_has_the_same_hash_in_another_process(tmp_path: Path):
    graph = attribute(model_of("llama"), dictionary_of(model_of("llama"), "per-layer"), PROMPT)
    store = Store(tmp_path)
    id = store.save(graph)
    asked = (
        "import sys; from pathlib import Path; from graphs.store import Store, content_of; "
        "print(content_of(Store('.').load(Path(sys.argv[1]))))"
    )

    said = [
        subprocess.run(
            [sys.executable, "-c", asked, str(store.find(id))],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]

    assert said == [content_of(graph)] * 2


def test_an_answer_that_any_other_token_overtakes_is_lost():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, "a red fox runs")
    metric = choose_metric(model, dictionary, attribute(model, dictionary, "a red fox runs"), run)
    ordered = run.logits[-1].argsort(descending=True)
    overtaken = run.logits.clone()
    overtaken[-1, ordered[-1]] = run.logits[-1, ordered[0]] + 3

    assert metric.clean_kept == pytest.approx(float(run.logits[-1, ordered[0]] - run.logits[-1, ordered[1]]))
    assert float(metric.kept(overtaken)) == pytest.approx(-3)
