"""A graph put together from another program's nodes and links: in reading order, or refused by the nodes' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graphs.errors import BadGraph, ForeignFile
from graphs.graph import AttributionGraph
from graphs.nodes import KINDS, OF_ATTENTION, TERMINAL, Nodes

# Where a kind stands within its layer: what replaces attention before what replaces the MLP.
_FIRST, _FRONT, _LAST = ("token",), ("bias",), ("logit", "direction")
_OF_ATTENTION = ("attention", "head")
_LARGEST = {"layer": 2**31 - 2, "position": 2**31 - 2, "feature": 2**63 - 1}


def assemble(
    path: Path,
    names: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    goal: Sequence[float],
    links: tuple[Sequence[int] | np.ndarray, Sequence[int] | np.ndarray, Sequence[float] | np.ndarray],
    order: Sequence[int] | None = None,
    **parts: Any,
) -> AttributionGraph:
    """The graph whose nodes have these columns, sorted into reading order.

    Where a column of `columns` is missing: gross is the sum of the sizes of all inputs but biases, influence is
    measured on the graph, value is unknown.

    names: what the file calls each node, for messages. [node] links: source and target as places in `names`, weight.
    order: the places in reading order; by default tokens and biases, then by layer, position and kind, then logits.
    parts: token_ids, tokens, provenance, kept.

    Raises:
        ForeignFile: there is no node, a number is out of range, a link runs backward, is there twice, leads into what
            is a source only, or out of a logit.
    """
    if not len(names):
        raise ForeignFile(f"{path} holds no graph: it has no nodes.")
    _check_columns(path, names, columns)
    rows = np.asarray(_reading_order(columns) if order is None else order, dtype=np.int32)
    place = np.empty(len(rows), dtype=np.int32)
    place[rows] = np.arange(len(rows))
    # Of whole traces there are tens of millions of links: no wider than they must be.
    source, target = (place[np.asarray(each, dtype=np.int32)] for each in links[:2])
    weight = np.asarray(links[2], dtype=np.float64)
    kinds = np.array(columns["kind"])[rows]
    counts = (kinds != "bias")[source]
    gross = np.bincount(target, np.abs(weight) * counts, minlength=len(names)).astype(np.float64)
    try:
        nodes = table_of(columns).take(rows)
        graph = AttributionGraph(
            nodes=nodes if "gross" in columns else nodes.with_columns(gross=gross),
            source=source,
            target=target,
            weight=weight,
            goal=np.asarray(goal, dtype=np.float64)[rows],
            **parts,
        )
    except (BadGraph, OverflowError) as error:
        _check_links(path, [names[row] for row in rows], source, target, weight)
        raise ForeignFile(f"{path} holds no graph that can be: {error}") from error
    _check_ends(path, [names[row] for row in rows], kinds, source, target)
    if "influence" in columns:
        return graph
    from graphs.paths import influence  # half a second of numba, only where it is needed

    return replace(graph, nodes=graph.nodes.with_columns(influence=influence(graph)))


def table_of(columns: Mapping[str, Sequence[Any]]) -> Nodes:
    """The node table of these columns; of those that are missing, value is unknown, gross and influence are 0."""
    types = {"kind": "U10", "label": object, "layer": np.int32, "position": np.int32, "feature": np.int64}
    count = len(columns["kind"])
    found = {"value": np.full(count, np.nan), "gross": np.zeros(count), "influence": np.zeros(count)}
    found |= {name: np.array(column, dtype=types.get(name, np.float64)) for name, column in columns.items()}
    return Nodes(**found)


def _check_columns(path: Path, names: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> None:
    for name, most in _LARGEST.items():
        least = OF_ATTENTION if name == "feature" else -1
        for place, value in enumerate(columns[name]):
            if not least <= value <= most:
                raise ForeignFile(f"{path}: node {names[place]!r:.60} has {name} {value!r:.40}, out of range.")
    strange = sorted(set(columns["kind"]) - set(KINDS))
    if strange:
        raise ForeignFile(f"{path} has nodes of a kind that is not known: {', '.join(strange)!r:.80}.")


def _reading_order(columns: Mapping[str, Sequence[Any]]) -> list[int]:
    def key(row: int) -> tuple[int, ...]:
        kind, layer, unit = columns["kind"][row], columns["layer"][row], columns["feature"][row]
        if kind in _FIRST or kind in _FRONT or kind in _LAST:
            rank = 0 if kind in _FIRST else 1 if kind in _FRONT else 3
            return rank, layer, 0, columns["position"][row] if rank == 0 else 0, 0
        of_attention = kind in _OF_ATTENTION or (kind == "error" and unit == OF_ATTENTION)
        return 2, layer, not of_attention, columns["position"][row], kind == "error"

    return sorted(range(len(columns["kind"])), key=key)


def _check_ends(path: Path, names: Sequence[Any], kinds: np.ndarray, source: np.ndarray, target: np.ndarray) -> None:
    """Errors, tokens and biases are explained by nothing, and logits explain nothing: no score could count them."""
    wrong = np.flatnonzero(np.isin(kinds, TERMINAL)[target] | (kinds == "logit")[source])
    if len(wrong):
        ends = [f"{kinds[each[wrong[0]]]} {names[int(each[wrong[0]])]!r:.60}" for each in (source, target)]
        raise ForeignFile(
            f"{path}: a link runs from {' to '.join(ends)}: tokens, errors and biases are sources only, logits targets."
        )


def _check_links(path: Path, names: Sequence[Any], source: np.ndarray, target: np.ndarray, weight: np.ndarray) -> None:
    """What can be wrong with the links, in the names of the nodes.

    Raises:
        ForeignFile: it is.
    """

    def link(at: Any) -> str:
        return f"the link {names[int(source[at])]!r:.60} -> {names[int(target[at])]!r:.60}"

    broken = np.flatnonzero(~np.isfinite(weight))
    if len(broken):
        raise ForeignFile(f"{path}: {link(broken[0])} weighs {weight[broken[0]]}; a finite number is wanted.")
    backward = np.flatnonzero(source >= target)
    if len(backward):
        raise ForeignFile(
            f"{path}: {link(backward[0])} runs to a layer that is not above: a cycle, or no attribution graph."
        )
    pairs = target.astype(np.int64) * len(names) + source
    ranked = np.sort(pairs)
    twice = ranked[1:][ranked[1:] == ranked[:-1]]
    if len(twice):
        at = np.flatnonzero(pairs == twice[0])[0]
        raise ForeignFile(f"{path}: {link(at)} is there twice; add the weights up first.")
