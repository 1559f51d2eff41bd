"""What an assay says of single nodes and edges of a picture."""

from __future__ import annotations

from dataclasses import replace

from graphs.assays import Assay
from graphs.export.scene.marks import Curve
from graphs.graph import AttributionGraph

READ = ("feature", "attention", "neuron", "logit")  # targets that an assay of edges reads


def moved_the_other_way(assay: Assay, *, held: bool = False) -> list[int]:
    """The nodes that, ablated alone, moved the target against a prediction large enough to count.

    held: with attention held, in place of live.
    """
    share = assay.registration.get("thresholds", {}).get("sizeable", 0.05)
    least = share * abs(assay.statistics.get("clean", float("nan")))
    return [
        each.node
        for each in assay.ablations
        if abs(each.predicted) >= least and each.predicted * (each.measured_frozen if held else each.measured) < 0
    ]


def failed_edge(assay: Assay | None) -> tuple[int, int] | None:
    """The edge that was furthest from its weight when its source was taken away, if that was too far. None else."""
    exact = float(assay.registration.get("thresholds", {}).get("exact", 1e-4)) if assay is not None else 1e-4
    far = [each for each in (assay.edges if assay is not None else ()) if each.largest > exact]
    return (far[0].source, far[0].target) if far else None


def untried(graph: AttributionGraph, source: int, target: int) -> str:
    """Why no experiment tries an edge, empty where one does.

    "source": it is written nowhere, but read with its target or in a sum. "target": it is neither a unit nor a logit,
    whose values are read.
    """
    kind, read = (str(graph.nodes.kind[row]) for row in (source, target))
    summed = kind == "unselected" or (kind == "bias" and str(graph.nodes.label[source]).startswith("encoder bias"))
    return "source" if summed else "target" if read not in READ else ""


def as_tried(graph: AttributionGraph, curve: Curve, assay: Assay | None, colours: dict[str, str]) -> Curve:
    """The edge as it is drawn over an assay of edges: red if it failed, dashed if no experiment tried it."""
    if assay is None or not assay.edges or curve.ends is None:
        return curve
    if curve.ends == failed_edge(assay):
        return replace(curve, colour=colours["failed"], opacity=0.95)
    return replace(curve, dashed=bool(untried(graph, *curve.ends)))
