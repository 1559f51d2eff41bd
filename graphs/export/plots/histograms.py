"""How many figures lie where, as bars, and single ones beside them, as dots above."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graphs.export.plots.charts import Axis, Bar, Chart, Dot, percent

SIZE = (222.0, 62.0)
BINS = 30  # along the axis
STEPS = 4  # dots that lie side by side stand on as many heights


def chart_beside(title: str, note: str, values: Sequence[float], dots: Sequence[Dot], low: float, high: float) -> Chart:
    """Bars of the values, and the dots above them, at their own x; both are shares."""
    bars, top = count_within(values, low, high)
    lowest = 1.2 if bars else 0.2
    return Chart(
        title=title,
        notes=[note],
        across=percent("", low, high),
        upwards=Axis("", 0.0, top * (1.7 if dots else 1.15), [(0.0, "0"), (float(top), f"{top}")] if bars else []),
        size=SIZE,
        bars=bars,
        dots=[replace(dot, y=top * (lowest + 0.12 * (place % STEPS))) for place, dot in enumerate(dots)],
    )


def count_within(values: Sequence[float], low: float, high: float) -> tuple[list[Bar], int]:
    """A bar for each stretch of the axis that has any of the values, and how high the highest is."""
    known = np.array([each for each in values if math.isfinite(each)])
    counts, edges = np.histogram(known, bins=BINS, range=(low, high))
    bars = [
        Bar(a, b, n, f"{n} of {len(known)} between {a:.0%} and {b:.0%}")
        for a, b, n in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
        if n
    ]
    return bars, max([bar.count for bar in bars], default=1)
