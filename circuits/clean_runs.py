"""The clean run of a prompt, kept so that changed runs begin where they first differ from it.

A change in one layer moves no layer below, and a change at one position none before: all that a run needs of these are
the stream that enters its first layer, and the keys and values of the positions before its first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor

from circuits.errors import BadIntervention
from circuits.model import Model
from circuits.sites import Site
from circuits.tracing import Trace

SAME = 1e-4  # of the largest logit: what two runs of one prompt through one model may differ by
PASS = 32  # positions that cost as much as reading a layer's weights once more: measured at a width of 768 on a CPU

Start = tuple[int, int]  # (layer, position): nothing below the one, or before the other, is changed


@dataclass(frozen=True, eq=False)
class Clean:
    """What one clean run left.

    seen: what passed the sites that were read, each [1 pos ...]. memory: the keys and values of all layers, None where
    the model keeps none.
    """

    model: Model
    seen: dict[Site, Tensor]
    memory: Any


_KEPT: WeakKeyDictionary[Trace, Clean] = WeakKeyDictionary()


def clean_run(model: Model, run: Trace, read: Iterable[Site]) -> Clean:
    """The clean run of a traced prompt, made once and again only where another site is wanted.

    Raises:
        BadIntervention: the trace is of another model.
    """
    kept = _KEPT.get(run)
    if kept is not None and kept.model is not model:
        kept = None
    streams = [
        *(("residual_pre", layer) for layer in range(model.layers)),
        *[("residual_end", 0)] * bool(model.scales(())),
    ]
    wanted = dict.fromkeys([*read, *streams, ("logits", 0)])
    if kept is not None and wanted.keys() <= kept.seen.keys():
        return kept
    before = {} if kept is None else kept.seen
    memory = model.remember() if model.remembers else None
    logits, seen = model.run(run.tokens[None], read=[*wanted, *before], past=memory)
    if run.logits.shape != logits[0].shape or not float((logits[0] - run.logits).abs().max()) <= SAME * float(
        run.logits.abs().max()
    ):
        raise BadIntervention(
            f"the trace was not made with {model.name}: the same prompt gives other logits. Trace it with this model."
        )
    _KEPT[run] = Clean(model, seen, memory)
    return _KEPT[run]


def together(starts: Sequence[Start], layers: int, length: int, most: int) -> Iterator[tuple[Start, list[int]]]:
    """Which runs go through the model side by side, and where each batch begins: as early as its earliest run.

    Runs that start alike stay together. Sorted by layer and position, they are cut where that costs least: a batch
    costs its layers, the unembedding counted as one, times (its positions, and PASS for every `most` runs).
    """
    many = Counter(starts)
    places = sorted(many)
    best = [(0.0, 0)]  # for the first n places: the least cost, and where the last batch begins
    for end in range(1, len(places) + 1):
        found = (float("inf"), 0)
        first, runs = length, 0
        for begin in range(end - 1, -1, -1):
            layer, position = places[begin]
            first, runs = min(first, position), runs + many[places[begin]]
            cost = (layers + 1 - layer) * (PASS * -(-runs // most) + runs * (length - first))
            found = min(found, (best[begin][0] + cost, begin))
            if runs > most:
                break
        best.append(found)
    cuts, end = [], len(places)
    while end:
        cuts.append((best[end][1], end))
        end = best[end][1]
    rows: dict[Start, list[int]] = {}
    for row, start in enumerate(starts):
        rows.setdefault(start, []).append(row)
    for begin, end in reversed(cuts):
        some = [row for place in places[begin:end] for row in rows[place]]
        start = (places[begin][0], min(position for _, position in places[begin:end]))
        for at in range(0, len(some), most):
            yield start, some[at : at + most]
