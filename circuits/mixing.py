"""Attention's own part of the sweep: gradients moved from queries to keys, rows of different lengths side by side.

Every target owns as many rows as it has positions to its left, itself included. One kernel a kind of device.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor


def mix(
    mixing: Float[Tensor, "head key query"],
    z: Float[Tensor, "row head_width"],
    start: np.ndarray,
    length: np.ndarray,
    kv_heads: int,
) -> Float[Tensor, "row kv_width"]:
    """`out[key] = Σ_query>=key mixing[head, key, query] z[query]` for each target, query heads summed into value heads.

    start, length: the rows of target j are z[start[j] : start[j] + length[j]], for positions 0 to length[j] - 1.
    """
    kernel = _on_cpu if z.device.type == "cpu" else _padded
    return kernel(mixing, z, start, length, kv_heads)


def _on_cpu(mixing: Tensor, z: Tensor, start: np.ndarray, length: np.ndarray, kv_heads: int) -> Tensor:
    out = z.new_zeros(len(z), z.shape[1] // len(mixing) * kv_heads)
    _mix_rows(mixing.numpy(), z.numpy(), start, length, kv_heads, out.numpy())
    return out


def _padded(mixing: Tensor, z: Tensor, start: np.ndarray, length: np.ndarray, kv_heads: int) -> Tensor:
    """One batched product over all targets, each filled up with zeros to the longest."""
    longest, targets = int(length.max()), len(start)
    place = torch.from_numpy(start[:, None] + np.arange(longest)).to(z.device)
    inside = torch.from_numpy(np.arange(longest) < length[:, None]).to(z.device)
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
def _mix_rows(mixing, z, start, length, kv_heads, out):
    heads = mixing.shape[0]
    width = z.shape[1] // heads
    group = heads // kv_heads
    for target in range(len(start)):
        first, last = start[target], start[target] + length[target]
        for head in range(heads):
            of, to = head * width, head // group * width
            for key in range(first, last):
                row = out[key, to : to + width]
                for query in range(key, last):
                    weight = mixing[head, key - first, query - first]
                    if weight != 0:
                        given = z[query, of : of + width]
                        for e in range(width):
                            row[e] += weight * given[e]
