"""The deeper levels of the assay on small worlds: doses, errors, curves, minimality, controls; budget and resuming."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from circuits import assay, attribute, intervene, trace
from circuits.ablation import ablate_sets
from circuits.assaying import assaying, thresholds
from circuits.assaying.bench import Bench
from circuits.assaying.controls import ShuffledDecoders
from circuits.assaying.controls import test_controls as try_controls
from circuits.assaying.curves import test_curves as try_curves
from circuits.assaying.ladder import EXPERIMENTS, QUICK
from circuits.assaying.metric import choose_metric
from circuits.assaying.minimality import test_minimality as try_minimality
from circuits.assaying.single import summarise_doses
from circuits.assaying.single import test_doses as try_doses
from circuits.assaying.single import test_singly as try_singly
from circuits.assaying.survival import Survival
from circuits.changes import ERROR, Intervention
from circuits.clean_outputs import missed
from circuits.errors import BadIntervention, BadOption
from graphs.assays import STAGES, Ablation, Assay
from graphs.graph import AttributionGraph
from graphs.pruning import prune
from tests.circuits.worlds import dictionary_of, model_of

PROMPT = "a red fox runs"


def graph_of(family: str, kind: str) -> AttributionGraph:
    model = model_of(family)
    return prune(attribute(model, dictionary_of(model, kind), PROMPT, ["red"]), nodes=0.7)


def bench_of(family: str, kind: str, graph: AttributionGraph | None = None) -> Bench:
    model = model_of(family)
    dictionary = dictionary_of(model, kind)
    graph = graph_of(family, kind) if graph is None else graph
    run = trace(model, dictionary, graph.token_ids)
    rows = graph.nodes.where("feature", "neuron", "error")
    return Bench(
        model, dictionary, run, graph, choose_metric(model, dictionary, graph, run), rows, 20, 0, lambda *_: None
    )


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["per-layer", "skip", "cross-layer"])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_what_is_missed_is_the_error_of_the_trace(family: str, kind: str):
    model = model_of(family)
    run = trace(model, dictionary_of(model, kind), PROMPT)
    everywhere = torch.arange(len(run.tokens))

    for layer in range(model.layers):
        found = missed(dictionary_of(model, kind), run, layer)
        there = run.frozen.written(found, layer, everywhere, "mlp_output")
        torch.testing.assert_close(there, run.errors[layer], rtol=1e-6, atol=1e-6)


def test_an_error_ablated_in_the_last_layer_is_that_mlp_without_it():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    last, at = model.layers - 1, 3

    ablated = intervene(model, dictionary, run, [[Intervention(last, at, ERROR)]])

    without = run.written[last].clone()
    without[at] -= run.errors[last, at]
    logits, _ = model.run(run.tokens[None], edit={("mlp_output", last): lambda _: without[None]})
    torch.testing.assert_close(ablated, logits, rtol=1e-9, atol=1e-9)


def test_where_there_is_no_error_none_can_be_ablated():
    model = model_of("llama")
    for kind, position in (("neurons", 1), ("per-layer", 0)):
        with pytest.raises(BadIntervention, match="no error there"):
            intervene(model, dictionary_of(model, kind), PROMPT, [[Intervention(0, position, ERROR)]])


def test_with_errors_ablated_too_each_mlp_is_its_dictionary():
    model = model_of("gemma2")
    for kind in ("per-layer", "skip", "cross-layer"):
        dictionary = dictionary_of(model, kind)
        run = trace(model, dictionary, PROMPT)
        everything = torch.stack([run.layer, run.position, run.unit], dim=1)

        whole = torch.cat(list(ablate_sets(model, dictionary, run, [everything[:0]], keep=False, errors=False)))

        acts, edits, inputs = [], {}, []

        def read(x, dictionary=dictionary, acts=acts, inputs=inputs):
            acts.append(dictionary.activations(len(acts), x) * (torch.arange(x.shape[1]) >= 1)[:, None])
            inputs.append(x)
            return x

        def write(live, layer, dictionary=dictionary, acts=acts, inputs=inputs):
            out = sum(
                dictionary.decode(source, acts[source], layer)
                for source in range(layer + 1)
                if layer in dictionary.written_layers(source)
            )
            out = out + dictionary.bias(layer)
            if dictionary.skip(layer) is not None:
                out = out + inputs[layer] @ dictionary.skip(layer).T
            return torch.cat([live[:, :1], out[:, 1:]], dim=1)

        for layer in range(model.layers):
            edits[(dictionary.reads, layer)] = read
            edits[(dictionary.writes, layer)] = lambda live, layer=layer, write=write: write(live, layer)
        plain, _ = model.run(run.tokens[None], edit=edits)
        torch.testing.assert_close(whole, plain, rtol=1e-9, atol=1e-9)


# -- doses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["per-layer", "cross-layer"])
def test_each_dose_is_that_factor_and_the_prediction_goes_with_it(kind: str):
    bench = bench_of("llama", kind)

    single, doses = try_singly(bench), try_doses(bench)

    assert {each.dose for each in doses} == set(thresholds.DOSES)
    predicted = {each.node: each.predicted for each in single}
    assert "error" in set(bench.graph.nodes.kind[[each.node for each in single]])
    for each in doses:
        assert each.predicted == pytest.approx(each.dose * predicted[each.node])
    half = next(each for each in doses if each.dose == 0.5)
    nodes = bench.graph.nodes
    place = [int(column[half.node]) for column in (nodes.layer, nodes.position, nodes.feature)]
    logits = intervene(bench.model, bench.transcoders, bench.run, [[Intervention(*place, 0.5)]])[0]
    assert half.measured == pytest.approx(float(bench.metric.explained(logits)) - bench.metric.clean)


def test_an_effect_that_turns_round_is_not_monotone():
    def at(node: int, dose: float, measured: float) -> Ablation:
        return Ablation(node, 0.1, -dose, measured, 0.1, 2 * measured, 0.1, dose)

    single = [at(0, 1.0, -1.0), at(1, 1.0, 1.0), at(2, 1.0, -1e-9)]
    doses = [at(0, 0.5, -0.4), at(0, 2.0, -1.5), at(1, 0.5, 0.5), at(1, 2.0, 0.2), at(2, 0.5, 1e-9), at(2, 2.0, 0.0)]

    found = summarise_doses(single, doses, 2.0)

    assert (found["answering"], found["monotone"]) == (2, 0.5)
    assert found["slope_at_2"] == pytest.approx((3.0 - 0.4) / 12)
    assert found["slope_frozen_at_2"] == pytest.approx(2 * found["slope_at_2"])
    assert found["sign_agreement_at_2"] == pytest.approx(1 / 3)


# -- the whole graph --------------------------------------------------------------------------------------------------


@pytest.fixture
def small_worlds_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model's answers differ by little, and twenty controls take time: here two are as many as are wanted."""
    monkeypatch.setattr(thresholds, "SMALLEST", 1e-6)
    monkeypatch.setattr(thresholds, "PROMPTS", 4)
    monkeypatch.setattr(thresholds, "POINTS", 4)
    monkeypatch.setattr(thresholds, "CURVES", 4)
    monkeypatch.setattr(thresholds, "OTHERS", 2)
    monkeypatch.setattr(thresholds, "SIGNIFICANT", 0.4)


