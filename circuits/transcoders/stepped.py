"""Transcoders whose active features also write a step, whatever their activation, or whose skips reach later layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.transcoders.mapped import ByTarget
from circuits.transcoders.transcoders import Transcoders


@dataclass(frozen=True, eq=False, kw_only=True)
class SteppedTranscoders(Transcoders):
    """As `Transcoders`, but an active feature writes `(a scale + step) W_dec`, and layer l adds `Σ_s x_s W_later`.

    A graph's edges are linear in the activations of their sources, and these are not: they can be encoded and rebuilt,
    not traced.

    step: per layer [unit written_layer]. W_later: per layer s, the skips to layers s + 1, s + 2 …, each [d_out d_in].
    """

    step: Sequence[Float[Tensor, "unit _"]]
    W_later: Sequence[ByTarget] | None

    def decode(self, layer: int, activations: Float[Tensor, "... unit"], to: int) -> Float[Tensor, "... d_out"]:
        unit = activations.flatten(0, -2).any(0).nonzero()[:, 0]
        live, rows = activations[..., unit], self._rows(self.W_dec[layer][:, to - layer], unit)
        scale = 1 if self.scale is None else self.scale[layer][unit, to - layer]
        return (live * scale + (live != 0) * self.step[layer][unit, to - layer]) @ rows

    def reconstruct(
        self, x: Float[Tensor, "layer pos d_in"]
    ) -> tuple[Float[Tensor, "layer pos unit"], Float[Tensor, "layer pos d_out"]]:
        acts, out = super().reconstruct(x)
        if self.W_later is None:
            return acts, out
        later = torch.zeros_like(out)
        for source, skips in enumerate(self.W_later):
            for offset in range(skips.shape[1]):
                later[source + 1 + offset] += x[source] @ skips[:, offset].to(x).T
        return acts, out + later
