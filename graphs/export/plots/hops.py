"""Level 3: what ablating a node does to units further on, against what the graph predicts, by how far they are."""

from __future__ import annotations

from graphs.assays import Assay, Between
from graphs.export.plots.charts import Chart, Dot, Trail, axis, figure, span
from graphs.export.plots.predictions import MODES
from graphs.graph import AttributionGraph
from graphs.wording import name_node

SIZE = (180.0, 180.0)
FAR = 3  # hops from which on pairs share a chart


def chart_hops(graph: AttributionGraph, assay: Assay) -> list[Chart]:
    """A chart for each number of hops, with attention live and held, all alike in scale.

    Changes are shares of the value that the ablated node's target had.
    """
    return [chart for found in assay.between if len(found.source) for chart in _charts(graph, found)]


def _charts(graph: AttributionGraph, found: Between) -> list[Chart]:
    low, high = span([*found.predicted, *found.measured, *found.measured_frozen])
    left_out = f"; {found.left_out:,} pairs of least influence left out" if found.left_out else ""
    charts = []
    for mode, held in MODES.items():
        for hops in range(1, FAR + 1):
            dots = _dots(graph, found, mode, hops)
            many = f"{hops} hop" if hops == 1 else f"{hops} hops" if hops < FAR else f"{hops} hops or more"
            charts.append(
                Chart(
                    title=f"{many}, {held}",
                    notes=[f"{len(dots):,} pairs{left_out}"],
                    across=axis("predicted change, share of the value", low, high),
                    upwards=axis("measured change, share of the value", low, high),
                    size=SIZE,
                    trails=[Trail([(low, low), (high, high)], "same")],
                    dots=dots,
                    grid=True,
                )
            )
    return charts


def _dots(graph: AttributionGraph, found: Between, mode: str, hops: int) -> list[Dot]:
    measured = found.measured_frozen if mode else found.measured
    dots = []
    for at, far in enumerate(found.hops):
        predicted, came = found.predicted[at], measured[at]
        if min(far, FAR) != hops or predicted != predicted or came != came:
            continue
        pair = f"{name_node(graph, found.source[at])} → {name_node(graph, found.target[at])}"
        said = f"predicted {figure(predicted)}, measured {figure(came)} of its value"
        tip = f"{pair}, {far} hop{'s' * (far > 1)}: {said}"
        dots.append(Dot(predicted, came, tip=tip, about=found.source[at], radius=2.4))
    return dots
