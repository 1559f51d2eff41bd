"""A model's weights, taken apart: what a frozen model, and the scores of its heads, are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Norm:
    """The affine part of a norm. gain, bias: [d_model]; bias is None where the norm has none."""

    gain: Float[Tensor, "d_model"]
    bias: Float[Tensor, "d_model"] | None


@dataclass(frozen=True, eq=False)
class Block:
    """The weights of one layer that a frozen model needs; biases are None where the model has none.

    W_V [kv_head d_model d_head], W_O [head d_head d_model], b_V [kv_head d_head], b_O [d_model].
    W_gate, W_in [d_model neuron], W_out [neuron d_model], b_gate, b_in [neuron], b_out [d_model]; W_gate is None where
    the MLP has no gate. W_in of a gated MLP is the one whose output is not passed through the activation. Experts
    are not told here, nor is an MLP that is not there: both have no neurons.
    Norms: before attention, after it, before the MLP, after it; None where the family has none.
    """

    W_V: Tensor
    W_O: Tensor
    b_V: Tensor | None
    b_O: Tensor | None
    W_gate: Tensor | None
    W_in: Tensor
    W_out: Tensor
    b_gate: Tensor | None
    b_in: Tensor | None
    b_out: Tensor | None
    attention_norm: Norm | None
    attention_post_norm: Norm | None
    mlp_norm: Norm | None
    mlp_post_norm: Norm | None


@dataclass(frozen=True, eq=False)
class AttentionScores:
    """How one layer's heads come to their patterns.

    W_Q [head d_model d_head], W_K [kv_head d_model d_head]; biases b_Q [head d_head], b_K [kv_head d_head] or None.
    query_norm, key_norm: gain of an RMS norm on every head's queries and keys [d_head], or None.
    scale: of the scores; cap: their soft cap or None; window: how many keys back a query sees, None for all.
    rotation: the model's own function from (a tensor of the dtype wanted, positions) to cosines and sines, or None.
    """

    W_Q: Tensor
    W_K: Tensor
    b_Q: Tensor | None
    b_K: Tensor | None
    query_norm: Tensor | None
    key_norm: Tensor | None
    scale: float
    cap: float | None
    window: int | None
    rotation: Callable[[Tensor, Tensor], Any] | None


class Brought(Sequence[Block]):
    """Blocks whose MLPs are copied to a device when they are asked for, and not kept."""

    def __init__(self, blocks: Sequence[Block], device: torch.device) -> None:
        self._blocks, self._device = blocks, device

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, layer: Any) -> Any:
        block = self._blocks[layer]
        weights = {name: getattr(block, name) for name in ("W_gate", "W_in", "W_out", "b_gate", "b_in", "b_out")}
        moved = {name: None if weight is None else weight.to(self._device) for name, weight in weights.items()}
        return replace(block, **moved)
