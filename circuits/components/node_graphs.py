"""A circuit of heads, MLPs or neurons as an attribution graph: every kept node keeps its edges to the other kept ones.

A node here is a part, or a part at a position; the queries, keys and values of a head are drawn as the head. The score
of a node is shared evenly among the edges that leave it: what each single one carries, scores of edges would say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from circuits.components.pairs import Pairs
from circuits.components.parts import READS, Parts
from circuits.components.transformer import Transformer
from circuits.model import Model
from graphs.graph import AttributionGraph
from graphs.nodes import Nodes
from graphs.paths import influence

KIND = {"input": "token", "mixed": "head", "mlp": "mlp", "neurons": "neuron"}


def graph_of_nodes(
    model: Model,
    transformer: Transformer,
    parts: Parts,
    scores: Float[np.ndarray, "node *position"],
    kept: Bool[np.ndarray, "node *position"],
    pairs: Pairs,
    provenance: Mapping[str, Any],
) -> AttributionGraph:
    """The kept nodes that lie on a path from the tokens to the logits, drawn for the first pair's clean prompt.

    `provenance["circuit"]` has the score of each kept part by name, "a3.h1" or "a3.h1<q>", with "@4" where it is one
    position's.
    """
    by_position = scores.ndim == 2
    place = [(name, layer, own) for name, layer, count in parts.columns for own in range(count)]
    kept_rows = [tuple(row) for row in np.argwhere(kept).tolist()]
    rows = [row for row in kept_rows if place[row[0]][0] not in READS]
    name, layer, own = (np.array([place[row[0]][at] for row in rows]) for at in range(3))
    position = np.array([row[1] if by_position else -1 for row in rows])
    answer = int(pairs.position[0])
    can = _edges(transformer, name, layer, position, answer)
    if parts.apart:
        can &= _fed(parts, kept, name, layer, own, position, by_position)
    alive = _on_a_path(can, name == "input")
    source, target = np.nonzero(can & alive[:, None] & alive)
    rank = np.full(len(alive), -1)
    rank[alive] = np.arange(int(alive.sum()))
    score = np.array([*(float(scores[row]) for row in rows), 0.0])
    weight = score[source] / np.bincount(source, minlength=len(alive))[source]
    nodes = _nodes(model, parts, pairs, rows, name, layer, own, position, by_position)
    coming_in = np.bincount(target, weight, minlength=len(alive))
    gross = np.bincount(target, np.abs(weight), minlength=len(alive))
    value = np.where(np.append(name == "input", False), np.nan, coming_in)
    names = [name_of(parts, row) for row in kept_rows]
    graph = AttributionGraph(
        nodes=nodes.with_columns(value=value, gross=gross).take(np.flatnonzero(alive)),
        source=rank[source],
        target=rank[target],
        weight=weight,
        goal=(np.arange(len(alive)) == len(rows))[alive].astype(np.float64),
        token_ids=tuple(pairs.clean[0].tolist()),
        tokens=tuple(model.texts(pairs.clean[0].tolist())),
        provenance={
            **provenance,
            "against": [int(pairs.wrong[0])],
            "circuit": {each: float(scores[row]) for each, row in zip(names, kept_rows, strict=True)},
        },
    )
    return AttributionGraph(
        graph.nodes.with_columns(influence=influence(graph)),
        *(graph.source, graph.target, graph.weight, graph.goal, graph.token_ids, graph.tokens, graph.provenance),
    )


def name_of(parts: Parts, row: tuple[int, ...]) -> str:
    """What a node is called: the part, and where the node is one position's the position."""
    return "@".join((parts.names[row[0]], *map(str, row[1:])))


def _edges(
    transformer: Transformer, name: np.ndarray, layer: np.ndarray, position: np.ndarray, answer: int
) -> Bool[np.ndarray, "source target"]:
    """Who can write to whom; the logits come last. position: -1 where nodes are of all positions."""
    count = len(name)
    found = np.zeros((count + 1, count + 1), dtype=bool)
    of_mlp = (name == "mlp") | (name == "neurons")
    order = np.where(name == "input", -1.0, layer + (0.5 if not transformer.parallel else 0.0) * of_mlp)
    found[:count, :count] = order[:, None] < order
    found[:count, count] = True
    if count and position[0] >= 0:
        back = position - position[:, None]  # [source target]: how far back the source is
        window = np.array([each.window or np.inf for each in transformer.layers])[layer]
        causal = np.array([each.causal for each in transformer.layers])[layer]
        seen = ((back >= 0) & (back < window)) | ~causal
        found[:count, :count] &= np.where(of_mlp, back == 0, seen)
        found[:count, count] = position == answer
    return found


def _fed(
    parts: Parts,
    kept: Bool[np.ndarray, "node *position"],
    name: np.ndarray,
    layer: np.ndarray,
    own: np.ndarray,
    position: np.ndarray,
    by_position: bool,
) -> Bool[np.ndarray, "source target"]:
    """Which kept heads read through which kept queries, keys and values. MLPs and logits read in any case."""
    count = len(name)
    found = np.ones((count + 1, count + 1), dtype=bool)
    place = {each: at for at, each in enumerate(parts.names)}
    for target in np.flatnonzero(name == "mixed"):
        at = f"a{layer[target]}.h{own[target]}"
        query, key, value = (kept[place[at + READS[read]]] for read in READS)
        if by_position:
            here = position == position[target]
            found[:count, target] = (here & query[position[target]]) | key[position] | value[position]
        else:
            found[:count, target] = query | key | value
    return found


def _on_a_path(edges: Bool[np.ndarray, "source target"], begin: Bool[np.ndarray, "kept"]) -> Bool[np.ndarray, "node"]:
    """Nodes that lie between the tokens and the logits, the last."""
    reached, needed = np.append(begin, False), np.zeros(len(edges), dtype=bool)
    for node in range(len(edges)):
        reached[node] |= (edges[:, node] & reached).any()
    needed[-1] = True
    for node in reversed(range(len(edges))):
        needed[node] |= (edges[node] & needed).any()
    found = reached & needed
    found[-1] = True
    return found


def _nodes(
    model: Model,
    parts: Parts,
    pairs: Pairs,
    rows: list[tuple[int, ...]],
    name: np.ndarray,
    layer: np.ndarray,
    own: np.ndarray,
    position: np.ndarray,
    by_position: bool,
) -> Nodes:
    """The kept nodes and the logits."""
    tokens = model.texts(pairs.clean[0].tolist())
    right, wrong = (text.strip() for text in model.texts([int(pairs.right[0]), int(pairs.wrong[0])]))
    labels = [
        tokens[at].strip() if kind == "input" and by_position else parts.names[row[0]]
        for kind, at, row in zip(name, position, rows, strict=True)
    ]
    unit = np.where(np.isin(name, ("mixed", "neurons")), own, -1)
    if by_position:
        unit = np.where(name == "input", pairs.clean[0].cpu().numpy()[position], unit)
    count = len(rows) + 1
    return Nodes(
        kind=np.array([*(KIND[each] for each in name), "logit"]),
        layer=np.append(np.where(name == "input", -1, layer), parts.components.layers),
        position=np.append(position, int(pairs.position[0])),
        feature=np.append(unit, int(pairs.right[0])),
        activation=np.ones(count),
        value=np.full(count, np.nan),
        gross=np.zeros(count),
        influence=np.zeros(count),
        label=np.array([*labels, f"{right} - {wrong}"], dtype=object),
    )
