"""Autoencoders of MLP outputs: a feature's read vector is its encoder taken back through the MLP it reads behind."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from circuits import attribute, load_model, load_transcoders, trace
from circuits.errors import BadOption, UnfitTranscoders
from circuits.formats import load
from circuits.model import Model
from circuits.transcoders.autoencoders import Autoencoders
from circuits.transcoders.fit import check_fit, find_sites, measure
from circuits.transcoders.neurons import RULES, Neurons
from circuits.transcoders.transcoders import Transcoders
from tests.circuits.layouts import write_json
from tests.circuits.oracle import norms_in_float64
from tests.circuits.worlds import dictionary_of, model_of, native_of

SHARED = Path(__file__).parents[3] / "shared" / "formats"
PROMPT = "a red fox runs"


def autoencoders_of(model: Model, site: str, rule: str = "half") -> tuple[Transcoders, Autoencoders]:
    """Random ones that rebuild what stands at a site; and how they are traced."""
    found = dictionary_of(model, "per-layer", reads=site, writes=site)
    assert isinstance(found, Transcoders)
    return found, Autoencoders(found, model, rule=rule)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("family", "site"), [(f, s) for f in ("gemma2", "olmo2", "gpt2", "phi") for s in ("mlp_output", "mlp_raw")]
)
def test_a_feature_reads_what_the_real_mlp_puts_out(family: str, site: str, rule: str):
    model = model_of(family)
    found, traced = autoencoders_of(model, site, rule)
    tokens = model.tokenize(PROMPT)
    with norms_in_float64():
        _, seen = model.run(tokens[None], read=[("mlp_input", 1), (site, 1)])
    x, out = seen[("mlp_input", 1)][0], seen[(site, 1)][0]
    unit = torch.arange(len(x)) + 3

    vector, constant = traced.reading(1, x, unit)

    expected = (found.W_enc[1][unit] * out).sum(-1) + found.b_enc[1][unit]
    torch.testing.assert_close((vector * x).sum(-1) + constant, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(traced.activations(1, x), found.activations(1, out), rtol=1e-9, atol=1e-9)
    if rule == "gradient" and site == "mlp_raw":
        leaf = x.clone().requires_grad_()
        edit = {("mlp_input", 1): lambda real: leaf.expand_as(real)}
        _, again = model.run(tokens[None], edit=edit, read=[(site, 1)], gradient=True)
        (gradient,) = torch.autograd.grad((found.W_enc[1][unit] * again[(site, 1)][0]).sum(), leaf)
        torch.testing.assert_close(vector, gradient)


@pytest.mark.parametrize("rule", RULES[:2])
@pytest.mark.parametrize("model", [model_of("llama"), native_of("plain")], ids=["gated", "not gated"])
def test_what_a_feature_reads_is_what_the_neurons_read_by_the_same_rule(model: Model, rule: str):
    found, traced = autoencoders_of(model, "mlp_raw", rule)
    neurons = Neurons(model, rule=rule)
    x = torch.randn(1, model.d_model, dtype=model.dtype, generator=torch.Generator().manual_seed(2))
    every = torch.arange(neurons.at(1).units)

    vector, _ = traced.reading(1, x, torch.tensor([4]))

    read, _ = neurons.reading(1, x.expand(len(every), -1), every)
    share = neurons.writing(1, every, 1) @ found.W_enc[1][4] * neurons.ratio(1, x[0])
    torch.testing.assert_close(vector[0], share @ read)


def test_rules_give_the_credit_otherwise_and_the_same_value():
    model = model_of("llama")
    graphs = {rule: attribute(model, autoencoders_of(model, "mlp_output", rule)[1], PROMPT) for rule in RULES}
    half, frozen, gradient = (graphs[rule] for rule in RULES)
    np.testing.assert_allclose(half.nodes.value, frozen.nodes.value, atol=1e-10)
    np.testing.assert_allclose(half.nodes.value, gradient.nodes.value, atol=1e-10)
    features = half.nodes.where("feature")
    assert not np.allclose(half.to_dense()[features], frozen.to_dense()[features])
    assert not np.allclose(half.to_dense()[features], gradient.to_dense()[features])


def write_set(folder: Path, model: Model, layers: range, hook: str = "blocks.{}.hook_mlp_out") -> None:
    """Each direction and its opposite as features, in SAELens's layout: they rebuild anything whole."""
    eye = torch.eye(model.d_model)
    for layer in layers:
        place = folder / f"layer_{layer}"
        settings = {"architecture": "jumprelu", "d_in": model.d_model, "d_sae": 2 * model.d_model}
        write_json(place / "cfg.json", {**settings, "metadata": {"hook_name": hook.format(layer)}})
        tensors = {"W_enc": torch.cat([eye, -eye], 1), "W_dec": torch.cat([eye, -eye])}
        tensors |= {"b_enc": torch.zeros(2 * model.d_model), "b_dec": torch.zeros(model.d_model)}
        save_file({**tensors, "threshold": torch.zeros(2 * model.d_model)}, place / "sae_weights.safetensors")


