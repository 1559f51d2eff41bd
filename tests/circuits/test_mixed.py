"""Dictionaries that share a model's layers: each layer as the one in charge of it has it, and the laws over all."""

from pathlib import Path

import numpy as np
import pytest
import torch

from circuits import assay, attribute, intervene, load_transcoders, trace
from circuits.changes import ERROR, Intervention
from circuits.errors import BadIntervention, BadOption, BadTarget, UnfitTranscoders
from circuits.steering import read_setting, steer
from circuits.targets import Error
from circuits.transcoders.fit import check_fit
from circuits.transcoders.mixed import Mixed, Part
from circuits.transcoders.naming import SetName, read_name, split_names
from circuits.transcoders.neurons import Neurons
from circuits.transcoders.transcoders import Transcoders
from graphs.pruning import prune
from graphs.store import Store
from tests.circuits.test_autoencoders import write_set
from tests.circuits.test_direct import check_against_autograd, check_sums
from tests.circuits.worlds import dictionary_of, mixed_of, model_of

PROMPT = "a red fox runs"


@pytest.mark.parametrize("family", ["gemma2", "gpt2", "phi", "gpt_neox"])
def test_skips_of_some_layers_pass_what_others_write(family: str):
    model = model_of(family)
    mixed = mixed_of(model, "skip")
    check_against_autograd(model, mixed)
    check_sums(attribute(model, mixed, PROMPT), "float64")


def test_a_layer_is_what_the_dictionary_in_charge_of_it_makes_of_it():
    """Into the first layers the edges are those of the whole set; no later one reaches them."""
    model = model_of("llama")
    whole = dictionary_of(model, "per-layer")
    assert isinstance(whole, Transcoders)
    neurons = Neurons(model)
    mixed = Mixed([Part(whole.only([0, 1]), [0, 1]), Part(neurons, range(3))])

    graph, alone = attribute(model, mixed, PROMPT), attribute(model, whole, PROMPT)

    low = [each.nodes.where("feature")[each.nodes.layer[each.nodes.where("feature")] < 2] for each in (graph, alone)]
    tokens = [each.nodes.where("token") for each in (graph, alone)]
    ours, theirs = (
        each.to_dense()[np.ix_(rows, np.concatenate([at, rows]))]
        for each, rows, at in zip((graph, alone), low, tokens, strict=True)
    )
    assert len(low[0])
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9 * np.abs(theirs).max())
    kinds = {(int(layer), kind) for layer, kind in zip(graph.nodes.layer, graph.nodes.kind, strict=True)}
    assert {kind for layer, kind in kinds if layer == 2} == {"neuron", "bias"}  # exact: it has no error
    assert {(0, "feature"), (1, "error")} <= kinds
    assert (graph.nodes.kind == "neuron").sum() == len(trace(model, mixed, PROMPT).tokens) * neurons.units


def test_an_exact_layer_has_no_error_to_explain_or_change():
    model = model_of("llama")
    mixed = mixed_of(model)
    with pytest.raises(BadTarget, match="rebuild the MLPs exactly"):
        attribute(model, mixed, PROMPT, [Error(1, -1)])
    with pytest.raises(BadIntervention, match="exact"):
        intervene(model, mixed, PROMPT, [[Intervention(1, 3, ERROR)]])


