"""What a layer's heads write more when the queries, keys or values of one of them, each in turn, are others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.layers import Layer
from circuits.components.transformer import Run

READ = ("query", "key", "value")


def change_one_head(
    layer: Layer,
    read: Sequence[Float[Tensor, "pair head pos d_head"]],
    mixed: Float[Tensor, "pair head pos d_head"],
    own: int,
    other: Float[Tensor, "pair some pos d_head"],
    heads: slice = slice(None),
) -> Float[Tensor, "some pair pos d_model"]:
    """The sum of the heads' writes, less what it was, before any norm on it. One for each of these heads.

    read: queries, keys and values as they were; mixed: what came of them. own: which of the three is another.
    """
    if layer.joint and own < READ.index("value"):
        found = []
        for at, head in enumerate(range(len(layer.W_O))[heads]):
            all_heads = list(read)
            before, after = read[own][:, :head], read[own][:, head + 1 :]
            all_heads[own] = torch.cat((before, other[:, at : at + 1], after), 1)
            found.append(torch.einsum("bhpe,hed->bpd", layer.attend(*all_heads) - mixed, layer.W_O))
        return torch.stack(found)
    if layer.joint:  # values alone leave the norm as it is, but patterns want every head's queries and keys
        values = read[own].clone()
        values[:, heads] = other
        now = layer.attend(read[0], read[1], values)[:, heads]
    else:
        some = [each[:, heads] for each in read]
        some[own] = other
        now = layer.attend(*some)
    return torch.einsum("bhpe,hed->hbpd", now - mixed[:, heads], layer.W_O[heads])


def read_by_heads(run: Run, at: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a layer."""
    return run.query[at], run.key[at], run.value[at]


def beyond_norm(
    layer: Layer, attention: Float[Tensor, "pair pos d_model"], change: Float[Tensor, "*some pair pos d_model"]
) -> Float[Tensor, "*some pair pos d_model"]:
    """What the stream gets more when the heads' sum, which was `attention`, changes so."""
    if layer.post_norm is None:
        return change
    return layer.post_norm(attention + change) - layer.post_norm(attention)
