"""Level 3: what ablating a node does to units further on, against what the graph predicts of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphs.assays import Assay, Between
from graphs.export.plots.charts import Chart, Dot, Trail, axis, figure, span
from graphs.export.plots.predictions import MODES, say_figures
from graphs.graph import AttributionGraph
from graphs.wording import name_node

SIZE = (250.0, 250.0)
MOST = 600  # pairs that a chart shows, those of most influence
KINDS = {  # as figures are named -> in words
    "near": "joined by an edge",
    "far": "joined by longer paths only",
    "beyond": "longer paths, less the edge's own part",
}


@dataclass(frozen=True)
class Pair:
    """Two nodes, and the change of the second, predicted and measured, as a share of its value."""

    source: int
    target: int
    hops: int
    influence: float
    predicted: float
    measured: float


def chart_pairs(graph: AttributionGraph, assay: Assay) -> list[Chart]:
    """A chart for each of KINDS that has pairs, with attention live and held, all alike in scale."""
    return [chart for found in assay.between if len(found.source) for chart in _charts(graph, assay, found)]


def _charts(graph: AttributionGraph, assay: Assay, found: Between) -> list[Chart]:
    groups = {(kind, mode): _of_kind(found, kind, mode) for kind in KINDS for mode in MODES}
    groups = {which: pairs for which, pairs in groups.items() if groups[which[0], ""]}
    every = [value for pairs in groups.values() for pair in pairs for value in (pair.predicted, pair.measured)]
    low, high = span(every)
    return [
        Chart(
            title=KINDS[kind],
            notes=[f"{MODES[mode]}; {_count(pairs, found.left_out)}", say_figures(assay, mode, f"{kind}_")],
            across=axis("predicted change, share of the value", low, high),
            upwards=axis("measured change, share of the value", low, high),
            size=SIZE,
            trails=[Trail([(low, low), (high, high)], "same")],
            dots=_dots(graph, pairs),
            grid=True,
        )
        for (kind, mode), pairs in groups.items()
    ]


def _of_kind(found: Between, kind: str, mode: str) -> list[Pair]:
    came = found.measured_frozen if mode else found.measured
    columns = (found.source, found.target, found.hops, found.influence, found.direct, found.predicted, came)
    pairs = []
    for source, target, hops, influence, direct, predicted, measured in zip(*columns, strict=True):
        less = direct if kind == "beyond" else 0.0
        belongs = predicted != direct if kind == "beyond" else (hops == 1) == (kind == "near")
        pair = Pair(source, target, hops, influence, predicted - less, measured - less)
        if belongs and pair.predicted == pair.predicted and pair.measured == pair.measured:
            pairs.append(pair)
    return sorted(pairs, key=lambda pair: -pair.influence)


def _count(pairs: Sequence[Pair], left_out: int) -> str:
    """How many are shown, and how many are not."""
    shown = (
        f"the {MOST:,} strongest of {len(pairs):,} pairs"
        if len(pairs) > MOST
        else f"{len(pairs):,} pair{'s' * (len(pairs) != 1)}"
    )
    return f"{shown}, {left_out:,} left out of all" if left_out else shown


def _dots(graph: AttributionGraph, pairs: Sequence[Pair]) -> list[Dot]:
    dots = []
    for pair in reversed(pairs[:MOST]):  # the strongest above the others
        names = f"{name_node(graph, pair.source)} → {name_node(graph, pair.target)}"
        hops = f"{pair.hops} hop{'s' * (pair.hops > 1)}"
        said = f"predicted {figure(pair.predicted)}, measured {figure(pair.measured)} of its value"
        dots.append(Dot(pair.predicted, pair.measured, f"{names}, {hops}: {said}", about=pair.source, radius=2.4))
    return dots
