"""Edges of a graph as curves: which are drawn, how they bend, how wide and how dark they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphs.export.scene.marks import Curve
from graphs.export.scene.names import first_token
from graphs.graph import AttributionGraph

STRONG = 0.4  # the share of a target's input at which an edge is as wide and as dark as edges get


def draw_edges(
    graph: AttributionGraph,
    rows: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    radius: np.ndarray,
    cut: tuple[int, float],
    bos: str,
    colours: dict[str, str],
    scale: float = 1.0,
) -> tuple[list[Curve], dict[str, Any]]:
    """The edges to draw, weakest first, and how many there were.

    cut: the most of them, the least share of each. scale: of their width and their bends, where nodes are smaller too.
    """
    # Here, not above: numba takes half a second to load, and the layout alone does not need it.
    from graphs.paths import edge_influence, is_bias, received

    carried = edge_influence(graph)
    place = np.full(len(graph.nodes), -1)
    place[rows] = np.arange(len(rows))
    gross = received(graph)[graph.target]
    share = np.divide(graph.weight, gross, out=np.zeros_like(graph.weight), where=gross > 0)
    first = first_token(graph)
    fan = (graph.source == first) if first is not None else np.zeros(len(graph.source), dtype=bool)
    constant = is_bias(graph)[graph.source]
    hidden = (place[graph.source] < 0) | (fan & (bos == "hide"))
    flows = np.flatnonzero(~constant)
    free = np.flatnonzero(~constant & ~hidden)
    most, least_share = cut
    strong = free[np.abs(share[free]) >= least_share]
    chosen = strong[np.argsort(-carried[strong], kind="stable")[:most]]
    grey = fan & (bos == "grey")
    drawn = np.concatenate([np.flatnonzero(constant & ~hidden), chosen])
    # What is grey lies below everything else, constants above that.
    order = drawn[np.lexsort((carried[drawn], ~grey[drawn]))]
    largest = float(carried[chosen].max(initial=0.0)) or 1.0
    curves = []
    for edge in order.tolist():
        source, target = int(place[graph.source[edge]]), int(place[graph.target[edge]])
        size = min(abs(float(share[edge])) / STRONG, 1.0)
        width = (0.5 + 3.0 * size**0.6) * scale
        tee = bool(share[edge] < 0)
        colour = colours["faint"] if grey[edge] else colours["lower" if tee else "raise"]
        points = _bend(
            (float(x[source]), float(y[source]) - radius[source]),
            (float(x[target]), float(y[target]) + radius[target]),
            width,
            tee,
            blocked=_blocked(source, target, x, y, scale),
            scale=scale,
        )
        opacity = 0.45 if grey[edge] or constant[edge] else 0.14 + 0.78 * (float(carried[edge]) / largest) ** 0.45
        ends = (int(graph.source[edge]), int(graph.target[edge]))
        curves.append(Curve(points, colour, opacity, min(width, 1.6 * scale) if grey[edge] else width, tee, ends))
    whole = float(carried[flows].sum())
    counts = {
        "drawn": len(chosen),
        "edges": len(flows),
        "share": float(carried[chosen].sum()) / whole if whole > 0 else 1.0,
        "free": len(free),
        "strong": len(strong),
        "least_share": least_share,
        "bos": bos,
        "biases": int((~np.isin(np.flatnonzero(graph.nodes.kind == "bias"), rows)).sum()),
        "errors": int((~np.isin(np.flatnonzero(graph.nodes.kind == "error"), rows)).sum()),
    }
    return curves, counts


def breadth(share: float) -> float:
    """How wide an edge between groups is, by its share of its target's input."""
    return 0.5 + 5.5 * min(share, 1.0) ** 0.7


def head_length(width: float, tee: bool, scale: float = 1.0) -> float:
    """How far an edge's head reaches before its tip."""
    return 1.2 * scale + 0.3 * width if tee else 3.2 * scale + 1.5 * width


def _blocked(source: int, target: int, x: np.ndarray, y: np.ndarray, scale: float) -> bool:
    """Whether a node stands on the straight way from one to the other."""
    across, down = x[target] - x[source], y[target] - y[source]
    long = np.hypot(across, down)
    along = ((x - x[source]) * across + (y - y[source]) * down) / max(long, 1e-9)
    beside = np.abs((x - x[source]) * down - (y - y[source]) * across) / max(long, 1e-9)
    return bool(((beside < 9 * scale) & (along > 3 * scale) & (along < long - 3 * scale)).any())


def _bend(
    start: tuple[float, float], tip: tuple[float, float], width: float, tee: bool, *, blocked: bool, scale: float
) -> tuple[tuple[float, float], ...]:
    """Upright at both ends; those that stay in their column bow to the left when a node stands between."""
    (x0, y0), (x1, y1) = start, tip
    head = head_length(width, tee, scale)
    rise = y0 - y1
    if rise < 16 * scale:  # side by side: over the top
        high, over = min(y0, y1) - 26 * scale, y1 - 14 * scale
        return (x0, y0), (x0, high), (x1, high), (x1, over - head), (x1, over)
    sideways = x1 - x0
    bow = 0.0
    if blocked and abs(sideways) < 0.3 * rise + 4 * scale:
        bow = -min(12 * scale + 0.1 * rise, 48.0 * scale)
    slant = np.clip((sideways - bow * 1.2) * 0.12, -14 * scale, 14 * scale) if rise > 40 * scale else 0.0
    # The head points along the curve's last stretch.
    handle = (x1 + bow - slant, y1 + 0.42 * rise)
    long = float(np.hypot(handle[0] - x1, handle[1] - y1))
    foot = (x1 + (handle[0] - x1) / long * head, y1 + (handle[1] - y1) / long * head)
    return (x0, y0), (x0 + bow + slant, y0 - 0.42 * rise), handle, foot, (x1, y1)
