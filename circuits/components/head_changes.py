"""What a layer's heads write more when the queries, keys or values of one of them, each in turn, are others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.transformer import Layer, Run

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
    some = [each[:, heads] for each in read]
    some[own] = other
    return torch.einsum("bhpe,hed->hbpd", layer.attend(*some) - mixed[:, heads], layer.W_O[heads])


def read_by_heads(run: Run, at: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a layer."""
    return run.query[at], run.key[at], run.value[at]


def beyond_norm(
    layer: Layer, attention: Float[Tensor, "pair pos d_model"], change: Float[Tensor, "some pair pos d_model"]
) -> Float[Tensor, "some pair pos d_model"]:
    """What the stream gets more when the heads' sum, which was `attention`, changes so."""
    if layer.post_norm is None:
        return change
    return layer.post_norm(attention + change) - layer.post_norm(attention)
