"""Trained transcoders: sparse features that read an MLP's input and write its output, and perhaps later ones' too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Transcoders:
    """A per-layer set when every decoder writes one layer, a cross-layer one when it writes its own and all later.

    Feature i of a layer: `h = W_enc[i] · x + b_enc[i]`, `a = h if h > threshold[i] else 0` (ReLU: threshold 0).
    Layer l is rebuilt as `Σ_{s <= l} a_s @ W_dec[s][:, l - s] + b_dec[l] (+ W_skip[l] x)`.

    W_enc: per layer [unit d_in]. b_enc, threshold: per layer [unit]. W_dec: per layer [unit written_layer d_out].
    b_dec: per layer [d_out]. W_skip: per layer [d_out d_in], or None. The other fields: see `Dictionary`.
    """

    name: str
    content_hash: str
    W_enc: Sequence[Float[Tensor, "unit d_in"]]
    b_enc: Sequence[Float[Tensor, "unit"]]
    threshold: Sequence[Float[Tensor, "unit"]]
    W_dec: Sequence[Float[Tensor, "unit _ d_out"]]
    b_dec: Sequence[Float[Tensor, "d_out"]]
    W_skip: Sequence[Float[Tensor, "d_out d_in"]] | None
    reads: str
    writes: str
    silent_positions: int
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    kind: str = "feature"
    exact: bool = False

    @property
    def layers(self) -> int:
        return len(self.W_enc)

    @property
    def d_model(self) -> int:
        return self.W_dec[0].shape[-1]

    @property
    def units(self) -> int:
        return self.W_enc[0].shape[0]

    @property
    def cross_layer(self) -> bool:
        """Whether some feature writes to a later layer than its own."""
        return any(decoder.shape[1] > 1 for decoder in self.W_dec)

    def activations(self, layer: int, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... unit"]:
        before = x @ self.W_enc[layer].T + self.b_enc[layer]
        return torch.where(before > self.threshold[layer], before, 0)

    def reading(
        self, layer: int, x: Float[Tensor, "n d_in"], unit: Int[Tensor, "n"]
    ) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n"]]:
        return self.W_enc[layer][unit], self.b_enc[layer][unit]

    def written_layers(self, layer: int) -> range:
        return range(layer, layer + self.W_dec[layer].shape[1])

    def writing(self, layer: int, unit: Int[Tensor, "n"], to: int) -> Float[Tensor, "n d_out"]:
        return self.W_dec[layer][unit, to - layer]

    def decode(self, layer: int, activations: Float[Tensor, "... unit"], to: int) -> Float[Tensor, "... d_out"]:
        return activations @ self.W_dec[layer][:, to - layer]

    def bias(self, layer: int) -> Float[Tensor, "d_out"]:
        return self.b_dec[layer]

    def skip(self, layer: int) -> Float[Tensor, "d_out d_in"] | None:
        return None if self.W_skip is None else self.W_skip[layer]

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
            if self.W_skip is not None:
                rebuilt = rebuilt + x[to] @ self.W_skip[to].T
            out.append(rebuilt)
        return torch.stack(acts), torch.stack(out)