def test_units_of_both_kinds_are_changed_in_the_real_model():
    model = model_of("gemma2")
    mixed = mixed_of(model)
    run = trace(model, mixed, PROMPT)
    at = [int(torch.nonzero((run.layer == layer) & (run.position == 3))[0, 0]) for layer in range(3)]
    places = [(layer, 3, int(run.unit[each])) for layer, each in enumerate(at)]

    moved = intervene(model, mixed, run, [[Intervention(*place)] for place in places])

    for place, each, logits in zip(places, at, moved, strict=True):
        layer, position, unit = place
        site = (mixed.at(layer).writes, layer)
        lost = float(run.activation[each]) * mixed.writing(layer, torch.tensor([unit]), layer)[0]
        taken = torch.zeros_like(run.residual)
        taken[position] = lost
        expected, _ = model.run(run.tokens[None], edit={site: lambda live, taken=taken: live - taken})
        torch.testing.assert_close(logits, expected[0], rtol=1e-6, atol=1e-6)
    with pytest.raises(BadIntervention, match="units 0 to 11 in that layer, from position 2"):
        intervene(model, mixed, run, [[Intervention(0, 1, 3, value=1.0)]])
    said = steer(model, mixed, run, read_setting(f"L1/{places[1][2]}@3=0", run, mixed), length=2)
    torch.testing.assert_close(said.after, moved[1][-1])


def test_a_graph_is_assayed_and_stored(tmp_path: Path):
    model = model_of("gpt2")
    mixed = mixed_of(model)
    graph = prune(attribute(model, mixed, PROMPT), nodes=0.98, edges=0.9)

    result = assay(model, mixed, graph, controls=5)
    folder = Store(tmp_path).save(graph, assay=result)

    assert {each.verdict for each in result.verdicts} - {"untested"}
    again = Store(tmp_path).load(folder)
    assert {"feature", "neuron"} <= set(again.nodes.kind.tolist())
    assert again.provenance["transcoders"] == mixed.name
    assert again.provenance["transcoders_hash"] == mixed.content_hash


def test_layers_that_a_set_has_not_are_left_to_neurons_when_that_is_asked_for(tmp_path: Path):
    model = model_of("llama")
    write_set(tmp_path, model, range(1, 3))
    with pytest.raises(UnfitTranscoders, match=r"holds layers 1, 2; .* has 3: missing 0. .* give \S+\+neurons: there"):
        load_transcoders(tmp_path, model)

    found = load_transcoders(f"{tmp_path}+neurons/gradient", model)

    assert [found.at(layer).kind for layer in range(3)] == ["neuron", "feature", "feature"]
    assert found.name == f"{tmp_path}+neurons/gradient"
    x = torch.randn(1, model.d_model, dtype=model.dtype)
    expected = Neurons(model, rule="gradient").reading(0, x, torch.tensor([5]))
    torch.testing.assert_close(found.reading(0, x, torch.tensor([5])), expected)
    check_sums(attribute(model, found, PROMPT), "float64")


def test_two_sets_make_a_whole_and_each_is_measured(tmp_path: Path):
    model = model_of("llama")
    for name, layers in (("low", range(1)), ("high", range(1, 3))):
        write_set(tmp_path / name, model, layers)
    joined = load_transcoders(f"{tmp_path}/low+{tmp_path}/high", model)
    write_set(tmp_path / "all", model, range(3))
    whole = load_transcoders(tmp_path / "all", model)
    ours, theirs = (attribute(model, each, PROMPT) for each in (joined, whole))
    np.testing.assert_array_equal(ours.weight, theirs.weight)
    assert joined.content_hash != whole.content_hash
    with pytest.raises(UnfitTranscoders, match=r"holds layers 0, 1; .*missing 2"):
        load_transcoders(f"{tmp_path}/low+{tmp_path}/high@L1", model)
    with pytest.raises(UnfitTranscoders, match=r"low\S* does not fit"):
        load_transcoders(f"{tmp_path}/low@mlp_input+{tmp_path}/high", model)


def test_what_makes_no_sense_is_told(tmp_path: Path):
    model = model_of("llama")
    write_set(tmp_path, model, range(1, 3))
    with pytest.raises(UnfitTranscoders, match="is left without a layer"):
        load_transcoders(f"neurons+{tmp_path}", model)
    with pytest.raises(UnfitTranscoders, match="has no layer 0, but 1, 2"):
        load_transcoders(f"{tmp_path}@L0-1+neurons", model)
    with pytest.raises(BadOption, match="neurons are named neurons or neurons/RULE"):
        load_transcoders("neurons@L0", model)
    cross_layer = dictionary_of(model, "cross-layer")
    with pytest.raises(UnfitTranscoders, match="write to layers 0, 1, 2, of which others are to stand in for some"):
        Mixed([Part(dictionary_of(model, "skip"), [2]), Part(cross_layer, range(3))])


