"""Sums over every path of a graph: how much each node and edge matters, and which single paths matter most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Bool, Float, Int
from numba import njit

from graphs.graph import AttributionGraph


@dataclass(frozen=True)
class Path:
    """One way through a graph, from a token to the goal.

    nodes: rows of the node table, token first, logit last.
    weights: the signed weight of each hop, in its target's units; one fewer than nodes.
    shares: each hop as a signed share of everything that its target received.
    influence: the share of the goal that runs along this path alone, the product of the sizes of the shares.
    """

    nodes: tuple[int, ...]
    weights: tuple[float, ...]
    shares: tuple[float, ...]
    influence: float


def influence(graph: AttributionGraph, *, biases: bool = False) -> Float[np.ndarray, "node"]:
    """The share of the goal that each node carries, along every path at once.

    Let N[t, s] be the size of edge s -> t as a share of `nodes.gross[t]`, of all that t received in the whole trace.
    The result is `goal @ (N + N² + N³ + …)`: one power per hop. Nodes stand in reading order, so one sweep from the
    last node to the first is the whole sum. It is no share of one: a node is counted once for each path's passing,
    so all the nodes of one path carry the same. Logit nodes carry nothing, since nothing comes after them.

    On a pruned graph the denominators stay those of the whole trace: what was pruned carries influence away.
    On a whole graph this is the peer's (circuit-tracer's) node influence.

    biases: count bias nodes as sources too, in the denominators as well. Without, they carry nothing.

    Source: METHODS 5.1 and 5.2; Ameisen et al. 2025, "Circuit Tracing", on graph pruning.
    """
    passes = np.ones(len(graph.nodes), dtype=np.bool_) if biases else ~is_bias(graph)
    return carry_back(graph, received(graph, biases=biases), passes)


def edge_influence(
    graph: AttributionGraph, carried: Float[np.ndarray, "node"] | None = None
) -> Float[np.ndarray, "edge"]:
    """The share of the goal that each edge carries: its share of its target, times what runs through that target.

    Edges of biases carry nothing. Inputs of one target sum to what its node carries, plus its own part of the goal.

    carried: `influence(graph)`, if it is known already.
    """
    carried = influence(graph) if carried is None else carried
    return np.abs(signed_share(graph)) * (carried + graph.goal)[graph.target]


def signed_share(graph: AttributionGraph) -> Float[np.ndarray, "edge"]:
    """Each weight over everything that its target received in the whole trace (`nodes.gross`); 0 for bias edges."""
    gross = received(graph)
    scale = np.divide(1.0, gross, out=np.zeros_like(gross), where=gross > 0)
    return np.where(is_bias(graph)[graph.source], 0.0, graph.weight * scale[graph.target])


def received(graph: AttributionGraph, *, biases: bool = False) -> Float[np.ndarray, "node"]:
    """What each node received in the whole trace, the denominators of all shares: `nodes.gross`, biases on request."""
    if not biases:
        return graph.nodes.gross
    from_bias = is_bias(graph)[graph.source]
    bias = np.bincount(graph.target[from_bias], np.abs(graph.weight[from_bias]), minlength=len(graph.nodes))
    return graph.nodes.gross + bias


def carry_back(
    graph: AttributionGraph, gross: Float[np.ndarray, "node"], passes: Bool[np.ndarray, "node"]
) -> Float[np.ndarray, "node"]:
    """`influence` with denominators and sources of the caller's choice.

    gross: what each node received; one that received nothing passes nothing on. [node]
    passes: the nodes that carry anything as a source. [node]
    """
    # Copies, so that the kernel sees one kind of array: a frozen column would have it compiled a second time.
    rows = rows_of(graph), graph.source, graph.weight
    return sweep_back(*rows, np.array(gross), False, passes, np.array(graph.goal))[0]


def rows_of(graph: AttributionGraph) -> Int[np.ndarray, "row"]:
    """Where each target's edges begin: those of node t are `start[t]:start[t + 1]`, since edges stand by target."""
    # Of the column's own type: for another, searchsorted copies all edges.
    return np.searchsorted(graph.target, np.arange(len(graph.nodes) + 1, dtype=graph.target.dtype))


def is_bias(graph: AttributionGraph) -> Bool[np.ndarray, "node"]:
    """Which nodes are biases: constants, left out of shares unless asked for."""
    return graph.nodes.kind == "bias"


def mean_length(graph: AttributionGraph) -> float:
    """The mean number of hops from a token to the goal, each path counting by what it carries; nan if none arrives.

    One sweep forward: a node's paths are those of its inputs, one hop longer. METHODS 5.4.
    """
    tokens = graph.nodes.kind == "token"
    share = np.abs(signed_share(graph))
    carries, hops = _sweep_forward(rows_of(graph), graph.source, share, tokens)
    arrived = float(graph.goal @ carries)
    return float(graph.goal @ hops) / arrived if arrived > 0 else float("nan")


