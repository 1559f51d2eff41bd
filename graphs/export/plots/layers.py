"""Level 4: how long the replacement model goes the model's way after a small change, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphs.assays import Assay, Disturbance
from graphs.export.plots.charts import Axis, Chart, Dot, Trail, axis, figure, span
from graphs.export.scene.legend import TRAILS
from graphs.graph import AttributionGraph

SIZE = (150.0, 110.0)
KINDS = {"an upstream feature": "kept", "a reader's direction": "taken", "a random direction": "held"}
FIGURES = {
    "cosine": "cosine",
    "error": "squared error",
    "ratio": "length",
    "stream": "cosine, change included",
}
TIMES = ("error", "ratio")  # they may be a hundredfold: by powers of ten, what is none of them is not drawn


def chart_layers(graph: AttributionGraph, assay: Assay) -> list[Chart]:
    """A row of charts for each way of attention: cosine, error and length by layers since the change, a line a kind."""
    ways = dict.fromkeys(each.attention for each in assay.disturbances)
    return [
        _chart([each for each in assay.disturbances if each.attention == way], way, name)
        for way in ways
        for name in FIGURES
    ]


def _chart(found: Sequence[Disturbance], way: str, name: str) -> Chart:
    farthest = max((distance for each in found for distance in each.distance), default=1)
    trails, dots = [], []
    for each in found:
        style = KINDS.get(each.kind, "chance")
        values = getattr(each, name)
        points = [(float(x), _height(y, name)) for x, y in zip(each.distance, values, strict=True)]
        trails.append(Trail(points, style))
        for (x, y), value, count in zip(points, values, each.count, strict=True):
            if y == y:
                tip = f"{each.kind}, {x:g} layers on: {figure(value)}, mean of {count:,}"
                dots.append(Dot(x, y, tip=tip, radius=2.4, colour=TRAILS[style][0]))
    step = max(1, farthest // 6)
    return Chart(
        title=FIGURES[name],
        notes=[f"attention {'held' if way == 'frozen' else way}"],
        across=Axis("layers since", 0.5, farthest + 0.5, [(float(n), str(n)) for n in range(1, farthest + 1, step)]),
        upwards=_upwards(name, [dot.y for dot in dots]),
        size=SIZE,
        trails=trails,
        dots=dots,
    )


def _height(value: float, name: str) -> float:
    """Where a figure stands: itself, or its power of ten."""
    if name not in TIMES:
        return value
    return math.log10(value) if 0 < value < math.inf else math.nan


def _upwards(name: str, heights: Sequence[float]) -> Axis:
    """One, as in the model, is always on it."""
    if name not in TIMES:
        return axis("", *span([1.0, *heights]), most=4)
    low, high = math.floor(min([0.0, *heights])), math.ceil(max([0.0, *heights]))
    high += low == high
    ticks = [(float(power), f"{10.0**power:g}") for power in range(low, high + 1)]
    return Axis("", low - 0.1, high + 0.1, ticks)
