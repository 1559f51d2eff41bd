"""A run on the clean prompt in which only a circuit's edges carry it: every other edge carries the corrupted prompt.

    input_v = stream + Σ_u cut[u, v] (u(corrupted) - u now),   cut 0 for the circuit's edges and 1 for the others

Between 0 and 1 an edge is cut in part; the derivative of the loss by `cut`, nothing being cut, is the score of EAP.
Where a norm stands on what attention writes, a reader sees that norm of the heads as they are cut.

Source: Hanna et al. 2024 (EAP-IG), its evaluation; METHODS section 8.2, circuit run.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.transformer import Layer, Run, Transformer, normalise


def run_circuit(
    transformer: Transformer,
    embedding: Float[Tensor, "pair pos d_model"],
    corrupted: Run,
    cut: Float[Tensor, "source reader"],
) -> Float[Tensor, "pair pos d_model"]:
    """The stream that the logits read at the end.

    embedding: of the clean prompts. corrupted: the whole run on the others.
    Lays out one input for each head of a layer: [pair head pos d_model] numbers at a time, some few of them.
    """
    stream = transformer.begin(embedding)
    seen = _Seen(transformer, corrupted, corrupted.before[0] - stream)
    column, heads = 0, transformer.heads
    for at, layer in enumerate(transformer.layers):
        own = [
            layer_of(normalise(layer.norm, stream[:, None] + seen.change(cut[:, first : first + heads])))
            for first, layer_of in zip(
                range(column, column + 3 * heads, heads),
                (layer.query.each, layer.key.each, layer.value.each),
                strict=True,
            )
        ]
        mixed = layer.attend(*own)
        attention = layer.write(mixed)
        written = seen.add_heads(layer, mixed, attention, at)
        middle = stream + written
        if transformer.parallel:
            change = seen.change(cut[:, column + 3 * heads, None], heads_of_last=False)
            read = stream + change[:, 0]
        else:
            read = middle + seen.change(cut[:, column + 3 * heads, None])[:, 0]
        mlp = layer.mlp(read)
        seen.add_mlp(mlp, at)
        stream, column = middle + mlp, column + 3 * heads + 1
    return stream + seen.change(cut[:, column, None])[:, 0]


class _Seen:
    """What was written so far, and how it differs from the corrupted run."""

    def __init__(self, transformer: Transformer, corrupted: Run, first: Tensor) -> None:
        self._transformer, self._corrupted = transformer, corrupted
        self._input = first
        self._heads: list[Tensor] = []  # corrupted less now, before any norm on it [pair head pos d_model]
        self._attention: list[Tensor] = []  # their sum as it is now, with the bias [pair pos d_model]
        self._mlps: list[Tensor] = []

    def add_heads(self, layer: Layer, mixed: Tensor, attention: Tensor, at: int) -> Tensor:
        """Take in a layer's heads; returns what they add to the stream."""
        self._heads.append((self._corrupted.mixed[at] - mixed) @ layer.W_O)
        self._attention.append(attention)
        return normalise(layer.post_norm, attention)

    def add_mlp(self, mlp: Tensor, at: int) -> None:
        """Take in a layer's MLP."""
        self._mlps.append(self._corrupted.mlp[at] - mlp)

    def change(self, cut: Float[Tensor, "source reader"], *, heads_of_last: bool = True) -> Tensor:
        """What cutting these edges adds to the input of some readers. [pair reader pos d_model]"""
        heads = self._transformer.heads
        found = torch.einsum("r,bpd->brpd", cut[0], self._input)
        row = 1
        for at, (by_head, attention) in enumerate(zip(self._heads, self._attention, strict=True)):
            if heads_of_last or at < len(self._mlps):
                part = torch.einsum("hr,bhpd->brpd", cut[row : row + heads], by_head)
                norm = self._transformer.layers[at].post_norm
                if norm is not None:
                    part = norm(attention[:, None] + part) - norm(attention)[:, None]
                found = found + part
            if at < len(self._mlps):
                found = found + torch.einsum("r,bpd->brpd", cut[row + heads], self._mlps[at])
            row += heads + 1
        return found
