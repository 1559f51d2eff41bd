"""Nodes put together into supernodes: groups that a person names, or suggested ones."""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from graphs.errors import BadOption, ForeignFolder
from graphs.graph import AttributionGraph
from graphs.naming import find_nodes, name_of
from graphs.nodes import Nodes
from graphs.paths import edge_influence, influence
from graphs.scores import ends_of
from graphs.suggesting import TOGETHER, UNITS, suggest_groups

MOST_TOLD = 12  # nodes that a message names


def group(
    graph: AttributionGraph,
    groups: Mapping[str, Sequence[int | str]] | None = None,
    *,
    distance: float = 0.3,
    same_position: bool = False,
) -> AttributionGraph:
    """The same graph with groups of nodes made one node each. Nodes in no group stay as they are.

    Let out_t be what runs through node t (its influence and its part of the goal), N its signed shares, and Out_T what
    leaves group T for others or for the goal. An edge of the result is

        share(T, S) = Σ_{t in T} out_t Σ_{s in S} N[t, s] / Out_T

    so that, where nothing cancels, every edge between groups carries the influence that its edges carried, and the
    same shares end in tokens, in errors and in what was pruned. What cancels within an edge counts as pruned, since
    the picture no longer shows it. The published formula weighs members by their input from outside the group, which
    lets a member that leads nowhere speak as loudly as one that decides; that is where we depart from it.

    A group's `gross` is the mean of its members', its weights in that unit; its inputs sum to its `value`. Several
    units make a node of kind "supernode", whose `feature` is its place in `provenance["groups"]`: for each group
    `label`, `kind`, the `nodes` it was made of (rows of the first graph that was grouped), their `names`, `layers` and
    `positions`. `kept` is that of pruning, with what was lost by cancelling in `influence`, and `grouped`: how many
    nodes and edges went in.

    groups: name -> nodes, as rows, or as texts that `find_nodes` understands. By default `suggest_groups`.
    distance, same_position: passed to `suggest_groups`.

    Raises:
        BadOption: a node is not there or is in two groups, a group holds nodes that do not go together, or groups
            feed each other in a circle.

    Source: METHODS 10; Ameisen et al. 2025, "Circuit Tracing", on supernodes.
    """
    if groups is None:
        groups = suggest_groups(graph, distance=distance, same_position=same_position)
    member, labels = _membership(graph, find_groups(graph, groups))
    order = _reading_order(graph, member, labels)
    member = np.argsort(order)[member]
    labels = [labels[old] for old in order]
    return _merge(graph, member, labels)


def read_groups(path: str | Path) -> dict[str, list[int | str]]:
    """Groups from a JSON file: `{"name": [node, …], …}`, or `[["name", node, …], …]` as viewers of graphs save them.

    Raises:
        ForeignFolder: the file cannot be read, or holds something else.
    """
    wanted = '{"name": [node, …], …} or [["name", node, …], …], a node being a row or a text such as "L2/544@3"'
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as broken:
        raise ForeignFolder(f"{path} could not be read as groups: {broken}. Wanted is {wanted}.") from broken
    if isinstance(record, dict):
        record = [[name, *nodes] if isinstance(nodes, list) else nodes for name, nodes in record.items()]
    fits = isinstance(record, list) and all(
        isinstance(each, list) and each and isinstance(each[0], str) and all(type(n) in (int, str) for n in each[1:])
        for each in record
    )
    if not fits:
        raise ForeignFolder(f"{path} holds no groups: wanted is {wanted}.")
    names = [each[0] for each in record]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ForeignFolder(f"{path} has two groups named {twice[0]!r}: give each a name of its own.")
    return {each[0]: each[1:] for each in record}


def find_groups(graph: AttributionGraph, groups: Mapping[str, Sequence[int | str]]) -> dict[str, list[int]]:
    """The rows of each group that has nodes: see `find_nodes`.

    Raises:
        BadOption: a node is not there or is in two groups, or a group holds nodes that do not go together.
    """
    chosen = {str(label): find_nodes(graph, nodes) for label, nodes in groups.items() if len(nodes)}
    _membership(graph, chosen)
    return chosen


