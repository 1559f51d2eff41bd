"""A run on the clean prompt in which only some parts of the model are live; all else writes what takes its place.

The same as a circuit of edges in which every edge out of the others is cut; see `circuits.components.circuit_runs`.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.components.parts import OF_HEADS, Parts
from circuits.components.transformer import Put, Run, Transformer


def run_nodes(
    transformer: Transformer,
    embedding: Float[Tensor, "pair pos d_model"],
    other: Run,
    parts: Parts,
    kept: Bool[Tensor, "node *position"],
) -> Float[Tensor, "pair pos d_model"]:
    """The stream that the logits read at the end.

    embedding: of the clean prompts. other: what takes the place of the parts that are not kept.
    kept: the parts that stay live, at all positions or by position.
    """
    replace: dict[tuple[str, int], Put] = {}
    start, first = transformer.begin(embedding), 0
    for name, layer, count in parts.columns:
        live = kept[first : first + count]
        live = live if live.dim() == 2 else live[:, None]  # [part pos]
        first += count
        if live.all():
            continue
        if name == "input":
            start = torch.where(live.T, start, other.before[0])
        else:
            where = live[..., None] if name in OF_HEADS else live.T
            replace[(name, layer)] = _putting(where, getattr(other, name)[layer])
    return transformer.go_on(start, 0, keep=False, replace=replace).after


def _putting(live: Tensor, theirs: Tensor) -> Put:
    return lambda ours: torch.where(live, ours, theirs)
