"""The smallest part of a graph that carries a stated share of the influence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Bool, Float, Int
from numba import njit

from graphs.errors import BadOption
from graphs.graph import AttributionGraph
from graphs.paths import carry_back, influence, is_bias, rows_of
from graphs.scores import ends_of

_ALWAYS = ("token", "logit", "bias")  # kept whatever they carry
_INNER = ("feature", "neuron", "head", "mlp")  # stay only if something comes in


def prune(
    graph: AttributionGraph,
    *,
    nodes: float = 0.8,
    edges: float = 0.98,
    renormalise: bool = False,
    most_nodes: int | None = None,
) -> AttributionGraph:
    """The strongest nodes that together carry a share of the influence, and the strongest edges among them.

    1. Nodes, strongest first, until they carry `nodes` of what all nodes carry. Tokens, logits and biases stay.
    2. Influence again on what is left; edges, strongest first, until they carry `edges` of what is left. Those of
       biases stay.
    3. Until nothing changes: what leads nowhere goes, and features without an input left.

    Shares are of all that a target received in the whole trace, so removing one node never raises another. That is
    where we depart from the peer (circuit-tracer), which divides anew by what is left; on a whole graph the nodes of
    step 1 are the same. What was pruned is not forgotten: `scores` counts it as error.

    The result's `kept` says: `nodes`, `edges`, `renormalise`, `most_nodes` as asked for; `nodes_before` and
    `edges_before`; `influence` and `edge_influence`, the shares kept of what all nodes and edges of the whole graph
    carried; `node_threshold` and `edge_threshold`, the influence of the weakest allowed to stay; and replacement,
    completeness and completeness_inputs `_before` and `_after`. Pruning twice keeps the first graph's figures before.

    nodes, edges: shares, above 0 and at most 1; 1 keeps everything that leads somewhere.
    renormalise: the peer's rule to the letter, for comparison: rows divided by what is left of them at each step,
        untraced features left out from the start. Its sums here are float64; in float32 it keeps an edge more or less.
    most_nodes: at most this many of the nodes that may go, the strongest.

    Raises:
        BadOption: a share outside (0, 1], or a negative count.

    Source: METHODS 5.1 (renormalise) and 5.2 (default); Ameisen et al. 2025, "Circuit Tracing", on graph pruning.
    """
    for name, share in (("nodes", nodes), ("edges", edges)):
        if not 0 < share <= 1:
            raise BadOption(f"{name} must be a share above 0 and at most 1, found {share}.")
    if most_nodes is not None and most_nodes < 0:
        raise BadOption(f"most_nodes must not be negative, found {most_nodes}.")

    counts = ~is_bias(graph)  # whose edges have shares
    always = np.isin(graph.nodes.kind, _ALWAYS)
    if renormalise:
        counts &= graph.nodes.kind != "unselected"
    gross = _divisor(graph, counts, renormalise)
    carried = carry_back(graph, gross, counts)
    node_threshold = _threshold(carried[counts], nodes)
    stays = always | (counts & (carried >= node_threshold))
    if most_nodes is not None and np.count_nonzero(stays & ~always) > most_nodes:
        strongest = np.argsort(np.where(stays & ~always, -carried, np.inf), kind="stable")
        stays = always.copy()
        stays[strongest[:most_nodes]] = True
        node_threshold = float(carried[strongest[:most_nodes]].min(initial=np.inf))

    counts &= stays
    gross = _divisor(graph, counts, renormalise)
    out = carry_back(graph, gross, counts) + graph.goal
    edge, score = _score_edges(rows_of(graph), graph.source, graph.weight, gross, counts, stays, out)
    edge_threshold = _threshold(score[score >= 0], edges)
    edge = edge[(score < 0) | (score >= edge_threshold)]  # below 0: from a bias, which has no share

    needs_inputs = np.isin(graph.nodes.kind, _INNER)
    edge = edge[_clear(graph.source[edge], graph.target[edge], stays, ~always, needs_inputs, is_bias(graph))]
    rows = np.flatnonzero(stays)
    mask = np.zeros(len(graph.source), dtype=np.bool_)
    mask[edge] = True

    whole = influence(graph) if renormalise else carried
    known = graph.nodes.influence if np.nan_to_num(graph.nodes.influence).any() else whole
    small = graph.select(rows, mask)
    small = replace(small, nodes=small.nodes.with_columns(influence=known[rows]))
    asked = {"nodes": nodes, "edges": edges, "renormalise": renormalise, "most_nodes": most_nodes}
    thresholds = {"node_threshold": node_threshold, "edge_threshold": edge_threshold}
    return replace(small, kept={**asked, **thresholds, **_account(graph, small, whole, edge, known)})


def _account(
    graph: AttributionGraph,
    small: AttributionGraph,
    carried: Float[np.ndarray, "node"],
    edge: Int[np.ndarray, "kept"],
    known: Float[np.ndarray, "node"],
) -> dict[str, Any]:
    """What was there and what is left of it. When the graph was pruned before, against what it was before that."""
    earlier = graph.kept
    before, after = ends_of(graph, carried), ends_of(small, influence(small))
    flows = edge[~is_bias(graph)[graph.source[edge]]]
    target = graph.target[flows]
    through = np.abs(graph.weight[flows]) / graph.nodes.gross[target] * (carried + graph.goal)[target]
    account: dict[str, Any] = {
        "nodes_before": earlier.get("nodes_before", len(graph.nodes)),
        "edges_before": earlier.get("edges_before", len(graph.source)),
        "influence": earlier.get("influence", 1.0) * _share(small.nodes.influence.sum(), known.sum()),
        "edge_influence": earlier.get("edge_influence", 1.0) * _share(through.sum(), carried.sum()),
    }
    for name in ("replacement", "completeness", "completeness_inputs"):
        account[f"{name}_before"] = earlier.get(f"{name}_before", before[name])
        account[f"{name}_after"] = after[name]
    return account


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else 1.0


def _threshold(values: Float[np.ndarray, "any"], share: float) -> float:
    """The value at which the largest, added up from the top, reach this share of the sum; 0 for all of it.

    Sorting millions to find one of them is wasteful, so they are first counted into bins by their leading bits
    (positive floats sort as integers do), and only the bin where the sum gets there is sorted.
    """
    total = values.sum()
    if share >= 1 or not total > 0:
        return 0.0
    above = np.cumsum(_sums_by_bin(values)[::-1])[::-1]  # the sum of each bin and all higher ones
    reached = np.flatnonzero(above >= share * total)
    if not len(reached):  # rounding, with a share next to 1
        return float(values.min())
    within = reached[-1]
    higher = above[within + 1] if within + 1 < len(above) else 0.0
    inside = np.sort(values[values.view(np.int64) >> 46 == within])[::-1]
    place = np.searchsorted(higher + np.cumsum(inside), share * total)
    return float(inside[min(place, len(inside) - 1)])


def _divisor(graph: AttributionGraph, counts: Bool[np.ndarray, "node"], renormalise: bool) -> Float[np.ndarray, "node"]:
    """What shares are shares of: all that came in the whole trace, or only what comes from the nodes that count."""
    if not renormalise:
        return np.array(graph.nodes.gross)
    return _row_sums(rows_of(graph), graph.source, graph.weight, counts)


# In the kernels below, edges of target t are start[t]:start[t + 1] and every source is smaller than its target.
# no_type_check keeps a shape checker's import hook off: numba cannot compile what it wraps.


@njit(cache=True)
@no_type_check
def _row_sums(start, source, weight, counts):
    sums = np.zeros(len(counts))
    for target in range(len(counts)):
        for edge in range(start[target], start[target + 1]):
            if counts[source[edge]]:
                sums[target] += abs(weight[edge])
    return sums


@njit(cache=True)
@no_type_check
def _score_edges(start, source, weight, gross, counts, stays, out):
    """The edges among nodes that stay, and what each carries; -1 for those whose source does not count."""
    edges = np.empty(len(source), dtype=np.int64)
    scores = np.empty(len(source))
    found = 0
    for target in range(len(stays)):
        if not stays[target]:
            continue
        unit = out[target] / gross[target] if gross[target] > 0 else 0.0
        for edge in range(start[target], start[target + 1]):
            if stays[source[edge]]:
                edges[found] = edge
                scores[found] = abs(weight[edge]) * unit if counts[source[edge]] else -1.0
                found += 1
    return edges[:found].copy(), scores[:found].copy()


@njit(cache=True)
@no_type_check
def _clear(source, target, stays, prunable, needs_inputs, bias):
    """Drops dead ends from `stays`, in place, until there are none; returns which edges are left."""
    left = np.ones(len(source), dtype=np.bool_)
    while True:
        gives = np.zeros(len(stays), dtype=np.bool_)
        takes = np.zeros(len(stays), dtype=np.bool_)
        for edge in range(len(source)):
            left[edge] = left[edge] and stays[source[edge]] and stays[target[edge]]
            if left[edge]:
                gives[source[edge]] = True
                if not bias[source[edge]]:
                    takes[target[edge]] = True
        changed = False
        for node in range(len(stays)):
            if stays[node] and prunable[node] and not (gives[node] and (takes[node] or not needs_inputs[node])):
                stays[node] = False
                changed = True
        if not changed:
            return left


@njit(cache=True)
@no_type_check
def _sums_by_bin(values):
    """Sums of values whose leading 18 bits agree: the sign (always 0), the exponent, 6 bits of the fraction."""
    bits = values.view(np.int64)
    sums = np.zeros(1 << 17)
    for i in range(len(values)):
        sums[bits[i] >> 46] += values[i]
    return sums