def _membership(graph: AttributionGraph, groups: Mapping[str, list[int]]) -> tuple[Int[np.ndarray, "node"], list[str]]:
    """Which group each node is in, those in none in one of their own, and what groups are called.

    Raises:
        BadOption: see `find_groups`.
    """
    member = np.full(len(graph.nodes), -1)
    for place, (label, rows) in enumerate(groups.items()):
        taken = [row for row in rows if member[row] >= 0]
        if taken:
            other = list(groups)[member[taken[0]]]
            node = f"{name_of(graph, taken[0])} ({graph.nodes.label[taken[0]]})"
            raise BadOption(f"node {taken[0]}, {node}, is in two groups, {other!r} and {label!r}: leave it in one.")
        kinds = {"unit" if kind in UNITS else kind for kind in graph.nodes.kind[rows].tolist()}
        if len(kinds) > 1:
            raise BadOption(
                f"group {label!r} holds {' and '.join(sorted(kinds))}: units go with units, tokens with tokens, errors "
                "with errors."
            )
        member[rows] = place
    alone = np.flatnonzero(member < 0)
    member[alone] = len(groups) + np.arange(len(alone))
    return member, [*groups, *(str(label) for label in graph.nodes.label[alone])]


def _reading_order(graph: AttributionGraph, member: Int[np.ndarray, "node"], labels: Sequence[str]) -> list[int]:
    """The groups so that every edge points forward, as far as possible in the order of their first nodes."""
    first = np.full(len(labels), len(member))
    np.minimum.at(first, member, np.arange(len(member)))
    pairs = np.unique(np.stack([member[graph.source], member[graph.target]]), axis=1)
    pairs = pairs[:, pairs[0] != pairs[1]]
    waits = np.bincount(pairs[1], minlength=len(labels))
    begins = np.searchsorted(pairs[0], np.arange(len(labels) + 1))
    ready = [(int(first[place]), place) for place in np.flatnonzero(waits == 0).tolist()]
    heapq.heapify(ready)
    order = []
    while ready:
        _, place = heapq.heappop(ready)
        order.append(place)
        for target in pairs[1, begins[place] : begins[place + 1]].tolist():
            waits[target] -= 1
            if waits[target] == 0:
                heapq.heappush(ready, (int(first[target]), target))
    if len(order) < len(labels):
        among = pairs[:, (waits[pairs] > 0).all(axis=0)]
        named = np.flatnonzero((np.bincount(member) > 1) & (waits > 0)).tolist()
        place, between = min(
            ((place, ring) for place in named if (ring := _reached(among, place) & _reached(among[::-1], place))),
            key=lambda found: len(found[1]),
        )
        others = [labels[other] for other in named if other in between - {place}]
        if others:
            raise BadOption(
                f"groups feed each other in a circle ({', '.join([labels[place], *others][:4])}): take apart one of "
                "them, for instance into its earlier and its later layers."
            )
        rows = sorted(first[list(between - {place})].tolist())
        told = ", ".join(f"{name_of(graph, row)} ({graph.nodes.label[row]})" for row in rows[:MOST_TOLD])
        told += f" and {len(rows) - MOST_TOLD} more" if len(rows) > MOST_TOLD else ""
        raise BadOption(
            f"group {labels[place]!r} feeds itself in a circle, through nodes that lie between its own: {told}. Put "
            "them into it, or take it apart, for instance into its earlier and its later layers."
        )
    return order


def _reached(pairs: Int[np.ndarray, "2 pair"], start: int) -> set[int]:
    """What is led to from a group along the pairs; the group itself only where a way leads back to it."""
    found: set[int] = set()
    edge = [start]
    while edge:
        edge = sorted(set(pairs[1, np.isin(pairs[0], edge)].tolist()) - found)
        found.update(edge)
    return found