def test_a_curve_begins_with_nothing_and_ends_with_all_of_it(small_worlds_count: None):
    bench = bench_of("llama", "per-layer")

    curves = try_curves(bench)

    assert [(each.ablation, each.errors) for each in curves] == [
        (ablation, errors) for errors in ("kept", "ablated") for ablation in ("zero", "mean", "resample")
    ]
    for curve in curves:
        assert curve.kept[0] == 0 and curve.kept[-2] == len(bench.units) and curve.kept[-1] == len(bench.run.layer)
        assert curve.faithfulness[0] == pytest.approx(0, abs=1e-9)
        if curve.errors == "kept":
            assert curve.complement[0] == pytest.approx(1, abs=1e-6)
        share = np.array(curve.kept[:-1]) / curve.kept[-2]
        heights = np.array(curve.faithfulness[:-1])
        assert curve.area == pytest.approx(float((np.diff(share) * (heights[1:] + heights[:-1]) / 2).sum()))
        if (curve.ablation, curve.errors) == ("zero", "kept"):  # all active units and the errors are the whole model
            assert curve.faithfulness[-1] == pytest.approx(1, abs=1e-6)


def test_neurons_have_no_errors_to_ablate(small_worlds_count: None):
    assert {each.errors for each in try_curves(bench_of("gpt2", "neurons"))} == {"kept"}


def test_what_a_unit_adds_is_what_survives_with_it_less_what_survives_without(small_worlds_count: None):
    bench = bench_of("llama", "per-layer")

    (found,) = try_minimality(bench)

    ours = bench.places(bench.units)
    survival = Survival(bench, "mean")
    whole, smaller = survival.kept([ours, ours[1:]])
    assert found.node == bench.units.tolist()
    assert found.lost[0] == pytest.approx(whole - smaller)
    assert len(found.reference) == min(thresholds.REFERENCES, len(bench.active) - len(ours))


