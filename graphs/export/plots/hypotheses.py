"""Groups that were named as a hypothesis: what ablating each did, to the target and to other groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphs.assays import Assay
from graphs.export.lettering import readable, shorten
from graphs.export.plots.charts import Axis, Chart, Dot, Trail, axis, figure, percent, span
from graphs.export.plots.predictions import unit_of
from graphs.graph import AttributionGraph

WIDE, ROW = 330.0, 22.0
LONGEST = 30  # letters of a name beside a chart
MARK = 0.22  # half of how high a stroke is, in rows


@dataclass(frozen=True)
class _Row:
    """One change beside what was said of it, and what random groups did."""

    name: str
    predicted: float
    measured: float
    random: Sequence[float]
    p: float


def chart_hypotheses(graph: AttributionGraph, assay: Assay) -> list[Chart]:
    """A row for each group that was ablated, and in a second chart for each arrow between two."""
    tested = [each for each in assay.groups if not each.untested]
    groups = [_Row(each.name, each.predicted, each.measured, each.random, each.p) for each in tested]
    arrows = [
        _Row(f"{each.name} → {arrow.to}", arrow.predicted, arrow.measured, arrow.random, arrow.p)
        for each in tested
        for arrow in each.arrows
        if not arrow.untested
    ]
    unit = unit_of(graph)
    found = [_chart(groups, f"change of the target, {unit}", unit)] if groups else []
    return found + ([_chart(arrows, "change of the other group's value", "")] if arrows else [])


def _chart(rows: Sequence[_Row], title: str, unit: str) -> Chart:
    """unit: what changes are counted in; none: shares."""
    low, high = span([value for row in rows for value in (row.predicted, row.measured, *row.random)])
    places = [float(len(rows) - at) for at in range(len(rows))]  # the first above
    trails, dots = [], []
    for row, y in zip(rows, places, strict=True):
        known = [each for each in row.random if each == each]
        trails += [Trail([(each, y - MARK), (each, y + MARK)], "chance") for each in known]
        p = f", p = {row.p:.3f}" if row.p == row.p else ""
        said = f"{row.name}: predicted {_said(row.predicted, unit)}, measured {_said(row.measured, unit)}{p}"
        if row.predicted == row.predicted:
            dots.append(Dot(row.predicted, y, tip=said, shape="diamond", radius=4.0, colour="paper", outline="raise"))
        if row.measured == row.measured:
            wrong = row.predicted * row.measured < 0
            dots.append(Dot(row.measured, y, tip=said, radius=3.6, colour="failed" if wrong else "raise"))
    ticks = [(y, shorten(readable(row.name), LONGEST)) for row, y in zip(rows, places, strict=True)]
    return Chart(
        title=title,
        notes=[],
        across=axis("", low, high) if unit else percent("", low, high),
        upwards=Axis("", 0.4, len(rows) + 0.6, ticks),
        size=(WIDE, ROW * (len(rows) + 0.2)),
        trails=trails,
        dots=dots,
        grid=True,
    )


def _said(value: float, unit: str) -> str:
    return f"{figure(value)} {unit}" if unit else f"{value:.1%}".replace("-", "−")
