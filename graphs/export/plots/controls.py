"""Levels 5 and 6: figures of the graph beside the same figures of what should do worse."""

from __future__ import annotations

import math
from collections.abc import Iterator

from graphs.assays import Assay, Contributions, Control
from graphs.export.plots.charts import Axis, Chart, Dot, Trail, shares, span, untested
from graphs.export.plots.histograms import SIZE, chart_beside, count_within
from graphs.graph import AttributionGraph
from graphs.wording import name_node


def chart_controls(graph: AttributionGraph, assay: Assay) -> list[Chart]:
    """A histogram of the controls for each figure that has some, with the graph's own, and the bar if there is one.

    Those that are shares of the clean difference are alike in scale.
    """
    found = list(_controlled(assay))
    low, high = span([1.0, *(value for each, _ in found for value in (each.ours, *each.null))], slack=0.03)
    charts = [_chart(each, bar, low, high) for each, bar in found]
    return charts + [_chart_contributions(graph, each) for each in assay.contributions]


def _controlled(assay: Assay) -> Iterator[tuple[Control, float]]:
    """Every figure that is held against controls, or why it is not, and the bar, nan where there is none."""
    faithful = assay.registration.get("thresholds", {}).get("faithful", math.nan)
    for each in assay.subsets:
        how, why = f"{each.ablation} ablation", each.untested
        null, p = each.random_faithfulness, each.p_faithfulness
        yield Control(f"only its features left, {how}", "", each.faithfulness, null, p, why), faithful
        null, p = each.random_complement, each.p_complement
        yield Control(f"only its features taken, {how}", "", each.complement, null, p, why), 1 - faithful
    for each in assay.curves:
        name = f"area, {each.ablation} ablation, errors {each.errors}"
        yield Control(name, "", each.area, each.random_area, each.p_area, each.untested), math.nan
    for each in assay.controls:
        yield each, math.nan


def _chart(found: Control, bar: float, low: float, high: float) -> Chart:
    if found.untested or found.ours != found.ours:
        return untested(found.name, found.untested or "there is no number to judge", SIZE[0])
    bars, top = count_within(found.null, low, high)
    said = f"p = {found.p:.3f}" if found.p == found.p else "p undefined"
    wanted = [Trail([(bar, 0.0), (bar, top)], "same")] if bar == bar else []
    return Chart(
        title=found.name,
        notes=[f"the graph {found.ours:.0%}; {len(found.null)} controls, {said}"],
        across=shares("", low, high),
        upwards=Axis("", 0.0, top * 1.15, [(0.0, "0"), (float(top), f"{top}")]),
        size=SIZE,
        bars=bars,
        trails=[*wanted, Trail([(found.ours, 0.0), (found.ours, top)], "kept")],
        dots=[Dot(found.ours, top, tip=f"{found.name}: the graph {found.ours:.1%}", shape="diamond", radius=4.5)],
    )


def _chart_contributions(graph: AttributionGraph, found: Contributions) -> Chart:
    """What is lost without each unit, as dots, above what random units add."""
    name = "lost without one feature, mean ablation"
    if found.untested or not len(found.lost):
        return untested(name, found.untested or "nothing was left out", SIZE[0])
    low, high = span([*found.lost, *found.reference])
    dots = [
        Dot(lost, 0.0, tip=f"without {name_node(graph, node)}: {lost:.1%} lost", about=node, radius=2.6)
        for node, lost in zip(found.node, found.lost, strict=True)
    ]
    note = f"dots: {len(dots)} features; bars: {len(found.reference)} random ones added"
    return chart_beside(name, note, found.reference, dots, low, high)
