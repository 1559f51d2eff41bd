"""Level 2: what the graph predicts of each node ablated alone, against what the model did."""

from __future__ import annotations

from graphs.assays import Ablation, Assay
from graphs.export.plots.charts import Chart, Dot, Trail, axis, figure, span
from graphs.export.scene.tested import moved_the_other_way
from graphs.graph import AttributionGraph
from graphs.wording import name_node

SIZE = (250.0, 250.0)
MODES = {"": "attention live", "_frozen": "attention held"}  # as figures and records name them -> in words
FIGURES = {
    "slope": "slope",
    "sign_agreement": "signs right",
    "spearman_kl": "Spearman with KL",
    "spearman": "Spearman with size",
}


def chart_predictions(graph: AttributionGraph, assay: Assay) -> list[Chart]:
    """A chart with attention live and one with attention held, alike in scale; no chart where nothing was ablated."""
    if not assay.ablations:
        return []
    measured = [value for each in assay.ablations for value in (each.measured, each.measured_frozen)]
    low, high = span([*(each.predicted for each in assay.ablations), *measured])
    unit = unit_of(graph)
    return [
        Chart(
            title=held,
            notes=[say_figures(assay, mode)],
            across=axis(f"predicted change, {unit}", low, high),
            upwards=axis(f"measured change, {unit}", low, high),
            size=SIZE,
            trails=[Trail([(low, low), (high, high)], "same")],
            dots=_dots(graph, assay, mode),
            grid=True,
        )
        for mode, held in MODES.items()
    ]


def unit_of(graph: AttributionGraph) -> str:
    """What changes of the target are counted in."""
    return "logits" if graph.nodes.kind[graph.goal.argmax()] == "logit" else "in units of its value"


def say_figures(assay: Assay, mode: str, kind: str = "") -> str:
    """The assay's figures over such dots, in words. kind: what their names begin with, `far_`."""
    names = ("slope", "sign_agreement", "spearman" if kind else "spearman_kl")
    known = {name: assay.statistics.get(f"{kind}{name}{mode}", float("nan")) for name in names}
    said = {name: f"{value:.0%}" if name == "sign_agreement" else figure(value) for name, value in known.items()}
    return ", ".join(f"{FIGURES[name]} {said[name]}" for name, value in known.items() if value == value)


def _dots(graph: AttributionGraph, assay: Assay, mode: str) -> list[Dot]:
    """The larger the effect or its prediction, the later, and so above the others."""
    wrong = set(moved_the_other_way(assay, held=bool(mode)))

    def measured(each: Ablation) -> float:
        return each.measured_frozen if mode else each.measured

    known = [each for each in assay.ablations if each.predicted == each.predicted and measured(each) == measured(each)]
    known.sort(key=lambda each: max(abs(each.predicted), abs(measured(each))))
    unit = unit_of(graph)
    dots = []
    for each in known:
        name = name_node(graph, each.node)
        said = f"predicted {figure(each.predicted)}, measured {figure(measured(each))} {unit}"
        dots.append(
            Dot(
                each.predicted,
                measured(each),
                tip=f"{name}: {said}, {MODES[mode]}",
                about=each.node,
                name=name,
                shape="diamond" if graph.nodes.kind[each.node] == "error" else "circle",
                colour="paper" if each.node in wrong else "raise",
                outline="failed" if each.node in wrong else "paper",
            )
        )
    return dots
