"""A set is measured before it is used: the right tensor is taken, the wrong one is named."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from circuits import load_model
from circuits.errors import BadOption, UnfitTranscoders
from circuits.tracing import trace
from circuits.transcoders.fit import check_fit, find_sites, measure
from circuits.transcoders.loading import load_transcoders
from circuits.transcoders.neurons import RULES, Neurons
from circuits.transcoders.transcoders import Transcoders
from tests.circuits import layouts
from tests.circuits.layouts import write_yaml
from tests.circuits.worlds import dictionary_of, model_of


@cache
def fitted(family: str) -> Transcoders:
    """Random ReLU features of the input before the gain, decoded by least squares to what the MLPs really put out."""
    model, reads = model_of(family), "mlp_normalised"
    numbers = torch.Generator().manual_seed(2)
    silent = dictionary_of(model, "per-layer", reads=reads, writes="mlp_raw")
    prompts = [torch.randint(0, 12, (32,), generator=numbers) for _ in range(40)]
    rows: list[list[torch.Tensor]] = [[] for _ in range(model.layers)]
    outputs: list[list[torch.Tensor]] = [[] for _ in range(model.layers)]
    for prompt in prompts:
        sites = [(site, layer) for site in (reads, "mlp_raw") for layer in range(model.layers)]
        _, seen = model.run(prompt[None], read=sites)
        for layer in range(model.layers):
            rows[layer].append(seen[(reads, layer)][0, 1:])
            outputs[layer].append(seen[("mlp_raw", layer)][0, 1:])
    encoder = torch.randn(64, model.d_model, generator=numbers, dtype=torch.float64)
    W_dec, b_dec = [], []
    for layer in range(model.layers):
        acts = torch.relu(torch.cat(rows[layer]) @ encoder.T)
        acts = torch.cat([acts, torch.ones(len(acts), 1, dtype=acts.dtype)], 1)
        solved = torch.linalg.lstsq(acts, torch.cat(outputs[layer])).solution
        W_dec.append(solved[:-1][:, None].contiguous())
        b_dec.append(solved[-1])
    layers = range(model.layers)
    return replace(
        silent,
        W_enc=[encoder for _ in layers],
        b_enc=[encoder.new_zeros(64) for _ in layers],
        threshold=[encoder.new_zeros(64) for _ in layers],
        W_dec=W_dec,
        b_dec=b_dec,
    )


def test_a_set_at_its_own_tensor_fits():
    found = check_fit(model_of("llama"), fitted("llama"))
    assert max(found.fvu) < 0.9
    assert all(0 < l0 < 64 for l0 in found.l0)


@pytest.mark.parametrize(("reads", "cause"), [("mlp_input", "gain excluded"), ("residual_mid", "gain excluded")])
def test_a_set_at_another_tensor_is_refused_by_the_likely_cause(reads: str, cause: str):
    model = model_of("llama")
    wrong = replace(fitted("llama"), reads=reads, name="mine")
    with pytest.raises(UnfitTranscoders, match=rf"mine does not fit .*{cause}.*@mlp_normalised@mlp_"):
        check_fit(model, wrong)


def test_a_set_of_noise_fits_nowhere():
    with pytest.raises(UnfitTranscoders, match=r"next to nothing.*No other tensor .*trained too little.*--force in"):
        check_fit(model_of("llama"), dictionary_of(model_of("llama"), "per-layer"))


def test_a_set_that_is_silent_or_far_from_its_card_is_refused():
    fits = fitted("llama")
    silent = replace(fits, threshold=[torch.full_like(each, 1e9) for each in fits.threshold])
    with pytest.raises(UnfitTranscoders, match="no feature is ever active"):
        check_fit(model_of("llama"), silent)
    with pytest.raises(UnfitTranscoders, match="features are active at a token, its publisher says 2"):
        check_fit(model_of("llama"), replace(fits, declared=2.0))


def test_unexplained_variance_is_what_is_left_of_it():
    # Against its plain definition, on the positions that the set covers.
    model, fits = model_of("llama"), fitted("llama")
    prompt = torch.tensor([1, 4, 7, 2, 9, 3])
    _, seen = model.run(prompt[None], read=[(site, 1) for site in ("mlp_normalised", "mlp_raw")])
    x, y = seen[("mlp_normalised", 1)][0, 1:], seen[("mlp_raw", 1)][0, 1:]
    missed = y - fits.activations(1, x) @ fits.W_dec[1][:, 0] - fits.b_dec[1]

    found = measure(model, fits, [prompt])

    assert found.tokens == 5
    assert found.fvu[1] == pytest.approx(float(missed.square().sum() / (y - y.mean(0)).square().sum()))
    assert found.l0[1] == pytest.approx(float((fits.activations(1, x) > 0).sum() / 5))


@pytest.mark.parametrize("kind", ["skip", "cross-layer"])
def test_what_is_missed_is_what_a_trace_calls_the_error(kind: str):
    model = model_of("gemma2")
    dictionary = dictionary_of(model, kind)
    assert isinstance(dictionary, Transcoders)
    run = trace(model, dictionary, [1, 4, 7, 2, 9])
    assert run.errors is not None
    real = run.written[:, 1:]
    spread = (real - real.mean(1, keepdim=True)).square().sum((1, 2))

    found = measure(model, dictionary, [run.tokens])

    assert found.fvu == pytest.approx((run.errors[:, 1:].square().sum((1, 2)) / spread).tolist())


def write(folder: Path, found: Transcoders, *, reads: str) -> None:
    for layer in range(found.layers):
        weights = {"W_enc": found.W_enc[layer].float(), "W_dec": found.W_dec[layer][:, 0].float().contiguous()}
        biases = {"b_enc": found.b_enc[layer].float(), "b_dec": found.b_dec[layer].float()}
        save_file({**weights, **biases}, folder / f"layer_{layer}.safetensors")
    if reads:
        write_yaml(folder / "config.yaml", model_kind="transcoder_set", feature_input_hook=reads)


def test_a_folder_is_measured_when_it_is_loaded_unless_forced(tmp_path: Path):
    model = model_of("llama")
    write(tmp_path, fitted("llama"), reads="mlp.hook_in")
    with pytest.raises(UnfitTranscoders, match="does not fit"):
        load_transcoders(tmp_path, model)
    assert load_transcoders(tmp_path, model, force=True).reads == "mlp_input"
    given = load_transcoders(f"{tmp_path}@mlp_normalised", model)
    assert given.reads == "mlp_normalised"
    assert given.name.endswith("@mlp_normalised")  # so that whoever loads it again by its name gets the same


def test_a_set_whose_files_name_no_tensor_is_refused_with_the_one_that_fits(tmp_path: Path):
    write(tmp_path, fitted("llama"), reads="")
    with pytest.raises(UnfitTranscoders, match=r"do not say which tensors .* fits best at mlp_normalised"):
        load_transcoders(tmp_path, model_of("llama"), force=True)
    name = f"{tmp_path}@mlp_normalised@mlp_raw"
    assert load_transcoders(name, model_of("llama")).writes == "mlp_raw"


def test_the_best_pair_of_sites_comes_first():
    best, *others = find_sites(model_of("gemma2"), fitted("gemma2"))
    assert (best.reads, best.writes) == ("mlp_normalised", "mlp_raw")
    assert len(others) == 7


@pytest.mark.parametrize("name", ["world", "world/cross-layer"])
def test_a_shipped_set_fits(name: str):
    model = load_model("world", device="cpu")
    found = load_transcoders(name, model)
    assert isinstance(found, Transcoders)
    assert check_fit(model, found).tokens > 200
    wrong = replace(found, reads="residual_mid")
    with pytest.raises(UnfitTranscoders, match=r"It fits when it reads mlp_input .the norm's gain included"):
        check_fit(model, wrong)


def test_an_autoencoder_and_a_stepped_set_cannot_be_traced(tmp_path: Path):
    for write_layout, complaint in (
        (layouts.goodfire, "is an autoencoder of residual_after"),
        (layouts.clt_training, "not traced"),
    ):
        folder = tmp_path / write_layout.__name__
        folder.mkdir()
        write_layout(folder)
        with pytest.raises(UnfitTranscoders, match=complaint):
            load_transcoders(folder, model_of("llama"))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_every_rule_for_gated_neurons_gives_their_activation(family: str, rule: str):
    model = model_of(family)
    neurons = load_transcoders("neurons" if rule == "half" else f"neurons/{rule}", model)
    assert isinstance(neurons, Neurons)
    x = torch.randn(5, model.d_model, dtype=model.dtype, generator=torch.Generator().manual_seed(4))
    unit = torch.arange(5)
    vector, constant = neurons.reading(1, x, unit)
    acts = neurons.activations(1, x)[unit, unit]
    value = (vector * x).sum(-1) + constant
    torch.testing.assert_close(value if neurons.gated else torch.nn.functional.gelu(value, approximate="tanh"), acts)


def test_the_gradient_rule_is_the_gradient_and_a_frozen_gate_gets_no_credit():
    model = model_of("llama")
    x = torch.randn(3, model.d_model, dtype=model.dtype, generator=torch.Generator().manual_seed(4)).requires_grad_()
    unit = torch.tensor([2, 5, 7])
    plain = Neurons(model, rule="gradient")
    acts = plain.activations(0, x)[torch.arange(3), unit].sum()
    (gradient,) = torch.autograd.grad(acts, x)
    torch.testing.assert_close(plain.reading(0, x.detach(), unit)[0], gradient)
    frozen, _ = Neurons(model, rule="frozen-gate").reading(0, x.detach(), unit)
    along = model.blocks[0].W_in.T[unit]
    torch.testing.assert_close(torch.cosine_similarity(frozen, along).abs(), torch.ones(3, dtype=model.dtype))


def test_a_rule_that_nobody_knows_is_refused():
    with pytest.raises(BadOption, match="half, frozen-gate, gradient, found 'whole'"):
        load_transcoders("neurons/whole", model_of("llama"))