def test_a_published_set_is_measured_and_traced(tmp_path: Path):
    model = model_of("gemma2")
    write_set(tmp_path, model, range(3))

    found = load_transcoders(tmp_path, model)
    graph = attribute(model, found, PROMPT)

    assert isinstance(found, Autoencoders)
    assert (found.at(1).reads, found.at(1).writes, found.at(1).kind) == ("mlp_input", "mlp_output", "feature")
    assert max(measure(model, load(tmp_path).to(model.device, model.dtype, whole=True), [torch.arange(9)]).fvu) < 1e-9
    run = trace(model, found, PROMPT)
    assert run.errors is not None
    assert float(run.errors.abs().max()) < 1e-5 * float(run.written.abs().max())  # of norms that compute in float32
    assert load_transcoders(graph.provenance["transcoders"], model).content_hash == found.content_hash


def test_a_rule_is_part_of_the_name_and_only_for_what_is_read_through_an_mlp(tmp_path: Path):
    model = model_of("llama")
    write_set(tmp_path, model, range(3))
    x, unit = torch.randn(2, model.d_model, dtype=model.dtype), torch.tensor([1, 2])

    found = load_transcoders(f"{tmp_path}@frozen-gate", model)

    assert found.name == f"{tmp_path}@frozen-gate"
    assert isinstance(found, Autoencoders)
    plain = load(tmp_path).to(model.device, model.dtype, whole=True)
    expected = Autoencoders(plain, model, rule="frozen-gate").reading(0, x, unit)[0]
    torch.testing.assert_close(found.reading(0, x, unit)[0], expected)
    torch.testing.assert_close(found.for_model(model).reading(0, x, unit)[0], expected)
    with pytest.raises(BadOption, match=r"@gradient says how an MLP is made linear, which transcoders have no need of"):
        load_transcoders(f"{tmp_path}@mlp_input@gradient", model)


def test_an_autoencoder_taken_for_a_transcoder_is_told_from_one_and_the_other_way_round(tmp_path: Path):
    model = model_of("gemma2")
    write_set(tmp_path, model, range(3))
    said = r"an autoencoder: .*@mlp_(output@mlp_output|raw@mlp_raw), or take it as it is: --force"
    with pytest.raises(UnfitTranscoders, match=said):
        load_transcoders(f"{tmp_path}@mlp_input", model)
    assert isinstance(load_transcoders(f"{tmp_path}@mlp_input", model, force=True), Transcoders)
    found = load(tmp_path).to(model.device, model.dtype, whole=True)
    best = find_sites(model, replace(found, reads="not stated", writes="not stated"))[0]
    assert best.reads == best.writes


