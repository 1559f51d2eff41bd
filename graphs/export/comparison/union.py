"""The nodes of two graphs as those of one, at places counted from the end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from graphs.comparing import Comparison
from graphs.graph import AttributionGraph
from graphs.nodes import Nodes


@dataclass(frozen=True, eq=False)
class Union:
    """The nodes of both graphs but biases.

    graph: without edges; of what both have the larger influence and goal, of tokens that differ the longer.
    row_a, row_b: the rows in each graph, -1 where it has none. [node]
    """

    graph: AttributionGraph
    row_a: Int[np.ndarray, "node"]
    row_b: Int[np.ndarray, "node"]


def unite(a: AttributionGraph, b: AttributionGraph, found: Comparison) -> Union:
    """A's nodes in their order, then those only in B."""
    row_a = np.concatenate([np.arange(len(a.nodes)), np.full(len(found.only_b), -1)])
    row_b = np.full(len(row_a), -1)
    row_b[found.both[:, 0]] = found.both[:, 1]
    row_b[len(a.nodes) :] = found.only_b
    from_b = row_a < 0
    long = max(len(a.tokens), len(b.tokens))

    def joined(of_a: np.ndarray, of_b: np.ndarray) -> np.ndarray:
        return np.where(from_b, of_b[row_b], of_a[row_a])

    def larger(of_a: np.ndarray, of_b: np.ndarray) -> np.ndarray:
        one, other = np.where(row_a < 0, 0.0, of_a[row_a]), np.where(row_b < 0, 0.0, of_b[row_b])
        return np.fmax(np.nan_to_num(one), np.nan_to_num(other))

    def from_the_end(graph: AttributionGraph) -> np.ndarray:
        position = graph.nodes.position
        return np.where(position >= 0, position + long - len(graph.tokens), position)

    columns = {name: joined(getattr(a.nodes, name), getattr(b.nodes, name)) for name in Nodes.__dataclass_fields__}
    columns["position"] = joined(from_the_end(a), from_the_end(b))
    columns["influence"] = larger(a.nodes.influence, b.nodes.influence)
    goal = larger(a.goal, b.goal)
    kept = np.flatnonzero(columns["kind"] != "bias")
    nothing = np.zeros(0, dtype=np.int32)
    graph = AttributionGraph(
        nodes=Nodes(**columns).take(kept),
        source=nothing,
        target=nothing,
        weight=np.zeros(0),
        goal=goal[kept],
        token_ids=(0,) * long,
        tokens=tuple(max(pair, key=len) for pair in zip(*padded(a, b, ""), strict=True)),
    )
    return Union(graph, row_a[kept], row_b[kept])


def padded(a: AttributionGraph, b: AttributionGraph, blank: str) -> tuple[list[str], list[str]]:
    """Both prompts, the shorter with blanks before it."""
    long = max(len(a.tokens), len(b.tokens))
    first, second = ([blank] * (long - len(each.tokens)) + list(each.tokens) for each in (a, b))
    return first, second
