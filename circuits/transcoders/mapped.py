"""Weights that stay in their files: opened when a layer is used, let go when it is done, so that memory stays small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class ByTarget:
    """One layer's decoders, stored apart by the layer they write. Read as one tensor [unit written_layer d_out] is:
    `[:, offset]` is [unit d_out]."""

    def __init__(self, openers: Sequence[Callable[[], Tensor]], units: int, d_out: int) -> None:
        self._openers = openers
        self.shape = (units, len(openers), d_out)

    def __getitem__(self, at: tuple[slice, int]) -> Float[Tensor, "unit d_out"]:
        return self._openers[at[1]]()

    def whole(self) -> Float[Tensor, "unit written_layer d_out"]:
        """All of it, in memory."""
        return torch.stack([opener() for opener in self._openers], dim=1)


class Mapped(Sequence):
    """One weight per layer, each opened anew whenever it is asked for: a memory map that goes when its user is done."""

    def __init__(self, openers: Sequence[Callable[[], Any]]) -> None:
        self._openers = openers

    def __len__(self) -> int:
        return len(self._openers)

    def __getitem__(self, layer: Any) -> Any:
        return self._openers[layer]()
