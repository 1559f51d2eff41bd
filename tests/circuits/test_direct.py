"""Every edge of a feature graph against autograd through the real model's own forward pass, and the law of its rows."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from circuits import attribute
from circuits.errors import NotConserved
from circuits.model import Model
from circuits.tracing import trace
from circuits.transcoders.base import Dictionary
from graphs.graph import AttributionGraph
from tests.circuits.worlds import ALIKE, FAMILIES, KINDS, dictionary_of, model_of

PROMPT = "a red fox runs"
SITES = [("mlp_input", "mlp_output"), ("mlp_normalised", "mlp_raw"), ("residual_mid", "mlp_raw")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_edge_is_what_autograd_gives(family: str, kind: str):
    model = model_of(family)
    dictionary = dictionary_of(model, kind)
    check_against_autograd(model, dictionary)


@pytest.mark.parametrize(("reads", "writes"), SITES[1:])
@pytest.mark.parametrize("kind", ["skip", "cross-layer"])
@pytest.mark.parametrize("family", ["gemma2", "gpt2"])
def test_every_edge_is_what_autograd_gives_at_other_sites(family: str, kind: str, reads: str, writes: str):
    model = model_of(family)
    check_against_autograd(model, dictionary_of(model, kind, reads=reads, writes=writes, silent=2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", [*FAMILIES, *ALIKE])
def test_the_inputs_of_every_target_sum_to_its_value(family: str, kind: str, dtype: str):
    model = model_of(family, dtype)

    graph = attribute(model, dictionary_of(model, kind), PROMPT)

    total = np.bincount(graph.target, weights=graph.weight, minlength=len(graph.nodes))
    gross = np.bincount(graph.target, weights=np.abs(graph.weight), minlength=len(graph.nodes))
    targets = graph.nodes.where("feature", "neuron", "logit")
    off = np.abs(total - graph.nodes.value)[targets] / gross[targets]
    assert off.max() <= {"float32": 1e-5, "float64": 1e-12}[dtype]
    assert len(targets) == graph.provenance["active"] + (graph.nodes.kind == "logit").sum()


def test_a_wrong_edge_breaks_the_law_and_is_refused(monkeypatch: pytest.MonkeyPatch):
    model = model_of("llama")
    monkeypatch.setattr("circuits.sweep._pass", lambda *_: None)  # as if attention carried nothing

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


# -- the oracle: autograd through the real model, patterns and norm scales detached, MLP outputs made leaves


def check_against_autograd(model: Model, dictionary: Dictionary) -> None:
    run = trace(model, dictionary, PROMPT)
    graph = attribute(model, dictionary, PROMPT)
    embedding, outputs, inputs, logits = _frozen_forward(model, dictionary, run.tokens)
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
        leaves = [embedding, *outputs]
        gradients = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
        gradients = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, gradients, strict=True)]
        expected = [_effect(graph, source, run, dictionary, gradients) for source in sources]
        scale = np.abs(dense[row]).max()
        np.testing.assert_allclose(dense[row, sources], expected, rtol=0, atol=1e-10 * scale)


def _effect(graph: AttributionGraph, source: int, run, dictionary: Dictionary, gradients: list[Tensor]) -> float:
    nodes = graph.nodes
    kind, layer, position, unit = nodes.kind[source], nodes.layer[source], nodes.position[source], nodes.feature[source]
    if kind == "token":
        return float((gradients[0][0, position] * run.frozen.embedding[position]).sum())
    if kind == "error":
        return float((gradients[1 + layer][0, position] * run.errors[layer, position]).sum())
    effect = 0.0
    for to in dictionary.written_layers(int(layer)):
        vector = dictionary.writing(int(layer), torch.tensor([int(unit)]), to)[0]
        if dictionary.writes == "mlp_raw":  # through the post-norm by autograd of the norm itself
            norm = run.frozen.mlp_post_norm[to]
            if norm is not None:
                centred = vector - vector.mean() if norm.centred else vector
                vector = norm.gain * centred / norm.scale[position]
        effect += float(nodes.activation[source]) * float((gradients[1 + to][0, position] * vector).sum())
    return effect


def _frozen_forward(
    model: Model, dictionary: Dictionary, tokens: Tensor
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    """The real model run with hooks: what its embedding, MLP outputs, MLP inputs and logits are, on autograd's tape."""
    scales = ["attention_scale", "mlp_scale"]
    scales += ["attention_post_scale", "mlp_post_scale"] if model.family.post_norms else []
    layers = range(model.layers)
    hold = [(name, layer) for layer in layers for name in (*scales, "pattern", "mlp_output")] + [("final_scale", 0)]
    _, clean = model.run(tokens[None], read=[*hold, ("token_embedding", 0)])
    embedding = clean[("token_embedding", 0)].clone().requires_grad_()
    outputs = [clean[("mlp_output", layer)].clone().requires_grad_() for layer in layers]
    values: dict[int, Tensor] = {}

    def keep_value(layer: int):
        return lambda value: values.__setitem__(layer, value) or value

    def mix(layer: int):
        # The pattern of the clean run times live values: the same tensor, with no path through queries and keys.
        def edit(_mixed: Tensor) -> Tensor:
            pattern = clean[("pattern", layer)]
            group = pattern.shape[1] // values[layer].shape[2]
            return torch.einsum("bhqk,bkhe->bqhe", pattern, values[layer].repeat_interleave(group, dim=2))

        return edit

    def output(layer: int):
        def edit(real: Tensor) -> Tensor:
            skip = dictionary.skip(layer)
            if skip is None:
                return outputs[layer]
            x = read_at[("mlp_" + "x", layer)]
            through = x @ skip.T
            norm = model.blocks[layer].mlp_post_norm
            if dictionary.writes == "mlp_raw" and norm is not None:
                through = norm.gain * through / clean[("mlp_post_scale", layer)]
            return outputs[layer] + through - through.detach()

        return edit

    read_at: dict = {}

    def keep_input(layer: int):
        return lambda x: read_at.__setitem__(("mlp_x", layer), x) or x

    edits = {site: (lambda s, site=site: clean[site].to(s)) for site in hold if site[0].endswith("_scale")}
    edits[("token_embedding", 0)] = lambda _: embedding
    for layer in layers:
        edits[("value", layer)] = keep_value(layer)
        edits[("mixed", layer)] = mix(layer)
        edits[(dictionary.reads, layer)] = keep_input(layer)
        edits[("mlp_output", layer)] = output(layer)
    # Norms cast to float32 on the way, whatever the model's dtype: in float64 that would be the largest error here.
    with (
        torch.enable_grad(),
        patch.object(torch, "float32", torch.float64),
        patch.object(Tensor, "float", Tensor.double),
    ):
        logits, _ = Model.run.__wrapped__(model, tokens[None], edit=edits)
    return embedding, outputs, [read_at[("mlp_x", layer)] for layer in layers], logits
