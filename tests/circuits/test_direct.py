"""Every edge of a feature graph against autograd through the real model's own forward pass, and the law of its rows."""

import numpy as np
import pytest
import torch

from circuits import attribute
from circuits.attribution.direct import attribute_directly
from circuits.errors import BadOption, NotConserved, UnfitTranscoders
from circuits.model import Model
from circuits.tracing import trace
from circuits.transcoders.base import Dictionary
from graphs.graph import AttributionGraph
from tests.circuits.oracle import effect, frozen_forward
from tests.circuits.worlds import ALIKE, EXPERTS, FAMILIES, KINDS, NATIVE, dictionary_of, model_of, native_of

PROMPT = "a red fox runs"
LONG = "a red fox runs here now there a blue dog sleeps here"
WORDLESS = [1, 2, 3, 5, 7]
SITES = [("mlp_input", "mlp_output"), ("mlp_normalised", "mlp_raw"), ("residual_mid", "mlp_raw")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_edge_is_what_autograd_gives(family: str, kind: str):
    model = model_of(family)
    dictionary = dictionary_of(model, kind)
    check_against_autograd(model, dictionary)


@pytest.mark.parametrize("family", EXPERTS)
def test_experts_are_replaced_as_a_whole(family: str):
    model = model_of(family)
    check_against_autograd(model, dictionary_of(model, "skip"))
    with pytest.raises(UnfitTranscoders, match="mixture of experts"):
        dictionary_of(model, "neurons")


@pytest.mark.parametrize(("reads", "writes"), SITES[1:])
@pytest.mark.parametrize("kind", ["skip", "cross-layer"])
@pytest.mark.parametrize("family", ["gemma2", "gpt2", "phi", "olmo2"])
def test_every_edge_is_what_autograd_gives_at_other_sites(family: str, kind: str, reads: str, writes: str):
    model = model_of(family)
    check_against_autograd(model, dictionary_of(model, kind, reads=reads, writes=writes, silent=2))


@pytest.mark.parametrize("kind", ["per-layer", "skip"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gpt_neo"])
def test_every_edge_is_what_autograd_gives_with_more_tokens_than_heads(family: str, kind: str):
    model = model_of(family)
    check_against_autograd(model, dictionary_of(model, kind), LONG)


def test_no_edge_is_zero():
    model = model_of("gpt_neo")  # one layer looks back three tokens and no further

    graph = attribute(model, dictionary_of(model, "per-layer"), LONG)

    assert (graph.weight != 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", [*FAMILIES, *ALIKE])
def test_the_inputs_of_every_target_sum_to_its_value(family: str, kind: str, dtype: str):
    model = model_of(family, dtype)

    graph = attribute(model, dictionary_of(model, kind), PROMPT)

    check_sums(graph, dtype)


@pytest.mark.parametrize("kind", ["neurons", "per-layer"])
@pytest.mark.parametrize("family", NATIVE)
def test_every_edge_of_a_native_model_is_what_autograd_gives(family: str, kind: str):
    if kind == "neurons" or not NATIVE[family].get("attn_only"):
        model = native_of(family)
        check_against_autograd(model, dictionary_of(model, kind), WORDLESS)
        check_sums(attribute(model, dictionary_of(model, kind), WORDLESS), "float64")


@pytest.mark.parametrize("kind", ["per-layer", "cross-layer"])
def test_where_attention_looks_both_ways_what_stands_to_the_right_feeds_a_target_too(kind: str):
    model = native_of("two-way")
    dictionary = dictionary_of(model, kind)
    many = [1, 2, 3, 5, 7, 4, 6, 8, 9, 2, 3]  # more tokens than heads

    check_against_autograd(model, dictionary, many)
    graph = attribute(model, dictionary, many)

    check_sums(graph, "float64")
    position = graph.nodes.position
    kinds = ("token", "feature", "error")
    to_the_left = np.isin(graph.nodes.kind[graph.source], kinds) & (position[graph.source] > position[graph.target])
    assert to_the_left.mean() > 0.2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", EXPERTS)
def test_the_inputs_of_every_target_sum_to_its_value_beside_experts(family: str, dtype: str):
    model = model_of(family, dtype)

    check_sums(attribute(model, dictionary_of(model, "cross-layer"), PROMPT), dtype)


def check_sums(graph: AttributionGraph, dtype: str) -> None:
    total = np.bincount(graph.target, weights=graph.weight, minlength=len(graph.nodes))
    gross = np.bincount(graph.target, weights=np.abs(graph.weight), minlength=len(graph.nodes))
    targets = graph.nodes.where("feature", "neuron", "logit")
    off = np.abs(total - graph.nodes.value)[targets] / gross[targets]
    assert off.max() <= {"float32": 1e-5, "float64": 1e-12}[dtype]
    assert len(targets) == graph.provenance["active"] + (graph.nodes.kind == "logit").sum()


def test_a_wrong_edge_breaks_the_law_and_is_refused(monkeypatch: pytest.MonkeyPatch):
    model = model_of("llama")
    monkeypatch.setattr("circuits.sweep._pass", lambda *_, **__: None)  # as if attention carried nothing

    with pytest.raises(NotConserved, match="sum to"):
        attribute(model, dictionary_of(model, "per-layer"), PROMPT)


def test_a_contrast_is_the_difference_of_its_two_logits():
    model = model_of("gpt2")
    dictionary = dictionary_of(model, "cross-layer")

    apart = attribute(model, dictionary, PROMPT, ["red", "blue"]).to_dense()
    together = attribute(model, dictionary, PROMPT, [("red", "blue")]).to_dense()

    np.testing.assert_allclose(together[-1, :-1], apart[-2, :-2] - apart[-1, :-2], atol=1e-10)


def test_what_a_budget_leaves_untraced_keeps_its_mass_in_unselected_nodes():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    whole = attribute(model, dictionary, PROMPT)

    small = attribute(model, dictionary, PROMPT, max_features=7)

    assert (small.nodes.kind == "feature").sum() == 7
    assert (small.nodes.kind == "unselected").any()
    total = np.bincount(small.target, weights=small.weight, minlength=len(small.nodes))
    np.testing.assert_allclose(total[-1], whole.nodes.value[-1], rtol=1e-9)
    logit = len(small.nodes) - 1
    np.testing.assert_allclose(small.nodes.gross[logit], whole.nodes.gross[-1], rtol=1e-9)


def test_smaller_rounds_are_asked_for_at_the_front_door():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")

    graph = attribute(model, dictionary, PROMPT, max_features=15, round_size=1)

    expected = attribute_directly(model, dictionary, PROMPT, max_features=15, round_size=1)
    at_once = attribute_directly(model, dictionary, PROMPT, max_features=15, round_size=15)
    assert graph.nodes.label.tolist() == expected.nodes.label.tolist() != at_once.nodes.label.tolist()
    assert graph.provenance["options"]["round_size"] == 1
    with pytest.raises(BadOption, match="round_size"):
        attribute(model, dictionary, PROMPT, round_size=0)


def check_against_autograd(model: Model, dictionary: Dictionary, prompt: str | list[int] = PROMPT) -> None:
    run = trace(model, dictionary, prompt)
    graph = attribute(model, dictionary, prompt)
    leaves, inputs, _, logits = frozen_forward(model, dictionary, run.tokens)
    dense = graph.to_dense()
    sources = graph.nodes.where("token", "feature", "neuron", "error")
    targets = graph.nodes.where("feature", "neuron", "logit")
    for row in targets[:: -max(1, len(targets) // 20)]:  # about twenty of them, the last logit first
        layer, position, unit = (int(getattr(graph.nodes, name)[row]) for name in ("layer", "position", "feature"))
        if graph.nodes.kind[row] == "logit":
            value = logits[0, -1, unit] - logits[0, -1].mean()
        else:
            here = inputs[layer][0, position]
            vector, constant = dictionary.reading(layer, run.inputs[layer][position, None], torch.tensor([unit]))
            value = (here * vector[0]).sum() + constant[0]
        np.testing.assert_allclose(value.item(), graph.nodes.value[row], rtol=1e-6, atol=1e-6)
        gradients = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
        gradients = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, gradients, strict=True)]
        expected = [effect(graph, source, run, dictionary, gradients) for source in sources]
        scale = np.abs(dense[row]).max()
        np.testing.assert_allclose(dense[row, sources], expected, rtol=0, atol=1e-10 * scale)