def _merge(graph: AttributionGraph, member: Int[np.ndarray, "node"], labels: Sequence[str]) -> AttributionGraph:
    nodes = graph.nodes
    count = len(labels)
    size = np.bincount(member, minlength=count)
    carried = influence(graph)
    through = carried + graph.goal
    inside = member[graph.source] == member[graph.target]
    carries = edge_influence(graph, carried)
    stays = _sums(member[graph.target[inside]], carries[inside], count)  # what runs within a group
    passing = _sums(member, through, count)
    leaving = passing - stays
    gross = _over(_sums(member, through * nodes.gross, count), passing)
    silent = ~(leaving > 1e-12 * np.maximum(passing, 1e-300))  # nothing leaves: members count alike
    part = _over((gross / np.where(silent, 1, leaving))[member] * through, nodes.gross)
    part = np.where(size[member] == 1, 1.0, np.where(silent[member], 1 / size[member], part))

    scaled = part[graph.target] * graph.weight
    pair = member[graph.target].astype(np.int64) * count + member[graph.source]
    edge, place = np.unique(pair[~inside], return_inverse=True)
    value = part * (np.nan_to_num(nodes.value) - _sums(graph.target[inside], graph.weight[inside], len(member)))
    received = part * (nodes.gross - _sums(graph.target[inside], np.abs(graph.weight[inside]), len(member)))
    gross = np.where(silent | (size == 1), _sums(member, received, count), gross)
    table, groups = _node_table(graph, member, labels, stays)
    table = table.with_columns(
        value=np.where(np.isin(table.kind, ("token", *TOGETHER)), np.nan, _sums(member, value, count)),
        gross=gross,
    )
    merged = replace(
        graph,
        nodes=table,
        source=(edge % count).astype(np.int64),
        target=(edge // count).astype(np.int64),
        weight=_sums(place, scaled[~inside], len(edge)),
        goal=_sums(member, graph.goal, count),
        provenance={**graph.provenance, "groups": groups},
    )
    between = float(carries[~inside].sum())
    shown = float(edge_influence(merged).sum()) / between if between > 0 else 1.0
    return replace(merged, kept=_account(graph, merged, carried, min(shown, 1.0)))


def _account(
    graph: AttributionGraph, merged: AttributionGraph, carried: Float[np.ndarray, "node"], shown: float
) -> dict[str, Any]:
    """What `kept` says of the grouped graph. shown: of what ran between groups, the share that did not cancel."""
    earlier = graph.kept
    before, after = ends_of(graph, carried), ends_of(merged, influence(merged))
    account: dict[str, Any] = {
        **earlier,
        "nodes_before": earlier.get("nodes_before", len(graph.nodes)),
        "edges_before": earlier.get("edges_before", len(graph.source)),
        "influence": earlier.get("influence", 1.0) * shown,
        "edge_influence": earlier.get("edge_influence", 1.0) * shown,
        "grouped": earlier.get("grouped", {"nodes": len(graph.nodes), "edges": len(graph.source)}),
    }
    for name in ("replacement", "completeness", "completeness_inputs"):
        account[f"{name}_before"] = earlier.get(f"{name}_before", before[name])
        account[f"{name}_after"] = after[name]
    return account


def _node_table(
    graph: AttributionGraph, member: Int[np.ndarray, "node"], labels: Sequence[str], stays: Float[np.ndarray, "group"]
) -> tuple[Nodes, list[dict[str, Any]]]:
    """The rows of the grouped graph, values and gross left as those of first members, and the list of its groups."""
    nodes = graph.nodes
    members = [np.flatnonzero(member == place) for place in range(len(labels))]
    known = list(graph.provenance.get("groups") or [])
    table = nodes.take([int(rows[0]) for rows in members])
    columns = {name: np.array(getattr(table, name)) for name in ("kind", "layer", "position", "feature", "activation")}
    moving = np.array([float(nodes.influence[rows].sum()) for rows in members])
    groups: list[dict[str, Any]] = []
    for place, rows in enumerate(members):
        kind = str(nodes.kind[rows[0]])
        if len(rows) == 1:
            if kind == "supernode" and known:
                columns["feature"][place] = len(groups)
                groups.append(known[int(nodes.feature[rows[0]])])
            continue
        parts = [_described(graph, int(row), known) for row in rows]
        weights = np.maximum(nodes.influence[rows], 1e-12)
        where = set(nodes.position[rows].tolist())
        # What ran from member to member was counted at both.
        moving[place] -= stays[place]
        columns["kind"][place] = "supernode" if kind in UNITS else kind
        columns["layer"][place] = round(float(np.average(nodes.layer[rows], weights=weights)))
        columns["position"][place] = where.pop() if len(where) == 1 else -1
        columns["feature"][place] = len(groups) if kind in UNITS else -1
        columns["activation"][place] = nodes.activation[rows].sum() if kind == "logit" else 1.0
        layers = [layer for each in parts for layer in each["layers"]]
        groups.append(
            {
                "label": labels[place],
                "kind": columns["kind"][place],
                "nodes": [row for each in parts for row in each["nodes"]],
                "names": [name for each in parts for name in each["names"]],
                "layers": [min(layers), max(layers)],
                "positions": sorted({at for each in parts for at in each["positions"]}),
            }
        )
    label = np.array(labels, dtype=object)
    return table.with_columns(**columns, influence=np.maximum(moving, 0.0), label=label), groups


def _described(graph: AttributionGraph, row: int, known: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    if graph.nodes.kind[row] == "supernode" and known:
        return known[int(graph.nodes.feature[row])]
    layer = int(graph.nodes.layer[row])
    at = int(graph.nodes.position[row])
    return {"nodes": [row], "names": [name_of(graph, row)], "layers": [layer, layer], "positions": [at]}


def _sums(place: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """The sum of the values at each place, 0 where there are none. In float64, also when there are none at all."""
    return np.bincount(place, values, minlength=count).astype(np.float64)


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
