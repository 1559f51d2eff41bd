"""Level 4: how long the replacement model goes the model's way after a small change, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

from graphs.assays import Assay, Disturbance
from graphs.export.plots.charts import Axis, Chart, Dot, Trail, axis, figure, span
from graphs.export.scene import TRAILS
from graphs.graph import AttributionGraph

SIZE = (150.0, 110.0)
KINDS = {"an upstream feature": "kept", "a reader's direction": "taken", "a random direction": "held"}
LARGEST = 4.0  # what lies above is cut, and told
FIGURES = {
    "cosine": "cosine",
    "error": "squared error",
    "ratio": "length",
    "stream": "cosine, change included",
}


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
    values = [value for each in found for value in getattr(each, name)]
    low, high = span([1.0, *(min(each, LARGEST) for each in values if each == each)])
    beyond = max([each for each in values if each > LARGEST], default=0.0)
    trails, dots = [], []
    for each in found:
        style = KINDS.get(each.kind, "chance")
        points = list(zip(map(float, each.distance), getattr(each, name), strict=True))
        trails.append(Trail(points, style))
        for (x, y), count in zip(points, each.count, strict=True):
            if y == y:
                tip = f"{each.kind}, {x:g} layers on: {figure(y)}, mean of {count:,}"
                dots.append(Dot(x, y, tip=tip, radius=2.4, colour=TRAILS[style][0]))
    step = max(1, farthest // 6)
    return Chart(
        title=FIGURES[name],
        notes=[f"attention {'held' if way == 'frozen' else way}" + (f"; reaches {beyond:.3g}" if beyond else "")],
        across=Axis("layers since", 0.5, farthest + 0.5, [(float(n), str(n)) for n in range(1, farthest + 1, step)]),
        upwards=axis("", low, high, most=4),
        size=SIZE,
        trails=trails,
        dots=dots,
    )
