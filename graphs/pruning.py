"""The smallest part of a graph that carries a stated share of the influence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Bool, Float
from numba import njit

from graphs.errors import BadOption
from graphs.graph import AttributionGraph
from graphs.paths import influence, is_bias, rows_of, sweep_back
from graphs.scores import ends_of

_ALWAYS = ("token", "logit", "bias")  # kept whatever they carry, and so is every target of the goal
_INNER = ("feature", "attention", "neuron", "head", "mlp")  # stay only if something comes in
_DROPPED = 48  # bits of a float: what is left, the exponent and 4 bits of the fraction, is its bin


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

    bias = is_bias(graph)
    counts = ~bias  # whose edges have shares
    always = np.isin(graph.nodes.kind, _ALWAYS) | (graph.goal != 0)
    if renormalise:
        counts &= graph.nodes.kind != "unselected"
    rows = rows_of(graph), graph.source, graph.weight
    gross, goal = np.array(graph.nodes.gross), np.array(graph.goal)
    carried, unit = sweep_back(*rows, gross, renormalise, counts, goal)
    node_threshold = _threshold(carried[counts], nodes)
    stays = always | (counts & (carried >= node_threshold))
    if most_nodes is not None and np.count_nonzero(stays & ~always) > most_nodes:
        strongest = np.argsort(np.where(stays & ~always, -carried, np.inf), kind="stable")
        stays = always.copy()
        stays[strongest[:most_nodes]] = True
        node_threshold = float(carried[strongest[:most_nodes]].min(initial=np.inf))
    # The peer's denominators are ours in a whole graph, all of it traced: no need for another sweep then.
    ours = not renormalise or np.allclose((unit * gross)[unit > 0], (carried + goal)[unit > 0], rtol=1e-9, atol=0)
    whole = carried if ours else influence(graph)

    counts &= stays
    _, unit = sweep_back(*rows, gross, renormalise, counts, goal)
    source, target, weight, carries = _edges_among(*rows, unit, counts, stays)
    edge_threshold = _threshold(carries, edges)
    source, target, weight = _cut(source, target, weight, carries, edge_threshold)
    needs_inputs = np.isin(graph.nodes.kind, _INNER)
    source, target, weight = _clear(source, target, weight, stays, ~always, needs_inputs, bias)

    known = graph.nodes.influence if np.nan_to_num(graph.nodes.influence).any() else whole
    kept: dict[str, Any] = {
        "nodes": nodes,
        "edges": edges,
        "renormalise": renormalise,
        "most_nodes": most_nodes,
        "node_threshold": node_threshold,
        "edge_threshold": edge_threshold,
    }
    left = graph.nodes.take(stays).with_columns(influence=known[stays])
    small = replace(
        graph,
        nodes=left,
        provenance=left.notes_among(graph.provenance),
        source=source,
        target=target,
        weight=weight,
        goal=goal[stays],
        kept=kept,
    )
    kept.update(_account(graph, small, whole, known, stays))  # now: another graph would have all edges checked again
    return small


def _account(
    graph: AttributionGraph,
    small: AttributionGraph,
    carried: Float[np.ndarray, "node"],
    known: Float[np.ndarray, "node"],
    stays: Bool[np.ndarray, "node"],
) -> dict[str, Any]:
    """What was there and what is left of it. When the graph was pruned before, against what it was before that."""
    earlier = graph.kept
    before, after = ends_of(graph, carried), ends_of(small, influence(small))
    gross = small.nodes.gross
    unit = np.divide((carried + graph.goal)[stays], gross, out=np.zeros_like(gross), where=gross > 0)
    through = _sum_through(small.source, small.target, small.weight, unit, is_bias(small))
    account: dict[str, Any] = {
        "nodes_before": earlier.get("nodes_before", len(graph.nodes)),
        "edges_before": earlier.get("edges_before", len(graph.source)),
        "influence": earlier.get("influence", 1.0) * _share(small.nodes.influence.sum(), known.sum()),
        "edge_influence": earlier.get("edge_influence", 1.0) * _share(through, carried.sum()),
    }
    for name in ("replacement", "completeness", "completeness_inputs"):
        account[f"{name}_before"] = earlier.get(f"{name}_before", before[name])
        account[f"{name}_after"] = after[name]
    return account


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else 1.0


def _threshold(values: Float[np.ndarray, "any"], share: float) -> float:
    """The value at which the largest, added up from the top, reach this share of the sum; 0 for all of it.

    Negative values are left out. Sorting millions to find one of them is wasteful, so they are first counted into bins
    by their leading bits (positive floats sort as integers do), and only the bin where the sum gets there is sorted.
    """
    sums = _sums_by_bin(values)
    above = np.cumsum(sums[::-1])[::-1]  # the sum of each bin and all higher ones
    wanted = share * above[0]
    if share >= 1 or not wanted > 0:
        return 0.0
    within = np.flatnonzero(above >= wanted)[-1]
    higher = above[within] - sums[within]
    inside = np.sort(values[values.view(np.int64) >> _DROPPED == within])[::-1]
    place = np.searchsorted(higher + np.cumsum(inside), wanted)
    return float(inside[min(place, len(inside) - 1)])


# In the kernels below, edges of target t are start[t]:start[t + 1] and every source is smaller than its target.
# no_type_check keeps a shape checker's import hook off: numba cannot compile what it wraps.


@njit(cache=True)
@no_type_check
def _edges_among(start, source, weight, unit, counts, stays):
    """The edges among nodes that stay: source, target, weight, and what each carries; -1 if its source has no share."""
    most = 1
    for target in range(len(unit)):
        most += stays[target] * (start[target + 1] - start[target])
    sources, targets = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.int32)
    weights, carries = np.empty(most), np.empty(most)
    share, free = counts.astype(np.float64), (~counts).astype(np.float64)
    found = 0
    for target in range(len(unit)):
        if stays[target]:
            rate = unit[target]
            from_, by = source[start[target] : start[target + 1]], weight[start[target] : start[target + 1]]
            for i in range(len(from_)):
                # Written in any case and overwritten by the next: no branch to guess wrongly.
                sources[found] = from_[i]
                targets[found] = target
                weights[found] = by[i]
                carries[found] = abs(by[i]) * rate * share[from_[i]] - free[from_[i]]
                found += stays[from_[i]]
    return sources[:found], targets[:found], weights[:found], carries[:found]


@njit(cache=True)
@no_type_check
def _cut(source, target, weight, carries, threshold):
    """The edges that carry enough, or have no share, moved to the front of the same arrays."""
    kept = 0
    for edge in range(len(source)):
        source[kept], target[kept], weight[kept] = source[edge], target[edge], weight[edge]
        kept += (carries[edge] < 0) | (carries[edge] >= threshold)
    return source[:kept], target[:kept], weight[:kept]


@njit(cache=True)
@no_type_check
def _clear(source, target, weight, stays, prunable, needs_inputs, bias):
    """Drops dead ends from `stays`, in place, until there are none; returns the edges left, by their new rows."""
    left = np.ones(len(source), dtype=np.bool_)
    changed = True
    while changed:
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
    row = np.cumsum(stays) - 1
    kept = 0
    for edge in range(len(source)):
        if left[edge]:
            source[kept], target[kept], weight[kept] = row[source[edge]], row[target[edge]], weight[edge]
            kept += 1
    return source[:kept], target[:kept], weight[:kept]


@njit(cache=True)
@no_type_check
def _sums_by_bin(values):
    bits = values.view(np.int64)
    sums = np.zeros(1 << (63 - _DROPPED))
    for i in range(len(values)):
        if values[i] > 0:
            sums[bits[i] >> _DROPPED] += values[i]
    return sums


@njit(cache=True)
@no_type_check
def _sum_through(source, target, weight, unit, bias):
    """What all edges but those of biases carry. unit: what one of weight into a node carries. [node]"""
    through = 0.0
    for edge in range(len(source)):
        if not bias[source[edge]]:
            through += abs(weight[edge]) * unit[target[edge]]
    return through
