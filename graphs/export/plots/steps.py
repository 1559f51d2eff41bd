"""Level 2: a node's effect in a row of models, from the graph's arithmetic to the real one."""

from __future__ import annotations

import numpy as np

from graphs.assays import STEPS, Assay, Steps
from graphs.export.plots.charts import Axis, Chart, Dot, Trail, axis, figure, span
from graphs.export.plots.predictions import unit_of
from graphs.graph import AttributionGraph
from graphs.wording import name_node

SIZE = (500.0, 170.0)
MOST = 8  # nodes, those with the largest change in any of the models
NAMED = 3  # of these


def chart_steps(graph: AttributionGraph, assay: Assay) -> list[Chart]:
    """One chart. Across: the models, by what each lets act. Upwards: the change of the target."""
    return [_chart(graph, assay, each) for each in assay.steps if each.node]


def _chart(graph: AttributionGraph, assay: Assay, found: Steps) -> Chart:
    changes = np.array([getattr(found, name) for name in STEPS], dtype=np.float64)
    largest = np.nan_to_num(np.abs(changes)).max(0)
    chosen = np.argsort(largest, kind="stable")[-MOST:].tolist()  # the largest last, and so above the others
    unit, steps = unit_of(graph), list(STEPS.values())
    dots = []
    for step, words in reversed(list(enumerate(steps))):  # what is named comes last
        for at in chosen:
            name, change = name_node(graph, found.node[at]), float(changes[step, at])
            if change == change:
                said = name if not step and at in chosen[-NAMED:] else ""
                tip = f"{name}: {figure(change)} {unit}, {'and' if step else 'by'} {words}"
                dots.append(Dot(float(step), change, tip=tip, about=found.node[at], name=said, radius=2.4))
    kept = [assay.statistics.get(f"kept_by_{name}", float("nan")) for name in list(STEPS)[1:]]
    shares = [f"{words} × {share:.2f}" for words, share in zip(steps[1:], kept, strict=True) if share == share]
    return Chart(
        title=f"change of the target, {unit}",
        notes=["over all nodes, against the one before:", ", ".join(shares)] if shares else [],
        across=Axis("", -0.4, len(steps) - 0.6, [(float(step), words) for step, words in enumerate(steps)]),
        upwards=axis("", *span(changes[:, chosen].ravel().tolist()), most=4),
        size=SIZE,
        trails=[
            Trail([(float(step), float(change)) for step, change in enumerate(changes[:, at])], "kept") for at in chosen
        ],
        dots=dots,
    )
