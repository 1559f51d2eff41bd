"""How much of the graph is left under other thresholds of pruning, and in other words."""

from __future__ import annotations

from graphs.assays import Assay, Prunings, Rewording
from graphs.export.plots.charts import Chart, Dot, untested
from graphs.export.plots.histograms import SIZE, chart_beside
from graphs.graph import AttributionGraph

LOW, HIGH = -0.03, 1.03
SHARED = {
    "nodes": "features found again",
    "influence": "influence of features found again",
    "overlap": "overlap of influence by feature",
}


def chart_stability(graph: AttributionGraph, assay: Assay) -> list[Chart]:
    """Nodes and edges by how many prunings keep them; what of the graph is in those of other wordings."""
    charts = [chart for found in assay.prunings for chart in _chart_prunings(found)]
    return charts + _chart_rewordings(list(assay.rewordings))


def _chart_prunings(found: Prunings) -> list[Chart]:
    if found.untested:
        return [untested("nodes, by how many prunings keep them", found.untested, SIZE[0])]
    return [
        chart_beside(
            f"{kind}, by how many prunings keep them",
            f"{sum(share == 1 for share in shares)} of {len(shares)} are kept by all {len(found.settings)}",
            shares,
            [],
            LOW,
            HIGH,
        )
        for kind, shares in (("nodes", found.node), ("edges", found.edge))
    ]


def _chart_rewordings(found: list[Rewording]) -> list[Chart]:
    if not found:
        return []
    why = next((each.untested for each in found if each.untested), "")
    if why:
        return [untested(SHARED["influence"], why, SIZE[0])]
    reworded = [each for each in found if not each.control]
    others = [each for each in found if each.control]
    note = f"dots: {len(reworded)} wordings; bars: {len(others)} unrelated prompts"
    return [
        chart_beside(
            title,
            note,
            [getattr(each, name) for each in others],
            [_dot(each, getattr(each, name)) for each in reworded if getattr(each, name) == getattr(each, name)],
            LOW,
            HIGH,
        )
        for name, title in SHARED.items()
    ]


def _dot(found: Rewording, share: float) -> Dot:
    """Hollow where the model's answer was another."""
    answered = "answered alike" if found.answered else "answered otherwise, does not count"
    colours = ("raise", "paper") if found.answered else ("paper", "quiet")
    return Dot(share, 0.0, f"{found.prompt}: {share:.0%}, {answered}", colour=colours[0], outline=colours[1])
