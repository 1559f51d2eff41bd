"""Activation patching of every part by itself: the truth that scores of heads, MLPs, neurons and features are held to.

A part writes what takes its place, all positions at once or one position, all else follows, and the loss is measured.
What comes before a layer is the clean run's; from there the model goes on once for every part, several side by side.

Source: METHODS section 8.2, noising.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.components.ablations import Ablation, resample
from circuits.components.edge_scores import loss_of, read_logits
from circuits.components.metrics import Metric
from circuits.components.pairs import Pairs
from circuits.components.parts import OF_HEADS, UNITS, Column, Parts, column_of
from circuits.components.transformer import Put, Run, Transformer

ROWS = 2**14  # positions of all pairs and parts that go on at once


def patch_every_part(
    transformer: Transformer,
    pairs: Pairs,
    metric: Metric,
    parts: Parts,
    *,
    positions: bool = False,
    ablation: Ablation = resample,
) -> Float[Tensor, "node *position"]:
    """What patching each part adds to the loss, summed over the pairs.

    positions: each position patched by itself, else all together. A run from the part's layer for each.
    """
    shape = (len(parts.names), pairs.clean.shape[1])[: 1 + positions]
    every = range(math.prod(shape))
    return patch_parts(transformer, pairs, metric, parts, every, positions=positions, ablation=ablation).view(shape)


@torch.no_grad()
def patch_parts(
    transformer: Transformer,
    pairs: Pairs,
    metric: Metric,
    parts: Parts,
    chosen: Sequence[int],
    *,
    positions: bool = False,
    ablation: Ablation = resample,
) -> Float[Tensor, "chosen"]:
    """The same for some of the parts. chosen: their places among the scores of all, laid flat, in rising order."""
    clean = transformer.run(transformer.embed(pairs.clean), neurons=bool(parts.width))
    other = ablation(transformer, pairs, neurons=bool(parts.width))
    logits = read_logits(transformer, clean.after, pairs)
    before = loss_of(transformer, logits, pairs, metric, logits)
    length = pairs.clean.shape[1]
    size = max(1, ROWS // pairs.clean.numel())
    wide, wanted = length if positions else 1, torch.tensor(chosen, device=logits.device)
    first, found = 0, []
    for column in parts.columns:
        last = first + column[2] * wide
        own = wanted[(wanted >= first) & (wanted < last)] - first
        first = last
        places = torch.stack((own // wide, own % wide), 1)
        for some in places.split(size) if len(places) else ():
            where = _where(column, some, length, positions)
            ends = _go_on(transformer, clean, other, column, where)
            found += [
                (loss_of(transformer, read_logits(transformer, end, pairs), pairs, metric, logits) - before).sum()
                for end in ends
            ]
    return torch.stack(found).double()


def _where(column: Column, places: Tensor, length: int, positions: bool) -> Bool[Tensor, "place 1 *part pos *d"]:
    """Where each of these parts is, in the shape of its column with all else one."""
    at = torch.arange(length, device=places.device)
    here = places[:, 1:] == at if positions else torch.ones_like(places[:, 1:] == at)  # [place pos]
    own = places[:, :1] == torch.arange(column[2], device=places.device)  # [place part]
    if column[0] in OF_HEADS:
        return (own[:, :, None] & here[:, None])[:, None, :, :, None]
    if column[0] in UNITS:
        return (here[:, :, None] & own[:, None])[:, None]
    return here[:, None, :, None]


def _go_on(
    transformer: Transformer, clean: Run, other: Run, column: Column, where: Tensor
) -> Float[Tensor, "place pair pos d_model"]:
    """The streams at the end when these parts are patched, one each."""
    name, at, _ = column
    theirs = column_of(other, column)

    def put(ours: Tensor) -> Tensor:
        return torch.where(where, theirs, ours.unflatten(0, (len(where), -1))).flatten(0, 1)

    stream = clean.before[at].repeat(len(where), 1, 1)
    replace: dict[tuple[str, int], Put] = {} if name == "input" else {(name, at): put}
    end = transformer.go_on(put(stream) if name == "input" else stream, at, keep=False, replace=replace).after
    return end.unflatten(0, (len(where), -1))