def test_shuffled_decoders_say_what_other_units_say():
    model = model_of("llama")
    inner = dictionary_of(model, "cross-layer")
    shuffled = ShuffledDecoders(inner, 0)
    acts = torch.rand(3, inner.units, dtype=torch.float64)

    units = torch.arange(inner.units)
    written = shuffled.writing(0, units, 1)

    assert not torch.allclose(written, inner.writing(0, units, 1))
    torch.testing.assert_close(written.sum(0), inner.writing(0, units, 1).sum(0))
    torch.testing.assert_close(shuffled.decode(0, acts, 1), acts @ written)
    torch.testing.assert_close(shuffled.activations(0, model.W_U.T), inner.activations(0, model.W_U.T))


def test_a_shuffled_model_has_the_same_numbers_and_says_something_else():
    model = model_of("gpt2")

    shuffled = model.shuffled(0)

    tokens = model.tokenize(PROMPT)[None]
    assert not torch.allclose(shuffled.run(tokens)[0], model.run(tokens)[0], atol=1e-3)
    torch.testing.assert_close(shuffled.W_U.flatten().sort().values, model.W_U.flatten().sort().values)
    torch.testing.assert_close(model.shuffled(0).run(tokens)[0], shuffled.run(tokens)[0])


@pytest.mark.parametrize("kind", ["per-layer", "neurons"])
def test_controls_give_as_many_units_and_a_p_value(kind: str, small_worlds_count: None):
    controls = try_controls(bench_of("llama", kind))

    assert len(controls) == 3
    for each in controls:
        assert each.untested or each.p == pytest.approx(
            (1 + sum(x >= each.ours for x in each.null)) / (1 + len(each.null))
        )
        assert not each.untested or math.isnan(each.p)


# -- all of it --------------------------------------------------------------------------------------------------------


def test_a_deep_assay_runs_everything_and_survives_being_stored(small_worlds_count: None):
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    graph = graph_of("llama", "per-layer")

    groups = {"one": graph.nodes.where("feature")[:1].tolist()}

    result = assay(model, dictionary, graph, deep=True, controls=4, paraphrases=["dog runs a red"], groups=groups)

    assert set(result.registration["experiments"]) == set(EXPERIMENTS) == set(STAGES) - {"trace"}
    assert all(getattr(result, name) for name in EXPERIMENTS) and not result.skipped
    assert not any("nan" in f"{each.threshold} {each.control}" for each in result.verdicts)
    assert next(each for each in result.verdicts if "each edge" in each.claim).verdict == "supported"
    again = Assay.from_json(json.loads(json.dumps(result.to_json())))
    assert json.dumps(again.to_json()) == json.dumps(result.to_json())


def test_what_the_budget_leaves_out_is_named_as_untested(small_worlds_count: None):
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    graph = graph_of("llama", "per-layer")

    result = assay(model, dictionary, graph, deep=True, controls=4, budget=1e-9)

    assert "curves" in result.skipped and "controls" in result.skipped
    late = [
        each for each in result.verdicts if "bring the answer back" in each.claim or "should do worse" in each.claim
    ]
    assert late and all(each.verdict == "untested" and "budget" in each.control for each in late)
    assert result.verdicts[1].verdict == "supported"  # costs nothing
    with pytest.raises(BadOption, match="budget"):
        assay(model, dictionary, graph, budget=0)


def test_an_interrupted_assay_goes_on_where_it_stopped(
    small_worlds_count: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    graph = graph_of("llama", "per-layer")
    kept = tmp_path / "unfinished.json"
    plain = assay(model, dictionary, graph, seed=3)
    ran: list[str] = []

    def interrupted(name: str, stop: str | None) -> object:
        inner = EXPERIMENTS[name]

        def run(bench: Bench) -> list:
            if name == stop:
                raise KeyboardInterrupt
            ran.append(name)
            return inner.run(bench)

        return replace(inner, run=run)

    with monkeypatch.context() as patch:
        patch.setattr(assaying, "EXPERIMENTS", {name: interrupted(name, "subsets") for name in EXPERIMENTS})
        with pytest.raises(KeyboardInterrupt):
            assay(model, dictionary, graph, seed=3, unfinished=kept)
    assert ran == ["ablations"] and kept.exists()

    ran.clear()
    monkeypatch.setattr(assaying, "EXPERIMENTS", {name: interrupted(name, None) for name in EXPERIMENTS})
    result = assay(model, dictionary, graph, seed=3, unfinished=kept)
    assert ran == ["subsets"]
    assert json.dumps(replace(result, seconds={}).to_json()) == json.dumps(replace(plain, seconds={}).to_json())

    ran.clear()
    assay(model, dictionary, graph, seed=4, unfinished=kept)  # another plan: nothing of the old one is taken
    assert ran == list(QUICK)
    ran.clear()
    kept.write_text('{"damaged"')
    assay(model, dictionary, graph, seed=4, unfinished=kept)
    assert ran == list(QUICK)