def strongest_paths(graph: AttributionGraph, count: int = 5) -> tuple[Path, ...]:
    """The paths from a token to the goal that carry most, strongest first. Exact; fewer when there are fewer.

    A path carries the product of the sizes of its shares, times the goal at its end, over the whole goal.

    Each node keeps its `count` best beginnings: the best paths of a target are one hop on from its sources' best.
    """
    tokens = graph.nodes.kind == "token"
    share = signed_share(graph)
    strength, edge, rank = _best_beginnings(rows_of(graph), graph.source, np.abs(share), tokens, max(count, 1))
    ends = (strength * graph.goal[:, None]).ravel()
    best = np.argsort(-ends, kind="stable")[: max(count, 0)]
    whole = graph.goal.sum()
    return tuple(
        _walk_back(graph, share, edge, rank, int(end), float(ends[end] / whole)) for end in best if ends[end] > 0
    )


def _walk_back(
    graph: AttributionGraph, share: np.ndarray, edge: np.ndarray, rank: np.ndarray, end: int, carried: float
) -> Path:
    node, place = divmod(end, edge.shape[1])
    nodes, edges = [node], []
    while edge[node, place] >= 0:
        edges.append(int(edge[node, place]))
        node, place = int(graph.source[edges[-1]]), int(rank[node, place])
        nodes.append(node)
    edges.reverse()
    return Path(
        nodes=tuple(reversed(nodes)),
        weights=tuple(float(graph.weight[e]) for e in edges),
        shares=tuple(float(share[e]) for e in edges),
        influence=carried,
    )


# In the kernels below, edges of target t are start[t]:start[t + 1] and every source is smaller than its target.
# no_type_check keeps a shape checker's import hook off: numba cannot compile what it wraps.


# Sums may be taken in any order, so that several are taken at once; what is not finite must stay so.
@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
@no_type_check
def sweep_back(start, source, weight, gross, anew, passes, goal):
    """What each node carries, and what a unit of weight into it does: what flows on from it over its denominator.

    gross: the denominators. anew: take what comes from the nodes that pass instead, while the row is at hand.
    """
    carried, unit = np.zeros(len(goal)), np.zeros(len(goal))
    share = passes.astype(np.float64)  # factors, not branches: which source passes is hard to guess
    for target in range(len(goal) - 1, -1, -1):
        carried[target] *= share[target]  # it is nobody's source any more
        out = carried[target] + goal[target]
        if out == 0:
            continue
        begin, end = start[target], start[target + 1]
        received = gross[target]
        if anew:
            received = 0.0
            edge = begin
            while edge < end:
                stop = _end_of_run(source, edge, end)
                sizes, factors = weight[edge:stop], share[source[edge] : source[stop - 1] + 1]
                for i in range(len(sizes)):
                    received += abs(sizes[i]) * factors[i]
                edge = stop
        if received > 0:
            rate = out / received
            unit[target] = rate
            edge = begin
            while edge < end:
                stop = _end_of_run(source, edge, end)
                sizes, sums = weight[edge:stop], carried[source[edge] : source[stop - 1] + 1]
                for i in range(len(sizes)):
                    sums[i] += abs(sizes[i]) * rate
                edge = stop
    return carried, unit


@njit(cache=True)
@no_type_check
def _end_of_run(source, edge, end):
    """Where the run of neighbouring sources ends that begins at this edge; a whole graph's rows are a few long ones.

    Sources of a row ascend, so the run goes on up to an edge whose source is as far from the first's as it is itself.
    """
    step = 1
    while edge + step < end and source[edge + step] - source[edge] == step:
        step *= 2
    last, stop = edge + step // 2, min(edge + step, end)
    while stop - last > 1:
        middle = (last + stop) // 2
        if source[middle] - source[edge] == middle - edge:
            last = middle
        else:
            stop = middle
    return stop


@njit(cache=True)
@no_type_check
def _sweep_forward(start, source, share, tokens):
    carries = tokens.astype(np.float64)
    hops = np.zeros(len(tokens))
    for target in range(len(tokens)):
        for edge in range(start[target], start[target + 1]):
            before = source[edge]
            carries[target] += share[edge] * carries[before]
            hops[target] += share[edge] * (hops[before] + carries[before])
    return carries, hops


@njit(cache=True)
@no_type_check
def _best_beginnings(start, source, share, tokens, count):
    nodes = len(tokens)
    strength = np.zeros((nodes, count))
    edge_of = np.full((nodes, count), -1)
    rank_of = np.zeros((nodes, count), dtype=np.int64)
    for target in range(nodes):
        if tokens[target]:
            strength[target, 0] = 1.0
        for edge in range(start[target], start[target + 1]):
            for rank in range(count):
                offer = share[edge] * strength[source[edge], rank]
                if not offer > strength[target, count - 1]:
                    break  # the source's next beginnings are weaker still
                place = count - 1
                while place > 0 and strength[target, place - 1] < offer:
                    strength[target, place] = strength[target, place - 1]
                    edge_of[target, place] = edge_of[target, place - 1]
                    rank_of[target, place] = rank_of[target, place - 1]
                    place -= 1
                strength[target, place] = offer
                edge_of[target, place] = edge
                rank_of[target, place] = rank
    return strength, edge_of, rank_of
