"""How far a graph of ours is from circuit-tracer's graph of the same prompt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers.jobs import peer_order
from graphs.graph import AttributionGraph
from graphs.paths import influence
from graphs.pruning import prune
from graphs.scores import scores


@dataclass(frozen=True)
class Pruned:
    """nodes, kept: nodes and edges that only one side keeps, each pruning its own graph.

    influence, scores: the largest differences of a node's influence, and of replacement and completeness.
    """

    nodes: int
    kept: int
    influence: float
    scores: float


def places(graph: AttributionGraph) -> list[tuple[int, int, int]]:
    """Layer, position and number of each of its features."""
    nodes, rows = graph.nodes, graph.nodes.where("feature")
    columns = (nodes.layer[rows].tolist(), nodes.position[rows].tolist(), nodes.feature[rows].tolist())
    return list(zip(*columns, strict=True))


def apart(graph: AttributionGraph, theirs: np.ndarray) -> tuple[float, float]:
    """The largest difference of an edge over its row's largest, and over 1e-4 of the edge + 5e-5 of the row's largest.

    theirs: its adjacency. Infinite where the graphs have not as many nodes.
    """
    order = peer_order(graph)
    ours = np.pad(graph.to_dense(), (0, 1))[np.ix_(order, order)]  # the row and column of -1: a node we do not have
    if ours.shape != theirs.shape:
        return float("inf"), float("inf")
    difference, largest = np.abs(ours - theirs), np.abs(theirs).max(axis=1, keepdims=True)
    relative = difference / np.where(largest > 0, largest, 1)
    allowed = 1e-4 * np.abs(theirs) + 5e-5 * largest
    return float(relative.max()), float((difference / np.where(allowed > 0, allowed, 1)).max())


def compare_pruned(graph: AttributionGraph, folder: Path) -> Pruned:
    """The graph pruned and scored by us, beside what the peer wrote to `pruned.npz` and `scores.npz` of its own."""
    order = peer_order(graph)
    theirs, scored = np.load(folder / "pruned.npz"), np.load(folder / "scores.npz")
    drawn = order >= 0
    row = np.full(len(graph.nodes), -1)
    row[order[drawn]] = np.flatnonzero(drawn)

    small = prune(graph, nodes=0.8, edges=0.98, renormalise=True)
    nodes = np.zeros(len(order), dtype=bool)
    edges = np.zeros((len(order), len(order)), dtype=bool)
    back = {place: at for at, place in enumerate(_identities(graph))}
    stays = row[[back[place] for place in _identities(small)]]
    nodes[stays[stays >= 0]] = True
    target, source = stays[small.target], stays[small.source]
    inner = (target >= 0) & (source >= 0)
    edges[target[inner], source[inner]] = True

    carried = np.pad(influence(graph), (0, 1))[order]
    figures = scores(graph)
    moved = (figures.replacement - scored["replacement"], figures.completeness - scored["completeness"])
    return Pruned(
        nodes=int((nodes != theirs["nodes"]).sum()),
        kept=int((edges != theirs["edges"]).sum()),
        influence=float(np.abs(carried - scored["influence"]).max()),
        scores=float(np.abs(moved).max()),
    )


def _identities(graph: AttributionGraph) -> list[tuple]:
    nodes = graph.nodes
    columns = (nodes.kind, nodes.layer, nodes.position, nodes.feature, nodes.label)
    return list(zip(*(column.tolist() for column in columns), strict=True))
