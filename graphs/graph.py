"""What an attribution graph is; checked at birth, frozen ever after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from graphs.errors import BadGraph
from graphs.nodes import Nodes

BLOCK = 2**16  # edges that are checked at a time


@dataclass(frozen=True, eq=False)
class AttributionGraph:
    """One prompt's causal graph: who contributed how much to whom, on this run.

    nodes: the node table, in reading order. [node]
    source, target: rows of the node table; source < target on every edge, sorted by (target, source). [edge]
    weight: the signed direct effect of source on target, in the target's units. [edge]
    goal: what is to be explained: the probability on each logit node, 0 elsewhere. [node]
    token_ids, tokens: the prompt as the model read it, special tokens included. [pos]
    provenance: how the graph was made: model, transcoders, method, options, versions, conservation. JSON values only.
    kept: what pruning kept, empty for a whole graph: see `prune`. JSON values only.

    Columns are copied, but for those that are read-only already: the edges of a large graph need not be there twice.

    Raises:
        BadGraph: the parts do not fit together; the message names the first thing that is wrong.
    """

    nodes: Nodes
    source: Int[np.ndarray, "edge"]
    target: Int[np.ndarray, "edge"]
    weight: Float[np.ndarray, "edge"]
    goal: Float[np.ndarray, "node"]
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {
            "source": _frozen(self.source, np.int32),
            "target": _frozen(self.target, np.int32),
            "weight": _frozen(self.weight, np.float64),
            "goal": _frozen(self.goal, np.float64),
        }
        if len({len(columns[name]) for name in ("source", "target", "weight")}) == 1:
            order = _reading_order(columns["source"], columns["target"])
            if order is not None:
                for name in ("source", "target", "weight"):
                    columns[name] = _frozen(columns[name][order], columns[name].dtype)
        for name, column in columns.items():
            object.__setattr__(self, name, column)
        object.__setattr__(self, "token_ids", tuple(int(i) for i in self.token_ids))
        object.__setattr__(self, "tokens", tuple(str(t) for t in self.tokens))
        _check(self)

    def __repr__(self) -> str:
        return f"AttributionGraph({' '.join(self.tokens)!r}: {len(self.nodes)} nodes, {len(self.source)} edges)"

    def _repr_html_(self) -> str:
        """The graph as a notebook shows it, with what each node is under the pointer."""
        from graphs.export.picture import in_notebook

        return in_notebook(self)

    def _repr_svg_(self) -> str | None:
        """The same picture for viewers that show no HTML."""
        from graphs.export.picture import as_svg

        return as_svg(self)

    def widget(self, **options: Any) -> Any:
        """The page of the graph in a notebook: see `graphs.widget.make_widget`, which takes the options."""
        from graphs.widget import make_widget

        return make_widget(self, **options)

    def to_dense(self) -> Float[np.ndarray, "target source"]:
        """The edges as a matrix, rows are targets. For small graphs and for tests: [node, node] numbers."""
        dense = np.zeros((len(self.nodes), len(self.nodes)))
        dense[self.target, self.source] = self.weight
        return dense

    def select(self, rows: Sequence[int] | np.ndarray, edges: np.ndarray | None = None) -> AttributionGraph:
        """The part of the graph on these node rows, with the edges among them (or those that `edges` marks).

        What is left out is not forgotten: each target's `gross` and `value` stay those of the whole trace. Of the notes
        on features in the provenance those stay whose features do.

        rows: node rows to keep, ascending.
        edges: a mask over this graph's edges; edges touching a dropped node go in any case. [edge]
        """
        rows = np.asarray(rows)
        place = np.full(len(self.nodes), -1)
        place[rows] = np.arange(len(rows))
        chosen = np.arange(len(self.source)) if edges is None else np.flatnonzero(edges)
        source, target = place[self.source[chosen]], place[self.target[chosen]]
        stays = (source >= 0) & (target >= 0)
        nodes = self.nodes.take(rows)
        return replace(
            self,
            nodes=nodes,
            provenance=nodes.notes_among(self.provenance),
            source=source[stays],
            target=target[stays],
            weight=self.weight[chosen[stays]],
            goal=self.goal[rows],
        )


def _frozen(column: Any, dtype: np.dtype | type) -> np.ndarray:
    """A column that nobody can write to: itself, if it is one already, else a copy."""
    if (
        isinstance(column, np.ndarray)
        and column.dtype == dtype
        and column.flags.c_contiguous
        and not column.flags.writeable
    ):
        return column
    found = np.array(column, dtype=dtype)
    found.flags.writeable = False
    return found


def _blocks(source: np.ndarray, target: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The edges some at a time, each block beginning with the last one of that before: there may be very many."""
    for first in range(0, max(len(source) - 1, 1), BLOCK):
        yield source[first : first + BLOCK + 1], target[first : first + BLOCK + 1]


def _reading_order(source: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """The order that sorts edges by (target, source), None when they stand so: sorting millions takes seconds."""
    for sources, targets in _blocks(source, target):
        before, after = targets[:-1], targets[1:]
        if ((before > after) | ((before == after) & (sources[:-1] > sources[1:]))).any():
            return np.lexsort((source, target))
    return None


def _check(graph: AttributionGraph) -> None:
    count = len(graph.nodes)
    if not len(graph.source) == len(graph.target) == len(graph.weight):
        lengths = (len(graph.source), len(graph.target), len(graph.weight))
        raise BadGraph(f"source, target and weight must be equally long, found lengths {lengths}.")
    if len(graph.goal) != count:
        raise BadGraph(f"the goal needs one number per node: {count} nodes, {len(graph.goal)} numbers.")
    if len(graph.tokens) != len(graph.token_ids):
        raise BadGraph(f"one text per token id is wanted: {len(graph.token_ids)} ids, {len(graph.tokens)} texts.")
    if len(graph.source):
        low = min(graph.source.min(), graph.target.min())
        high = max(graph.source.max(), graph.target.max())
        if low < 0 or high >= count:
            raise BadGraph(f"edges must join rows 0..{count - 1}, found one joining row {low if low < 0 else high}.")
    for source, target in _blocks(graph.source, graph.target):
        backward = np.flatnonzero(source >= target)
        if len(backward):
            s, t = source[backward[0]], target[backward[0]]
            raise BadGraph(f"every edge must point to a later node, found {s} -> {t}: a cycle, or nodes out of order.")
        twice = np.flatnonzero((source[1:] == source[:-1]) & (target[1:] == target[:-1]))
        if len(twice):
            s, t = source[twice[0]], target[twice[0]]
            raise BadGraph(f"edge {s} -> {t} is there twice; add them up first.")
    if not np.isfinite(graph.weight.sum()):  # nothing but what is not finite can make it so, or sums beyond all sizes
        broken = np.flatnonzero(~np.isfinite(graph.weight))
        if len(broken):
            s, t = graph.source[broken[0]], graph.target[broken[0]]
            raise BadGraph(f"every weight must be a finite number, edge {s} -> {t} is {graph.weight[broken[0]]}.")
    if not np.isfinite(graph.goal).all():
        raise BadGraph(f"the goal must be finite, node {np.flatnonzero(~np.isfinite(graph.goal))[0]} is not.")
    outside = np.flatnonzero(graph.nodes.position >= len(graph.tokens))
    if len(outside):
        at = graph.nodes.position[outside[0]]
        raise BadGraph(f"node {outside[0]} stands at position {at}, but the prompt has {len(graph.tokens)} tokens.")
