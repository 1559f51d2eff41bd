"""Per-layer sets put together from their layers, each read by its own format; one convention for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from circuits.errors import DamagedTranscoders
from circuits.formats.files import hash_files, read_notes
from circuits.transcoders.mapped import Mapped
from circuits.transcoders.transcoders import Transcoders


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer as its files have it. number: of the model's layers. The others: see `Transcoders`.

    W_enc, W_dec, W_skip: what opens them, [unit d_in], [unit d_out], [d_out d_in]. threshold: None for ReLU's zeros.
    scale: a number for all units.
    """

    path: Path
    number: int
    reads: str
    writes: str
    W_enc: Callable[[], Tensor]
    b_enc: Tensor
    W_dec: Callable[[], Tensor]
    b_dec: Tensor
    threshold: Tensor | None = None
    W_skip: Callable[[], Tensor] | None = None
    centre: Tensor | None = None
    zoom: float | None = None
    scale: float | None = None
    rank: Tensor | None = None
    k: int | None = None


def join_layers(
    folder: Path, layers: Sequence[Layer], *, silent_positions: int = 1, declared: float | None = None
) -> Transcoders:
    """A per-layer set of these layers, in the order of their numbers.

    Raises:
        DamagedTranscoders: two of one number, or two that do not belong to one set.
    """
    layers = sorted(layers, key=lambda layer: layer.number)
    first = layers[0]
    for before, layer in pairwise(layers):
        if before.number == layer.number:
            raise DamagedTranscoders(
                f"{folder} holds layer {layer.number} twice, in {before.path} and {layer.path}: keep one of them."
            )
        for name in ("reads", "writes"):
            one, other = getattr(first, name), getattr(layer, name)
            if one != other:
                raise DamagedTranscoders(f"{first.path} {name} {one}, but {layer.path} {name} {other}: no one set.")
        for name in ("W_skip", "k", "rank"):
            if (getattr(first, name) is None) != (getattr(layer, name) is None):
                raise DamagedTranscoders(f"{folder}: some layers have {name} and some have not.")
        for what, one, other in (
            ("features", len(first.b_enc), len(layer.b_enc)),
            ("outputs", len(first.b_dec), len(layer.b_dec)),
        ):
            if one != other:
                raise DamagedTranscoders(f"{first.path} has {one} {what}, but {layer.path} has {other}: no one set.")

    def all_of(name: str, missing: Callable[[Layer], Any]) -> list[Any] | None:
        found = [getattr(layer, name) for layer in layers]
        if all(each is None for each in found):
            return None
        return [missing(layer) if each is None else each for layer, each in zip(layers, found, strict=True)]

    scale = all_of("scale", lambda layer: 1.0)
    numbers = tuple(layer.number for layer in layers)
    skips = [layer.W_skip for layer in layers if layer.W_skip is not None]
    return Transcoders(
        name=folder.name,
        content_hash=hash_files(layer.path for layer in layers),
        W_enc=Mapped([layer.W_enc for layer in layers]),
        b_enc=[layer.b_enc for layer in layers],
        threshold=all_of("threshold", lambda layer: torch.zeros_like(layer.b_enc))
        or [torch.zeros_like(layer.b_enc) for layer in layers],
        W_dec=Mapped([lambda opener=layer.W_dec: opener()[:, None] for layer in layers]),
        b_dec=[layer.b_dec for layer in layers],
        W_skip=Mapped(skips) if skips else None,
        reads=first.reads,
        writes=first.writes,
        silent_positions=silent_positions,
        notes=read_notes(folder),
        zoom=all_of("zoom", lambda layer: 1.0),
        centre=all_of("centre", lambda layer: torch.zeros(layer.W_enc().shape[1])),
        rank=all_of("rank", lambda layer: None),
        scale=scale and [torch.full((len(layer.b_enc), 1), each) for layer, each in zip(layers, scale, strict=True)],
        k=all_of("k", lambda layer: None),
        numbers=None if numbers == tuple(range(len(numbers))) else numbers,
        declared=declared,
        unchecked=True,
    )
