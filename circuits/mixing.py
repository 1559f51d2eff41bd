"""Attention's own part of the sweep: gradients moved from queries to keys, rows of different lengths side by side.

Every target owns as many rows as it has positions to its left, itself included; where attention looks both ways, one
for each position. One kernel a kind of device.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

SHORT = 128  # positions up to which a loop over keys and queries is faster than products that are half wasted


def mix(
    mixing: Float[Tensor, "head key query"],
    z: Float[Tensor, "row head_width"],
    start: np.ndarray,
    length: np.ndarray,
    kv_heads: int,
    *,
    causal: bool = True,
) -> Float[Tensor, "row kv_width"]:
    """`out[key] = Σ_query mixing[head, key, query] z[query]` for each target, query heads summed into value heads.

    start, length: the rows of target j are z[start[j] : start[j] + length[j]], for positions 0 to length[j] - 1.
    causal: no query looks to its right, so that queries before a key are left out.
    """
    if z.device.type != "cpu":
        return _padded(mixing, z, start, length, kv_heads)
    kernel = _on_cpu if int(length.max()) <= SHORT else _by_products
    return kernel(mixing, z, start, length, kv_heads, causal)


def _by_products(
    mixing: Tensor, z: Tensor, start: np.ndarray, length: np.ndarray, kv_heads: int, causal: bool
) -> Tensor:
    """For long prompts: matrix products for each target, over the queries that are not before any of some keys."""
    out = z.new_empty(len(z), z.shape[1] // len(mixing) * kv_heads)
    for first, rows in zip(start.tolist(), length.tolist(), strict=True):
        given = z[first : first + rows].unflatten(1, (len(mixing), -1)).transpose(0, 1)
        taken = out[first : first + rows].unflatten(1, (kv_heads, -1))
        for key in range(0, rows, SHORT):
            keys = slice(key, min(key + SHORT, rows))
            first_query = key if causal else 0
            moved = torch.bmm(mixing[:, keys, first_query:rows], given[:, first_query:])
            taken[keys] = moved.unflatten(0, (kv_heads, -1)).sum(1).transpose(0, 1)
    return out


def unfold(
    mixing: Float[Tensor, "head key query"],
    vectors: Float[Tensor, "target spoke width"],
    start: np.ndarray,
    length: np.ndarray,
    position: np.ndarray,
    out: Float[Tensor, "row width"],
) -> None:
    """`out[key] = Σ_head mixing[head, key, own] vectors[head]` of each target, its last vector too where key = own.

    start, length: the rows of out, as for `mix`. position: of each target.
    """
    kernel = _unfold_on_cpu if out.device.type == "cpu" else _unfold_padded
    kernel(mixing, vectors, start, length, position, out)


def _unfold_on_cpu(
    mixing: Tensor, vectors: Tensor, start: np.ndarray, length: np.ndarray, position: np.ndarray, out: Tensor
) -> None:
    _unfold_rows(mixing.numpy(), vectors.numpy(), start, length, position, out.numpy())


def _unfold_padded(
    mixing: Tensor, vectors: Tensor, start: np.ndarray, length: np.ndarray, position: np.ndarray, out: Tensor
) -> None:
    place, inside = _places(start, length, out)
    own = torch.from_numpy(position).to(out.device)
    moved = torch.einsum("hkt,thd->tkd", mixing[:, : int(length.max()), own], vectors[:, :-1])
    out[place[inside]] = moved[inside]
    out[torch.from_numpy(start + position).to(out.device)] += vectors[:, -1]


def _places(start: np.ndarray, length: np.ndarray, like: Tensor) -> tuple[Tensor, Tensor]:
    """Which row each position of each target is, up to the longest; and which of these there are."""
    longest = np.arange(int(length.max()))
    place, inside = start[:, None] + longest, longest < length[:, None]
    return torch.from_numpy(place).to(like.device), torch.from_numpy(inside).to(like.device)


def _on_cpu(mixing: Tensor, z: Tensor, start: np.ndarray, length: np.ndarray, kv_heads: int, causal: bool) -> Tensor:
    out = z.new_zeros(len(z), z.shape[1] // len(mixing) * kv_heads)
    _mix_rows(mixing.numpy(), z.numpy(), start, length, kv_heads, causal, out.numpy())
    return out


def _padded(mixing: Tensor, z: Tensor, start: np.ndarray, length: np.ndarray, kv_heads: int) -> Tensor:
    """One batched product over all targets, each filled up with zeros to the longest."""
    longest, targets = int(length.max()), len(start)
    place, inside = _places(start, length, z)
    padded = z.new_zeros(targets, longest, z.shape[1])
    padded[inside] = z[place[inside]]
    padded = padded.view(targets, longest, kv_heads, len(mixing) // kv_heads, -1)
    grouped = mixing[:, :longest, :longest].unflatten(0, (kv_heads, -1))
    moved = torch.einsum("vgkq,tqvge->tkve", grouped, padded).flatten(2)
    out = z.new_zeros(len(z), moved.shape[2])
    out[place[inside]] = moved[inside]
    return out


@njit(cache=True, fastmath=True, nogil=True)
@no_type_check
def _mix_rows(mixing, z, start, length, kv_heads, causal, out):
    heads = mixing.shape[0]
    width = z.shape[1] // heads
    group = heads // kv_heads
    for target in range(len(start)):
        first, last = start[target], start[target] + length[target]
        for head in range(heads):
            of, to = head * width, head // group * width
            for key in range(first, last):
                row = out[key, to : to + width]
                for query in range(key if causal else first, last):
                    weight = mixing[head, key - first, query - first]
                    if weight != 0:
                        given = z[query, of : of + width]
                        for e in range(width):
                            row[e] += weight * given[e]


@njit(cache=True, fastmath=True, nogil=True)
@no_type_check
def _unfold_rows(mixing, vectors, start, length, position, out):
    heads = mixing.shape[0]
    for target in range(len(start)):
        own = position[target]
        for key in range(length[target]):
            row = out[start[target] + key]
            if key == own:
                row[:] = vectors[target, heads]
            else:
                row[:] = 0
            for head in range(heads):
                weight = mixing[head, key, own]
                if weight != 0:
                    given = vectors[target, head]
                    for e in range(len(row)):
                        row[e] += weight * given[e]
