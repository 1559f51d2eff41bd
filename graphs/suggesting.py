"""Groups suggested by what their nodes do: fed alike, leading to the same, firing alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from graphs.errors import BadOption
from graphs.graph import AttributionGraph
from graphs.naming import name_of
from graphs.paths import signed_share

# These may share a group; of the others, only equals.
UNITS = ("feature", "attention", "neuron", "head", "mlp", "supernode")
TOGETHER = {"error": "errors", "unselected": "features not traced", "bias": "biases"}  # suggested as one group each
MOST = 1500  # inner nodes that a suggestion looks at: its cost grows with their cube


def suggest_groups(
    graph: AttributionGraph, *, distance: float = 0.3, same_position: bool = False
) -> dict[str, list[int]]:
    """Groups of units that are fed alike, lead to the same, and fire at the same tokens; name -> rows.

    Clusters grow by average linkage until the nearest two are further apart than `distance`: one minus the mean cosine
    of three profiles, each of length 1: signed shares from every node upstream, along all paths; the same to every node
    downstream; and the unit's activations over the prompt. Two clusters stay apart when they push the goal opposite
    ways, or when together they would feed themselves through a third. Errors make one group, biases another.

    These are proposals. No automatic method was found to suffice; ablate a group to test it.

    distance: 0 groups only what is alike in everything, 1 lets the unrelated join.
    same_position: only units at the same token go together.

    Raises:
        BadOption: a distance outside 0 to 1, or a graph too large to suggest for.

    Source: METHODS 10.
    """
    if not 0 <= distance <= 1:
        raise BadOption(f"distance must be 0 to 1, found {distance}.")
    found: dict[str, list[int]] = {}
    for kind, name in TOGETHER.items():
        rows = graph.nodes.where(kind)
        if len(rows) > 1:
            found[name] = rows.tolist()
    rows = graph.nodes.where(*UNITS)
    if len(rows) > MOST:
        raise BadOption(
            f"groups are suggested for {MOST:,} units at most, found {len(rows):,}: prune the graph first, or name "
            "the groups yourself."
        )
    for cluster in _clusters(graph, rows, distance, same_position):
        if len(cluster) > 1:
            name = _name(graph, cluster)
            tries = (name if n == 1 else f"{name} ({n})" for n in range(1, len(rows) + 2))
            found[next(each for each in tries if each not in found)] = sorted(cluster)
    return found


def _clusters(
    graph: AttributionGraph, rows: Int[np.ndarray, "unit"], distance: float, same_position: bool
) -> list[list[int]]:
    apart = 1 - _likeness(graph, rows)
    effect = np.sign(_effect(graph)[rows])
    apart[effect[:, None] != effect[None, :]] = np.inf
    if same_position:
        at = graph.nodes.position[rows]
        apart[at[:, None] != at[None, :]] = np.inf
    np.fill_diagonal(apart, np.inf)
    reaches = _reachable(graph)[np.ix_(rows, rows)]
    clusters = [[int(row)] for row in rows]
    while len(rows):
        one, other = divmod(int(np.argmin(apart)), len(rows))
        if not apart[one, other] <= distance:
            break
        middle = (reaches[one] & reaches[:, other]) | (reaches[other] & reaches[:, one])
        middle[[one, other]] = False
        if middle.any():
            apart[one, other] = apart[other, one] = np.inf
            continue
        # Average linkage: the new cluster is as far from a third as its members are in the mean.
        here, there = len(clusters[one]), len(clusters[other])
        mean = (here * apart[one] + there * apart[other]) / (here + there)
        mean[one] = np.inf
        apart[one], apart[:, one] = mean, mean
        apart[other], apart[:, other] = np.inf, np.inf
        clusters[one] += clusters[other]
        clusters[other] = []
        reaches[one] |= reaches[other]
        reaches[:, one] |= reaches[:, other]
        reaches[other], reaches[:, other] = False, False
        reaches |= np.outer(reaches[:, one], reaches[one])
        reaches[one, one] = False
    return [cluster for cluster in clusters if cluster]


def _likeness(graph: AttributionGraph, rows: Int[np.ndarray, "unit"]) -> Float[np.ndarray, "unit unit"]:
    """The mean cosine of what feeds two units, what they feed, and where in the prompt they fire."""
    count = len(graph.nodes)
    share = np.zeros((count, count))
    share[graph.target, graph.source] = signed_share(graph)
    # Along all paths: (1 - share)⁻¹ - 1. Rows stand in reading order, so the matrix is triangular.
    paths = np.linalg.inv(np.eye(count) - share) - np.eye(count)
    nodes = graph.nodes
    units = [nodes.unit(int(row)) for row in rows]
    index = {unit: place for place, unit in enumerate(dict.fromkeys(units))}
    own = np.array([index[unit] for unit in units], dtype=np.int64)
    fires = np.zeros((len(index), len(graph.tokens) + 1))
    fires[own, nodes.position[rows]] = nodes.activation[rows]  # the last column is for what has no position
    profiles = (paths[rows], paths[:, rows].T, fires[own] if len(rows) else np.zeros((0, 1)))
    return sum((_cosines(profile) for profile in profiles), np.zeros((len(rows), len(rows)))) / len(profiles)


def _cosines(profile: Float[np.ndarray, "unit way"]) -> Float[np.ndarray, "unit unit"]:
    long = np.linalg.norm(profile, axis=1, keepdims=True)
    unit = np.divide(profile, long, out=np.zeros_like(profile), where=long > 0)
    return unit @ unit.T


def _effect(graph: AttributionGraph) -> Float[np.ndarray, "node"]:
    """The signed share of the goal that each node pushes for, along every path."""
    share = signed_share(graph)
    effect = np.array(graph.goal)
    begins = np.searchsorted(graph.target, np.arange(len(effect) + 1))
    for target in range(len(effect) - 1, -1, -1):
        edges = slice(begins[target], begins[target + 1])
        effect[graph.source[edges]] += share[edges] * effect[target]
    return effect


def _reachable(graph: AttributionGraph) -> Bool[np.ndarray, "source target"]:
    """Which nodes each node leads to, along any path."""
    count = len(graph.nodes)
    reaches = np.zeros((count, count), dtype=bool)
    for target, source in zip(graph.target.tolist()[::-1], graph.source.tolist()[::-1], strict=True):
        reaches[source, target] = True
        reaches[source] |= reaches[target]
    return reaches


def _name(graph: AttributionGraph, rows: Sequence[int]) -> str:
    """What its members are called; of several names the one that carries most."""
    carried: dict[str, float] = {}
    for row in rows:
        name = str(graph.nodes.label[row]).strip() or name_of(graph, row).split("@")[0]
        carried[name] = carried.get(name, 0.0) + float(graph.nodes.influence[row])
    return max(carried, key=lambda name: carried[name])
