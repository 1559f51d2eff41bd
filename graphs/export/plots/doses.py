"""Level 2: what becomes of the target as more and more of a node is taken away."""

from __future__ import annotations

from graphs.assays import Ablation, Assay
from graphs.export.plots.charts import Axis, Chart, Dot, Trail, axis, figure, span
from graphs.export.plots.predictions import unit_of
from graphs.graph import AttributionGraph
from graphs.wording import name_node

SIZE = (132.0, 84.0)
MOST = 12  # nodes, the most influential


def chart_doses(graph: AttributionGraph, assay: Assay) -> list[Chart]:
    """A chart for each of the most influential nodes that were ablated at several doses, alike in scale.

    Across: the dose, 1 sets the node to zero, 2 turns it round. Upwards: the change of the target.
    """
    responses: dict[int, list[Ablation]] = {}
    for each in sorted([*assay.ablations, *assay.doses], key=lambda each: each.dose):
        responses.setdefault(each.node, []).append(each)
    several = [nodes for nodes in responses.values() if len(nodes) > 1]
    chosen = sorted(several, key=lambda nodes: -nodes[0].influence)[:MOST]
    low, high = span([value for nodes in chosen for each in nodes for value in (each.measured, each.measured_frozen)])
    doses = sorted({each.dose for nodes in chosen for each in nodes})
    unit = unit_of(graph)
    charts = []
    for nodes in chosen:
        name = name_node(graph, nodes[0].node)
        charts.append(
            Chart(
                title=name,
                notes=[f"{nodes[0].influence:.1%} of the influence"],
                across=Axis("dose", 0.0, doses[-1], [(0.0, "0"), *((dose, f"{dose:g}") for dose in doses)]),
                upwards=axis("", low, high, most=3),
                size=SIZE,
                trails=[
                    Trail([(0.0, 0.0), *((each.dose, each.predicted) for each in nodes)], "taken"),
                    Trail([(0.0, 0.0), *((each.dose, each.measured_frozen) for each in nodes)], "held"),
                    Trail([(0.0, 0.0), *((each.dose, each.measured) for each in nodes)], "kept"),
                ],
                dots=[_dot(name, each, unit) for each in nodes if each.measured == each.measured],
            )
        )
    return charts


def _dot(name: str, each: Ablation, unit: str) -> Dot:
    predicted, live, held = figure(each.predicted), figure(each.measured), figure(each.measured_frozen)
    said = f"predicted {predicted}, attention live {live}, held {held} {unit}"
    return Dot(each.dose, each.measured, tip=f"{name} at dose {each.dose:g}: {said}", about=each.node, radius=2.4)
