"""Nodes of a graph as shapes: what kind they are, how much they matter, what was tested."""

from __future__ import annotations

import numpy as np

from graphs.export.lettering import readable
from graphs.export.scene.marks import Shape
from graphs.export.scene.themes import mix
from graphs.graph import AttributionGraph

SHAPES = {"token": "square", "logit": "square", "error": "diamond", "unselected": "box", "bias": "plus"}


def radii_of(graph: AttributionGraph) -> np.ndarray:
    """How large each node is: the more influence, of a logit the more of the goal, the larger. [node]"""
    matters = np.where(graph.nodes.kind == "logit", graph.goal, graph.nodes.influence)
    return 3.6 + 4.0 * np.sqrt(np.clip(matters / max(matters.max(initial=0.0), 1e-12), 0, 1))


def draw_nodes(
    graph: AttributionGraph,
    rows: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    radius: np.ndarray,
    tested: np.ndarray | None,
    wrong: np.ndarray,
    colours: dict[str, str],
) -> list[Shape]:
    """A shape for each node, darker with its influence.

    rows: of the nodes in the graph that the picture is of. tested: which were ablated alone, None where nothing was
    tested. wrong: which moved the target against the prediction. [node] each
    """
    nodes = graph.nodes
    strength = (radius - radius.min(initial=3.6)) / 4.0
    shapes = []
    for row in range(len(nodes)):
        kind = str(nodes.kind[row])
        unexplained = kind in ("error", "unselected")
        full = strength[row] ** 1.5
        words = readable(str(nodes.label[row])) or kind
        where = f" at {readable(graph.tokens[nodes.position[row]])}" if nodes.position[row] >= 0 else ""
        level = f" in layer {nodes.layer[row]}" if kind not in ("token", "logit") else ""
        carries = f"probability {nodes.activation[row]:.1%}" if kind == "logit" else f"{nodes.influence[row]:.1%}"
        shapes.append(
            Shape(
                shape=SHAPES.get(kind, "circle"),
                x=float(x[row]),
                y=float(y[row]),
                radius=float(radius[row]),
                fill=colours["error"] if unexplained else mix(colours["low"], colours["high"], full),
                outline=colours["failed" if wrong[row] else "quiet" if unexplained else "high"],
                dot=colours["low" if full > 0.45 else "high"] if tested is not None and tested[row] else None,
                row=int(rows[row]),
                tip=f"{words}: {kind}{level}{where}, {carries}" + (" of the influence" if kind != "logit" else ""),
            )
        )
    return shapes
