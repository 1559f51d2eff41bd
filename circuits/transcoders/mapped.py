"""Weights that stay in their files: opened when a layer is used, let go when it is done, so that memory stays small."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
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


def fetch_rows(weight: Float[Tensor, "unit d"], unit: Int[Tensor, "n"]) -> None:
    """Have these rows of a memory map read from the disk, all at once, and nothing of what lies between them.

    Left to itself the system reads a page when it is touched, and around it what may be touched next: of a decoder
    whose rows lie far apart, most of the file. Does nothing where the system takes no such advice, and for a turned
    matrix, whose rows are spread over all of it.
    """
    advise = _advice()
    if advise is None or weight.device.type != "cpu" or weight.stride(1) != 1 or not len(unit):
        return
    begin = weight.data_ptr() + np.unique(unit.numpy()) * (weight.stride(0) * weight.element_size())
    first = begin // mmap.PAGESIZE
    last = (begin + weight.shape[1] * weight.element_size() - 1) // mmap.PAGESIZE
    gaps = np.flatnonzero(first[1:] > last[:-1] + 1)  # rows on neighbouring pages are asked for together
    for start, end in zip(first[np.append(0, gaps + 1)].tolist(), last[np.append(gaps, -1)].tolist(), strict=True):
        advise(start * mmap.PAGESIZE, (end + 1 - start) * mmap.PAGESIZE, mmap.MADV_WILLNEED)


@cache
def _advice() -> Callable[[int, int, int], int] | None:
    """madvise(address, length, advice), where the system has it."""
    if not hasattr(mmap, "MADV_WILLNEED"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return advise
