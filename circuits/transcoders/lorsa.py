"""Low-rank sparse attention: features that stand in for a layer's attention, each read through a pattern and a value.

    pattern[head] = softmax(causal(q kᵀ / scale)),  q = x W_Q[head] + b_Q[head],  k = x W_K[head] + b_K[head]
    h[unit, p] = Σ_q pattern[head of unit][p, q] (x[q] · W_V[unit] + b_V[unit]),   out[p] = Σ_unit a[unit, p] W_O[unit]

Many units share one head, a run of neighbours each. Heads may norm their queries and keys and turn them by position.

Source: He et al. 2025, "Towards Understanding the Nature of Attention with Low-Rank Sparse Decomposition".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import DamagedTranscoders
from circuits.transcoders.mapped import Mapped
from circuits.transcoders.transcoders import FEW, activate

# The fields that hold one tensor a layer: those as large as the set, and those that are small beside it.
LARGE = ("W_Q", "W_K", "W_V", "W_O")
NUMBERS = ("score_scale", "rotation", "k", "zoom", "scale")
SMALL = ("b_Q", "b_K", "b_V", "b_O", "query_gain", "key_gain", "threshold", "rank")


@dataclass(frozen=True)
class Rotation:
    """How queries and keys are turned by their position, in pairs of coordinates.

    width: how many coordinates are, the first ones. base: of the frequencies base^(-2i/width).
    adjacent: pairs are neighbours; otherwise i goes with i + width/2.
    stretch: (factor, low, high, context): frequencies that turn less than `low` times in the context are divided by the
        factor, those that turn more than `high` times are left, between them it is graded (Llama 3.1). None for none.
    """

    width: int
    base: float
    adjacent: bool
    stretch: tuple[float, float, float, int] | None = None

    def angles(self, positions: int) -> Float[Tensor, "pos pair"]:
        """By how much each pair is turned at each position, in float64."""
        frequency = self.base ** (-torch.arange(0, self.width, 2, dtype=torch.float64) / self.width)
        if self.stretch is not None:
            factor, low, high, context = self.stretch
            left = ((context * frequency / (2 * math.pi) - low) / (high - low)).clamp(0, 1)
            frequency = frequency * (left + (1 - left) / factor)
        return torch.arange(positions, dtype=torch.float64)[:, None] * frequency

    def turn(self, x: Float[Tensor, "... pos d_head"]) -> Float[Tensor, "... pos d_head"]:
        """Vectors turned by where they stand."""
        angle = self.angles(x.shape[-2])
        cos, sin = angle.cos().to(x), angle.sin().to(x)
        turned, rest = x[..., : self.width], x[..., self.width :]
        if self.adjacent:
            one, other = turned[..., ::2], turned[..., 1::2]
            moved = torch.stack([one * cos - other * sin, other * cos + one * sin], dim=-1).flatten(-2)
        else:
            one, other = turned.chunk(2, dim=-1)
            moved = torch.cat([one * cos - other * sin, other * cos + one * sin], dim=-1)
        return torch.cat([moved, rest], dim=-1)


@dataclass(frozen=True, eq=False)
class Lorsa:
    """A set for the attention of some layers, all of one size. Feature numbers run from 0 in each layer.

    name, content_hash: which one it is. numbers: the model's layers whose attention it replaces.
    reads: "attention_input" (after the norm and gain) or "attention_normalised" (before the gain).
    writes: "attention_output" (as it joins the residual stream) or "attention_raw" (before a norm on it).
    W_Q, W_K: [head d_model d_head]. b_Q, b_K: [head d_head]. W_V, W_O: [unit d_model]. b_V: [unit]. b_O: [d_model].
    query_gain, key_gain: of an RMS norm on every head's queries and keys [head d_head], eps in its root; or None.
    score_scale: what scores are divided by. rotation: see there; or None.
    threshold, rank: [unit]; k: how many; as in `Transcoders`. zoom, scale: what inputs are multiplied by before all
        else, and outputs after it. All of these are by layer, in the order of `numbers`.
    declared: the mean number of active features a token that its publisher states, where known.
    notes: per unit "layer/attn/unit", as in `Dictionary`.

    Large weights may stay in their files, as those of `Transcoders` do; unchecked: nobody has read them yet.
    """

    name: str
    content_hash: str
    numbers: tuple[int, ...]
    reads: str
    writes: str
    W_Q: Sequence[Float[Tensor, "head d_model d_head"]]
    W_K: Sequence[Float[Tensor, "head d_model d_head"]]
    b_Q: Sequence[Float[Tensor, "head d_head"]]
    b_K: Sequence[Float[Tensor, "head d_head"]]
    W_V: Sequence[Float[Tensor, "unit d_model"]]
    W_O: Sequence[Float[Tensor, "unit d_model"]]
    b_V: Sequence[Float[Tensor, "unit"]]
    b_O: Sequence[Float[Tensor, "d_model"]]
    threshold: Sequence[Float[Tensor, "unit"]]
    score_scale: Sequence[float]
    rotation: Sequence[Rotation | None]
    query_gain: Sequence[Float[Tensor, "head d_head"]] | None = None
    key_gain: Sequence[Float[Tensor, "head d_head"]] | None = None
    eps: float = 1e-6
    rank: Sequence[Float[Tensor, "unit"]] | None = None
    k: Sequence[int] | None = None
    zoom: Sequence[float] | None = None
    scale: Sequence[float] | None = None
    declared: float | None = None
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    unchecked: bool = False

    @property
    def d_model(self) -> int:
        return self.b_O[0].shape[-1]

    @property
    def units(self) -> int:
        return self.b_V[0].shape[0]

    @property
    def heads(self) -> int:
        """How many patterns a layer has."""
        return self.b_Q[0].shape[0]

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return sum(torch.Size(weight.shape).numel() for name in LARGE for weight in getattr(self, name))

    def head_of(self, unit: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """Through which pattern each unit looks."""
        return unit // (self.units // self.heads)

    def patterns(self, layer: int, x: Float[Tensor, "... pos d_model"]) -> Float[Tensor, "... head pos pos"]:
        """Where each head looks, queries first, for inputs x of a layer."""
        at = self.numbers.index(layer)
        x = self._zoomed(at, x)
        query = self._project(at, x, "W_Q", "b_Q", self.query_gain)
        key = self._project(at, x, "W_K", "b_K", self.key_gain)
        scores = query @ key.transpose(-1, -2) / self.score_scale[at]
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
        return scores.masked_fill(later, -torch.inf).softmax(-1)

    def activations(self, layer: int, x: Float[Tensor, "... pos d_model"]) -> Float[Tensor, "... pos unit"]:
        """Every unit's activation at every position."""
        at = self.numbers.index(layer)
        value = self._zoomed(at, x) @ self.W_V[at].to(x).T + self.b_V[at]
        value = value.unflatten(-1, (self.heads, -1)).transpose(-2, -3)
        before = (self.patterns(layer, x) @ value).transpose(-2, -3).flatten(-2)
        if self.unchecked and not torch.isfinite(before).all() and torch.isfinite(x).all():
            raise self._not_finite("W_Q, W_K or W_V", layer)
        k = None if self.k is None else self.k[at]
        return activate(before, self.threshold[at], k, None if self.rank is None else self.rank[at])

    def reading(self, layer: int, unit: Int[Tensor, "n"]) -> tuple[Float[Tensor, "n d_model"], Float[Tensor, "n"]]:
        """What each unit reads at every key that it looks at, and its constant: patterns sum to one."""
        at = self.numbers.index(layer)
        return self._zoomed(at, self._rows(self.W_V[at], unit)), self.b_V[at][unit]

    def writing(self, layer: int, unit: Int[Tensor, "n"]) -> Float[Tensor, "n d_model"]:
        """What each unit adds to the attention's output, per one of activation."""
        at = self.numbers.index(layer)
        rows = self._rows(self.W_O[at], unit)
        if self.unchecked and not torch.isfinite(rows).all():
            raise self._not_finite("W_O", layer)
        return rows if self.scale is None else rows * self.scale[at]

    def decode(self, layer: int, activations: Float[Tensor, "... unit"]) -> Float[Tensor, "... d_model"]:
        """What all units together add to the attention's output, the bias not included."""
        if activations.shape[-1] > FEW:
            unit = activations.flatten(0, -2).any(0).nonzero()[:, 0]
            return activations[..., unit] @ self.writing(layer, unit)
        return activations @ self.writing(layer, torch.arange(self.units, device=activations.device))

    def bias(self, layer: int) -> Float[Tensor, "d_model"]:
        """The constant part of what it says the attention puts out."""
        return self.b_O[self.numbers.index(layer)]

    def only(self, numbers: Sequence[int]) -> Lorsa:
        """Some of its layers, by the model's numbers of them."""

        def picked(weights: Sequence) -> Mapped:
            places = [self.numbers.index(number) for number in numbers]
            return Mapped([lambda at=at: weights[at] for at in places])

        per_layer = {name: getattr(self, name) for name in (*LARGE, *SMALL, *NUMBERS)}
        found = {name: picked(weights) for name, weights in per_layer.items() if weights is not None}
        return replace(self, **found, numbers=tuple(numbers))

    def to(self, device: torch.device, dtype: torch.dtype, *, whole: bool) -> Lorsa:
        """The same set, its small tensors moved; with `whole` the large ones too, read from their files and checked.

        Raises:
            DamagedTranscoders: a large weight that was not read before holds a NaN or an infinity.
        """
        moved: dict[str, Any] = {}
        for name in (*SMALL, *(LARGE if whole else ())):
            found = getattr(self, name)
            if found is None:
                continue
            moved[name] = [weight.to(device, dtype).contiguous() for weight in found]
            if self.unchecked and name in LARGE:
                for layer, weight in zip(self.numbers, moved[name], strict=True):
                    if not torch.isfinite(weight).all():
                        raise self._not_finite(name, layer)
        return replace(self, **moved, unchecked=self.unchecked and not whole)

    def _project(
        self, at: int, x: Tensor, weight: str, bias: str, gain: Sequence[Tensor] | None
    ) -> Float[Tensor, "... head pos d_head"]:
        """Queries or keys."""
        found = torch.einsum("...pd,hde->...hpe", x, getattr(self, weight)[at].to(x))
        found = found + getattr(self, bias)[at][:, None]
        if gain is not None:
            found = found / (found.square().mean(-1, keepdim=True) + self.eps).sqrt() * gain[at][:, None]
        rotation = self.rotation[at]
        return found if rotation is None else rotation.turn(found)

    def _zoomed(self, at: int, x: Tensor) -> Tensor:
        return x if self.zoom is None else x * self.zoom[at]

    def _rows(self, weight: Float[Tensor, "unit d"], unit: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        return weight[unit.to(weight.device)].to(self.b_O[0])

    def _not_finite(self, weight: str, layer: int) -> DamagedTranscoders:
        return DamagedTranscoders(
            f"{self.name}: {weight} of layer {layer} holds a NaN or an infinity: the file is damaged, fetch it again."
        )
