"""Level 5: how much of the answer survives as more and more of the graph is kept, beside random sets."""

from __future__ import annotations

from collections.abc import Sequence

from graphs.assays import Assay, Curve
from graphs.export.plots.charts import Axis, Chart, Trail, shares, untested
from graphs.graph import AttributionGraph

SIZE = (200.0, 126.0)
ALL = 0.86  # where along the axis the whole graph stands; at its end, all active units
LOW, TOP = -0.25, 1.25  # survival is drawn within these


def chart_curves(graph: AttributionGraph, assay: Assay) -> list[Chart]:
    """A chart for each kind of ablation, errors kept and ablated.

    Across: how many units are kept, most influential first, up to the whole graph, then all active units. Upwards: the
    share of the clean difference that survives.
    """
    return [_chart(curve) for curve in assay.curves]


def _chart(curve: Curve) -> Chart:
    name = f"{curve.ablation} ablation, errors {curve.errors}"
    if not curve.kept:
        return untested(name, curve.untested, SIZE[0])
    beaten = "" if curve.p_area != curve.p_area else f", p = {curve.p_area:.3f} against random sets"
    whole = max(curve.kept[-2] if len(curve.kept) > 1 else 1, 1)
    x = [ALL * min(kept / whole, 1.0) for kept in curve.kept[:-1]] + [1.0]

    # Beside their places, so that the one does not run into the other.
    ticks = [(0.0, "0"), (0.94 * ALL, f"graph: {whole}"), (1.04, f"all: {curve.kept[-1]}")]

    def trail(values: Sequence[float], style: str) -> Trail:
        return Trail(list(zip(x, values, strict=False)), style)

    return Chart(
        title=name,
        notes=[f"area {curve.area:.2f}{beaten}"],
        across=Axis("units kept", 0.0, 1.0, ticks),
        upwards=shares("", LOW, TOP),
        size=SIZE,
        trails=[
            *(trail(each, "chance") for each in curve.random_faithfulness),
            trail(curve.complement, "taken"),
            trail(curve.faithfulness, "kept"),
        ],
    )