def test_what_is_known_of_units_is_that_of_the_set_in_charge():
    model = model_of("llama")
    known = {"0/3": {"label": "RED"}, "1/3": {"label": "FOX"}}
    whole = dictionary_of(model, "per-layer")
    assert isinstance(whole, Transcoders)
    whole.notes.update(known)
    mixed = Mixed([Part(whole.only([1, 2]), [1, 2]), Part(Neurons(model), range(3))])
    assert mixed.notes == {"1/3": {"label": "FOX"}}
    assert "FOX" in attribute(model, mixed, PROMPT).nodes.label
    assert "RED" not in attribute(model, mixed, PROMPT).nodes.label


def test_a_set_of_some_layers_is_measured_on_those():
    model = model_of("llama")
    whole = dictionary_of(model, "per-layer", reads="mlp_output", writes="mlp_output", units=32)
    assert isinstance(whole, Transcoders)
    eye = torch.eye(model.d_model, dtype=model.dtype)
    for weights, perfect in ((whole.W_enc, torch.cat([eye, -eye])), (whole.W_dec, torch.cat([eye, -eye])[:, None])):
        weights[2][:] = perfect
    for bias in (whole.b_enc[2], whole.b_dec[2], whole.threshold[2]):
        bias[:] = 0
    assert check_fit(model, whole.only([2])).fvu[0] < 1e-12
    with pytest.raises(UnfitTranscoders, match="explains next to nothing"):
        check_fit(model, whole.only([0, 1]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("world", SetName("world")),
        ("world@L0-2,5", SetName("world", "@L0-2,5", layers=(0, 1, 2, 5))),
        ("org/set@main@mlp_input@mlp_raw", SetName("org/set@main", "@mlp_input@mlp_raw", "mlp_input", "mlp_raw")),
        ("x@mlp_raw@mlp_raw@half", SetName("x", "@mlp_raw@mlp_raw@half", "mlp_raw", "mlp_raw", "half")),
        ("x@mlp_raw@mlp_raw@mlp_raw", SetName("x@mlp_raw", "@mlp_raw@mlp_raw", "mlp_raw", "mlp_raw")),
    ],
)
def test_a_name_is_taken_apart(text: str, expected: SetName):
    assert read_name(text) == expected
    assert str(read_name(text)) == text


def test_a_folder_is_called_what_it_is_called(tmp_path: Path):
    odd = tmp_path / "a+b@mlp_raw"
    odd.mkdir()
    assert split_names(str(odd)) == [str(odd)]
    assert read_name(str(odd)) == SetName(str(odd))


def test_for_another_model_what_comes_from_a_model_comes_from_that_one():
    """The control with shuffled weights must not read them with the neurons of the model as it was."""
    model = model_of("gemma2")
    other = model.shuffled(3)
    x, unit = torch.randn(2, model.d_model, dtype=model.dtype), torch.tensor([1, 6])

    ours, theirs = mixed_of(model).for_model(other), mixed_of(other)

    for layer in range(3):
        torch.testing.assert_close(ours.reading(layer, x, unit), theirs.reading(layer, x, unit))
        of_model = mixed_of(model).reading(layer, x, unit)[0]
        assert torch.equal(ours.reading(layer, x, unit)[0], of_model) == (layer == 0)
    frozen = Neurons(model, rule="frozen-gate").for_model(other)
    torch.testing.assert_close(frozen.reading(0, x, unit), Neurons(other, rule="frozen-gate").reading(0, x, unit))