@pytest.mark.skipif(not SHARED.is_dir(), reason="no published-layout samples beside this checkout")
def test_a_sample_of_a_published_set_is_traced_with_neurons_in_the_other_layers():
    """Llama Scope 1: bfloat16, input and output scaled, one threshold, layer 1 of what the MLPs put out."""
    place = SHARED / "llama_scope1_sae" / "fnlp" / "Llama3_1-8B-Base-LXM-8x" / "Llama3_1-8B-Base-L1M-8x"
    torch.manual_seed(1)
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2}
    given = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", vocab_size=9, **sizes))
    for parameter in given.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    model = load_model(given, device="cpu", dtype="float64")

    found = load_transcoders(f"{place}+neurons", model, force=True)
    run, graph = trace(model, found, [1, 4, 7, 2]), attribute(model, found, [1, 4, 7, 2])

    _, seen = model.run(run.tokens[None], read=[("mlp_output", 1)])
    acts, out = load(place).reconstruct(seen[("mlp_output", 1)].float())
    features = run.layer == 1
    assert set(graph.nodes.kind[graph.nodes.layer == 1]) == {"feature", "error", "bias"}
    assert run.position[features].unique().tolist() == [1, 2, 3]
    torch.testing.assert_close(
        run.activation[features].float(), acts[0, run.position[features], run.unit[features]], rtol=1e-3, atol=1e-3
    )
    assert run.errors is not None
    missed = (seen[("mlp_output", 1)][0] - out[0])[1:]
    torch.testing.assert_close(run.errors[1, 1:], missed, rtol=1e-3, atol=1e-3 * float(missed.abs().max()))


def test_noise_is_no_autoencoder_either():
    model = model_of("llama")
    with pytest.raises(UnfitTranscoders, match="explains next to nothing"):
        check_fit(model, autoencoders_of(model, "mlp_output")[0])


@pytest.mark.parametrize(
    ("hook", "complaint"),
    [
        ("blocks.{}.hook_resid_post", "autoencoder of residual_after: the residual stream is what every layer before"),
        ("blocks.{}.hook_resid_pre", "autoencoder of residual_before: .*autoencoders of MLP outputs"),
        ("blocks.{}.hook_attn_out", "stands in for attention alone: name what stands in for the MLPs too"),
    ],
)
def test_autoencoders_of_other_tensors_are_refused_with_the_reason(tmp_path: Path, hook: str, complaint: str):
    model = model_of("llama")
    write_set(tmp_path, model, range(3), hook)
    with pytest.raises(UnfitTranscoders, match=complaint):
        load_transcoders(tmp_path, model)


def test_experts_cannot_be_read_through(tmp_path: Path):
    model = model_of("qwen3_moe")
    write_set(tmp_path, model, range(3))
    with pytest.raises(UnfitTranscoders, match="mixture of experts"):
        load_transcoders(tmp_path, model)


@pytest.mark.parametrize(
    ("repository", "site"),
    [
        ("gemma-scope-2b-pt-mlp", "mlp_output"),
        ("gemma-scope-9b-it-res", "residual_after"),
        ("models--google--gemma-scope-2b-pt-att/snapshots/0a1b", "mixed"),
        ("gemma-scope-2b-pt-transcoders", None),
    ],
)
def test_gemma_scopes_autoencoders_are_told_by_their_repository(tmp_path: Path, repository: str, site: str | None):
    place = tmp_path / repository / "layer_0" / "width_16k" / "average_l0_9"
    place.mkdir(parents=True)
    shapes = {"W_enc": (6, 10), "W_dec": (10, 6), "b_enc": (10,), "b_dec": (6,), "threshold": (10,)}
    np.savez(place / "params.npz", allow_pickle=False, **{name: np.ones(shape, "f4") for name, shape in shapes.items()})

    found = load(tmp_path / repository)

    assert (found.reads, found.writes) == ((site, site) if site else ("mlp_normalised", "mlp_output"))


@pytest.mark.parametrize(("kind", "site"), [("mlp_out_all", "mlp_output"), ("resid_post", "residual_after")])
def test_gemma_scope_2s_autoencoders_without_a_configuration_are_told_by_their_folder(
    tmp_path: Path, kind: str, site: str
):
    place = tmp_path / kind / "layer_0_width_16k_l0_small"
    place.mkdir(parents=True)
    shapes = {"w_enc": (6, 10), "w_dec": (10, 6), "b_enc": (10,), "b_dec": (6,), "threshold": (10,)}
    save_file({name: torch.ones(shape) for name, shape in shapes.items()}, place / "params.safetensors")

    found = load(tmp_path / kind)

    assert (found.reads, found.writes) == (site, site)
