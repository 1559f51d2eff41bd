"""The slow way to an edge: autograd through the real model's own forward pass.

Patterns and norm scales are detached, MLP outputs made leaves.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor

from circuits.model import Model
from circuits.transcoders.base import Dictionary
from graphs.graph import AttributionGraph


@contextmanager
def norms_in_float64() -> Iterator[None]:
    """Norms cast to float32 on the way, whatever the model's dtype: in float64 that would be the largest error."""
    with patch.object(torch, "float32", torch.float64), patch.object(Tensor, "float", Tensor.double):
        yield


def effect(graph: AttributionGraph, source: int, run, dictionary: Dictionary, gradients: list[Tensor]) -> float:
    nodes = graph.nodes
    kind, layer, position, unit = nodes.kind[source], nodes.layer[source], nodes.position[source], nodes.feature[source]
    if kind == "token":
        return float((gradients[0][0, position] * run.frozen.embedding[position]).sum())
    if kind == "error":
        return float((gradients[1 + layer][0, position] * run.errors[layer, position]).sum())
    effect = 0.0
    for to in dictionary.written_layers(int(layer)):
        vector = dictionary.writing(int(layer), torch.tensor([int(unit)]), to)[0]
        if dictionary.at(to).writes == "mlp_raw":  # through the post-norm by autograd of the norm itself
            norm = run.frozen.mlp_post_norm[to]
            if norm is not None:
                centred = vector - vector.mean() if norm.centred else vector
                vector = norm.gain * centred / norm.scale[position]
        effect += float(nodes.activation[source]) * float((gradients[1 + to][0, position] * vector).sum())
    return effect


def frozen_forward(
    model: Model, dictionary: Dictionary, tokens: Tensor
) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
    """The real model run with hooks, on autograd's tape.

    Gives the leaves (embedding, then each layer's MLP output), what each MLP reads, what each adds, and the logits.
    """
    layers = range(model.layers)
    hold = [(name, layer) for layer in layers for name in ("pattern", "mlp_output")] + model.scales()
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
            added[layer] = outputs[layer]
            if skip is None:
                return added[layer]
            x = read_at[("mlp_" + "x", layer)]
            through = x @ skip.T
            norm = model.blocks[layer].mlp_post_norm
            if dictionary.at(layer).writes == "mlp_raw" and norm is not None:
                through = norm.gain * through / clean[("mlp_post_scale", layer)]
            added[layer] = outputs[layer] + through - through.detach()
            return added[layer]

        return edit

    read_at: dict = {}
    added: dict[int, Tensor] = {}

    def keep_input(layer: int):
        return lambda x: read_at.__setitem__(("mlp_x", layer), x) or x

    edits = {site: (lambda s, site=site: clean[site].to(s)) for site in hold if site[0].endswith("_scale")}
    edits[("token_embedding", 0)] = lambda _: embedding
    for layer in layers:
        edits[("value", layer)] = keep_value(layer)
        edits[("mixed", layer)] = mix(layer)
        edits[(dictionary.at(layer).reads, layer)] = keep_input(layer)
        edits[("mlp_output", layer)] = output(layer)
    with torch.enable_grad(), norms_in_float64():
        logits, _ = model.run(tokens[None], edit=edits, gradient=True)
    inputs = [read_at[("mlp_x", layer)] for layer in layers]
    return [embedding, *outputs], inputs, [added[layer] for layer in layers], logits
