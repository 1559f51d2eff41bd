"""The plots of a report: faithfulness against the size of the circuit, and against what finding it cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.bench.measures import SIZES
from benchmarks.bench.summaries import Place, Summary
from graphs.export.plots.charts import Axis, Chart, Dot, Trail, axis, figure, lay_out_charts, shares
from graphs.export.scene.legend import lay_out_legend
from graphs.export.scene.marks import LETTER, MARGIN, Scene, Text
from graphs.export.scene.themes import THEMES

SIZE = (170.0, 120.0)
IN_A_ROW = 4
SHAPES = {"edges": "circle", "nodes": "square", "neurons": "diamond", "features": "box"}
LOW, TOP = -0.25, 1.25
ACROSS = Axis("of the units kept", -3.0, 0.0, [(-3.0, "0.1%"), (-2.0, "1%"), (-1.0, "10%"), (0.0, "100%")])
COSTS = (
    ("kept", "of edges, no cheaper method does better"),
    *(("square", "circuits of nodes"), ("diamond", "of neurons"), ("box", "of features")),
)
SAMPLES = (
    ("kept", "faithfulness"),
    ("held", "its 95% interval"),
    ("chance", "matched random circuits, least and most"),
)


def draw_curves(place: Place, methods: Sequence[Summary]) -> Scene:
    """A chart for each method: the circuits of its strongest units."""
    return _compose(
        f"{place.task} in {place.model}, {place.ablation} ablation", [_curve(each) for each in methods], SAMPLES
    )


def draw_costs(found: Sequence[tuple[Place, Sequence[Summary]]]) -> Scene:
    """A chart for each place: the log area of every method against its seconds, the best for its cost joined."""
    title = "faithfulness and cost"
    return _compose(title, [_costs(*each) for each in found], COSTS)


def _curve(method: Summary) -> Chart:
    at = [math.log10(size) for size in SIZES]
    numbers = [method.get("faithfulness", size=size) for size in SIZES]
    null = [method.get("faithfulness of matched random", size=size) for size in SIZES]

    def trail(values: Sequence[float], style: str) -> Trail:
        return Trail(list(zip(at, values, strict=True)), style)

    dots = [
        Dot(x, each.value, tip=f"{each.value:.3f}, 95% {each.low:.3f} to {each.high:.3f}, {each.count:.0f} units")
        for x, each in zip(at, numbers, strict=True)
    ]
    whiskers = [Trail([(x, each.low), (x, each.high)], "held") for x, each in zip(at, numbers, strict=True)]
    return Chart(
        title=method.method,
        notes=[f"{method.level}, log area {figure(method.get('log area').value)}"],
        across=ACROSS,
        upwards=shares("", LOW, TOP),
        size=SIZE,
        trails=[
            *(trail([getattr(each, end) for each in null], "chance") for end in ("low", "high")),
            *(trail([getattr(each, end) for each in numbers], "held") for end in ("low", "high")),
            *whiskers,
            trail([each.value for each in numbers], "kept"),
        ],
        dots=dots,
    )


def _costs(place: Place, methods: Sequence[Summary]) -> Chart:
    points = [(math.log10(max(each.seconds, 1e-3)), each.get("log area"), each) for each in methods]
    points = sorted(
        ((x, area, each) for x, area, each in points if area.value == area.value), key=lambda point: point[0]
    )
    best, front = -math.inf, []
    for x, area, each in points:
        if each.level == "edges" and area.value > best:
            front += [(x, best), (x, area.value)] if front else [(x, area.value)]
            best = area.value
    low, high = math.floor(points[0][0]), math.ceil(points[-1][0] + 1e-9)
    top = max(1.0, *(area.high for _, area, _ in points if area.high == area.high))
    dots = [
        Dot(
            x,
            area.value,
            tip=f"{each.method}: {area.value:.3f}, {each.seconds:.2g} s",
            name=each.method,
            shape=SHAPES[each.level],
        )
        for x, area, each in points
    ]
    return Chart(
        title=f"{place.task} in {place.model}",
        notes=[f"{place.ablation} ablation, log area upwards"],
        across=Axis("seconds", low, max(high, low + 1), [(each, figure(10.0**each)) for each in range(low, high + 1)]),
        upwards=axis("", min(0.0, *(area.value for _, area, _ in points)), top * 1.05),
        size=(230.0, 150.0),
        trails=[Trail(front, "kept"), *(Trail([(x, a.low), (x, a.high)], "held") for x, a, _ in points)],
        dots=dots,
    )


def _compose(title: str, charts: Sequence[Chart], samples: Sequence[tuple[str, str]]) -> Scene:
    colours = THEMES["light"]
    marks = lay_out_charts(charts, min(IN_A_ROW, len(charts)), MARGIN, MARGIN + 22, colours)
    width = max(marks.right + MARGIN, 480.0)
    key, bottom = lay_out_legend(samples, width, marks.bottom + 4, colours)
    return Scene(
        width=width,
        height=bottom + MARGIN,
        colours=colours,
        lines=(*marks.lines, *key["lines"]),
        curves=(),
        shapes=(*marks.shapes, *key["shapes"]),
        texts=(Text(MARGIN, MARGIN, title, colours["ink"], size=LETTER + 3, bold=True), *marks.texts, *key["texts"]),
    )
