"""Trained transcoders: sparse features that read an MLP's input and write its output, and perhaps later ones' too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import DamagedTranscoders
from circuits.model import Model
from circuits.transcoders.base import StandIn
from circuits.transcoders.mapped import ByTarget, Mapped, fetch_rows

BLOCK = 2**20  # numbers of an encoder that are converted and multiplied at once: they stay in cache
FEW = 2**12  # with more units than this, decoding gathers the rows of the live ones

# The fields that hold one tensor a layer: those as large as the set, and those that are small beside it.
LARGE = ("W_enc", "W_dec", "W_skip")
SMALL = ("b_enc", "threshold", "b_dec", "centre", "scale", "rank")


@dataclass(frozen=True, eq=False)
class Transcoders:
    """A per-layer set when every decoder writes one layer, a cross-layer one when it writes its own and all later.

    Feature i of a layer: `h = W_enc[i] · zoom (x - centre) + b_enc[i]`, `a = h if h > threshold[i] else 0` (ReLU:
    threshold 0), and with TopK only where `h rank[i]` is among the k largest of its token.
    Layer l is rebuilt as `Σ_{s <= l} (a_s scale[s][:, l - s]) @ W_dec[s][:, l - s] + b_dec[l] (+ W_skip[l] x)`.

    W_enc: per layer [unit d_in]. b_enc, threshold: per layer [unit]. W_dec: per layer [unit written_layer d_out].
    b_dec: per layer [d_out]. W_skip: per layer [d_out d_in], or None. The other fields: see `Dictionary`, `StandIn`.
    zoom: per layer a number. centre: per layer [d_in]. rank: per layer [unit]. scale: per layer [unit written_layer].
    k: per layer how many. None, for these five: a layout that knows no such thing; they do nothing.
    numbers: the model's layers these are, None for all from 0 on.
    declared: the mean number of active features a token that its publisher states, where known.

    The large weights may be of another dtype and place than the small ones (`b_dec` and so on), memory maps for
    instance. Work is done in the dtype and place of the small ones; what is needed of the large ones is converted.
    unchecked: nobody has read the large weights yet, so that NaNs in them are looked for when they are used.
    """

    name: str
    content_hash: str
    W_enc: Sequence[Float[Tensor, "unit d_in"]]
    b_enc: Sequence[Float[Tensor, "unit"]]
    threshold: Sequence[Float[Tensor, "unit"]]
    W_dec: Sequence[Float[Tensor, "unit _ d_out"] | ByTarget]
    b_dec: Sequence[Float[Tensor, "d_out"]]
    W_skip: Sequence[Float[Tensor, "d_out d_in"]] | None
    reads: str
    writes: str
    silent_positions: int
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    kind: str = "feature"
    exact: bool = False
    zoom: Sequence[float] | None = None
    centre: Sequence[Float[Tensor, "d_in"]] | None = None
    rank: Sequence[Float[Tensor, "unit"]] | None = None
    scale: Sequence[Float[Tensor, "unit _"]] | None = None
    k: Sequence[int] | None = None
    numbers: tuple[int, ...] | None = None
    declared: float | None = None
    unchecked: bool = False

    def __repr__(self) -> str:
        kind = "cross-layer" if self.cross_layer else "per-layer"
        return f"Transcoders({self.name!r}: {kind}, {self.layers} layers of {self.units:,} units, width {self.d_model})"

    @property
    def layers(self) -> int:
        return len(self.b_enc)

    @property
    def d_model(self) -> int:
        return self.b_dec[0].shape[-1]

    @property
    def units(self) -> int:
        return self.b_enc[0].shape[0]

    @property
    def cross_layer(self) -> bool:
        """Whether some feature writes to a later layer than its own."""
        return any(decoder.shape[1] > 1 for decoder in self.W_dec)

    @property
    def of_layers(self) -> tuple[int, ...]:
        """The model's layers these are."""
        return tuple(range(self.layers)) if self.numbers is None else self.numbers

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        large = [getattr(self, name) for name in LARGE]
        return sum(torch.Size(weight.shape).numel() for weights in large if weights is not None for weight in weights)

    def at(self, layer: int) -> StandIn:
        return StandIn(self.kind, self.units, self.reads, self.writes, self.exact, self.silent_positions)

    def for_model(self, model: Model) -> Transcoders:
        return self

    def activations(self, layer: int, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... unit"]:
        k = None if self.k is None else self.k[layer]
        rank = None if self.rank is None else self.rank[layer]
        return activate(self._encode(layer, x), self.threshold[layer], k, rank)

    def _encode(self, layer: int, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... unit"]:
        if self.centre is not None:
            x = x - self.centre[layer]
        if self.zoom is not None:
            x = x * self.zoom[layer]
        encoder, bias = self.W_enc[layer], self.b_enc[layer]
        ready = (encoder.dtype, encoder.device) == (x.dtype, x.device)
        rows = len(encoder) if ready else max(1, BLOCK // max(1, encoder.shape[1]))
        if len(encoder) <= rows:
            before = x @ encoder.to(x).T + bias
        else:
            before = x.new_empty(*x.shape[:-1], len(encoder))
            for first in range(0, len(encoder), rows):
                here = slice(first, first + rows)
                before[..., here] = x @ encoder[here].to(x).T + bias[here]
        if self.unchecked and not torch.isfinite(before).all() and torch.isfinite(x).all():
            raise _not_finite(self.name, "W_enc", layer)
        return before

    def reading(
        self, layer: int, x: Float[Tensor, "n d_in"], unit: Int[Tensor, "n"]
    ) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n"]]:
        vector, constant = self._rows(self.W_enc[layer], unit), self.b_enc[layer][unit]
        if self.zoom is not None:
            vector = vector * self.zoom[layer]
        if self.centre is not None:
            constant = constant - vector @ self.centre[layer]
        return vector, constant

    def written_layers(self, layer: int) -> range:
        return range(layer, layer + self.W_dec[layer].shape[1])

    def writing(self, layer: int, unit: Int[Tensor, "n"], to: int) -> Float[Tensor, "n d_out"]:
        rows = self._rows(self.W_dec[layer][:, to - layer], unit)
        if self.unchecked and not torch.isfinite(rows).all():
            raise _not_finite(self.name, "W_dec", layer)
        return rows if self.scale is None else rows * self.scale[layer][unit, to - layer, None]

    def decode(self, layer: int, activations: Float[Tensor, "... unit"], to: int) -> Float[Tensor, "... d_out"]:
        if activations.shape[-1] > FEW:
            unit = activations.flatten(0, -2).any(0).nonzero()[:, 0]
            return activations[..., unit] @ self.writing(layer, unit, to)
        if self.scale is not None:
            activations = activations * self.scale[layer][:, to - layer]
        return activations @ self.W_dec[layer][:, to - layer].to(activations)

    def bias(self, layer: int) -> Float[Tensor, "d_out"]:
        return self.b_dec[layer]

    def skip(self, layer: int) -> Float[Tensor, "d_out d_in"] | None:
        return None if self.W_skip is None else self.W_skip[layer].to(self.b_dec[layer])

    def reconstruct(
        self, x: Float[Tensor, "layer pos d_in"]
    ) -> tuple[Float[Tensor, "layer pos unit"], Float[Tensor, "layer pos d_out"]]:
        """Activations and rebuilt MLP outputs for given inputs, no model needed."""
        acts = [self.activations(layer, x[layer]) for layer in range(self.layers)]
        out = []
        for to in range(self.layers):
            rebuilt = self.b_dec[to].expand(x.shape[1], -1)
            for layer in range(to + 1):
                if to in self.written_layers(layer):
                    rebuilt = rebuilt + self.decode(layer, acts[layer], to)
            skip = self.skip(to)
            if skip is not None:
                rebuilt = rebuilt + x[to] @ skip.T
            out.append(rebuilt)
        return torch.stack(acts), torch.stack(out)

    def only(self, numbers: Sequence[int]) -> Transcoders:
        """Some of the layers of a per-layer set, by the model's numbers of them."""
        places = [self.of_layers.index(number) for number in numbers]

        def picked(weights: Sequence) -> Mapped:
            return Mapped([lambda at=at: weights[at] for at in places])

        per_layer = {name: getattr(self, name) for name in (*LARGE, *SMALL, "zoom", "k")}
        found = {name: picked(weights) for name, weights in per_layer.items() if weights is not None}
        return replace(self, **found, numbers=tuple(numbers))

    def to(self, device: torch.device, dtype: torch.dtype, *, whole: bool) -> Transcoders:
        """The same set, its small tensors moved; with `whole` the large ones too, read from their files and checked.

        Raises:
            DamagedTranscoders: a large weight that was not read before holds a NaN or an infinity.
        """
        moved: dict[str, Any] = {}
        for name in (*SMALL, *(LARGE if whole else ())):
            found = getattr(self, name)
            if found is not None:
                moved[name] = [self._moved(name, i, weight, device, dtype) for i, weight in enumerate(found)]
        return replace(self, **moved, unchecked=self.unchecked and not whole)

    def _moved(self, name: str, layer: int, weight: Tensor | ByTarget, device: torch.device, dtype: torch.dtype):
        moved = (weight.whole() if isinstance(weight, ByTarget) else weight).to(device, dtype).contiguous()
        if self.unchecked and name in LARGE and not torch.isfinite(moved).all():
            raise _not_finite(self.name, name, layer)
        return moved

    def _rows(self, weight: Float[Tensor, "unit d"], unit: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        unit = unit.to(weight.device)
        if self.unchecked:
            fetch_rows(weight, unit)
        return weight[unit].to(self.b_dec[0])


def activate(
    before: Float[Tensor, "... unit"], threshold: Float[Tensor, "unit"], k: int | None, rank: Tensor | None
) -> Float[Tensor, "... unit"]:
    """What is above its threshold, and with `k` among the k largest of its token, times `rank` where there is one."""
    live = before > threshold
    if k is not None:
        ranked = before if rank is None else before * rank
        chosen = ranked.topk(k, dim=-1, sorted=False).indices
        live = torch.zeros_like(live).scatter_(-1, chosen, True).logical_and_(live)
    return torch.where(live, before, 0)


def _not_finite(name: str, weight: str, layer: int) -> DamagedTranscoders:
    return DamagedTranscoders(
        f"{name}: {weight} of layer {layer} holds a NaN or an infinity: the file is damaged, fetch it again."
    )
