"""A circuit of heads, MLPs, neurons or features as an attribution graph: the kept nodes, and every edge between them.

A node is a part, or a part at a position; the queries, keys and values of a head are drawn as the head, and what they
read of one node is one edge. What features miss of an MLP is where the account ends: nothing is drawn into an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from circuits.components.kept_nodes import Node, nodes_of, readers_of
from circuits.components.pairs import Pairs
from circuits.components.parts import OF_HEADS, READS, UNITS, Parts, column_of
from circuits.components.transformer import Transformer
from circuits.model import Model
from graphs.graph import AttributionGraph
from graphs.nodes import Nodes
from graphs.paths import influence

KIND = {
    "input": "token",
    "mixed": "head",
    "mlp": "mlp",
    "neurons": "neuron",
    "features": "feature",
    "errors": "error",
}
TOLD = 500  # edges told by name, the strongest


def graph_of_nodes(
    model: Model,
    transformer: Transformer,
    parts: Parts,
    scores: Float[np.ndarray, "part *position"],
    kept: Bool[np.ndarray, "part *position"],
    edges: Float[np.ndarray, "writer reader"],
    pairs: Pairs,
    provenance: Mapping[str, Any],
    notes: Mapping[str, Mapping[str, Any]],
) -> AttributionGraph:
    """The kept nodes that lie on a path from the tokens, or an error, to the logits, drawn for the first clean prompt.

    edges: see `score_node_edges`; those that are zero are not drawn. notes: on features, see `Dictionary`.
    In the provenance "circuit" has the score of each kept part by name, "a3.h1", "m2.f17" or "a3.h1<q>", with "@4"
    where it is one position's; "edges" those of the strongest edges, "m2.f17->a3.h1<k>"; "feature_notes" the notes.
    """
    chosen = torch.from_numpy(kept)
    nodes = nodes_of(parts, chosen)
    readers = readers_of(nodes)
    weights = np.zeros((len(nodes) + 1, len(nodes) + 1))
    weights[:-1] = edges @ np.eye(len(weights))[[reader.node for reader in readers]]
    can = _edges(transformer, nodes, pairs.position.tolist())
    if parts.apart:
        can &= _fed(parts, kept, nodes)
    ends = np.array([node.column[0] == "errors" for node in nodes] + [False])
    can[:, ends] = False
    alive = _on_a_path(can, np.array([node.column[0] in ("input", "errors") for node in nodes]))
    can &= alive[:, None] & alive
    source, target = np.nonzero(can & (weights != 0))
    rank = np.full(len(alive), -1)
    rank[alive] = np.arange(int(alive.sum()))
    weight = weights[source, target]
    coming_in = np.bincount(target, weight, minlength=len(alive))
    gross = np.bincount(target, np.abs(weight), minlength=len(alive)).astype(np.float64)  # whole without an edge
    sources = ends | np.array([node.column[0] == "input" for node in nodes] + [False])
    table = _nodes(model, transformer, parts, pairs, nodes, notes)
    table = table.with_columns(value=np.where(sources, np.nan, coming_in), gross=gross).take(np.flatnonzero(alive))
    units = [table.unit(at) for at in table.where("feature").tolist()]
    graph = AttributionGraph(
        nodes=table,
        source=rank[source],
        target=rank[target],
        weight=weight,
        goal=(np.arange(len(alive)) == len(nodes))[alive].astype(np.float64),
        token_ids=tuple(pairs.clean[0].tolist()),
        tokens=tuple(model.texts(pairs.clean[0].tolist())),
        provenance={
            **provenance,
            "against": [int(pairs.wrong[0])],
            "circuit": {name_of(parts, row): float(scores[row]) for row in map(tuple, np.argwhere(kept).tolist())},
            "edges": _strongest(nodes, edges, can),
            "feature_notes": {unit: notes[unit] for unit in units if unit in notes},
        },
    )
    return AttributionGraph(
        graph.nodes.with_columns(influence=influence(graph)),
        *(graph.source, graph.target, graph.weight, graph.goal, graph.token_ids, graph.tokens, graph.provenance),
    )


def name_of(parts: Parts, row: tuple[int, ...]) -> str:
    """What a node is called: the part, and where the node is one position's the position."""
    return "@".join((parts.names[row[0]], *map(str, row[1:])))


def _strongest(
    nodes: Sequence[Node], edges: Float[np.ndarray, "writer reader"], can: Bool[np.ndarray, "source target"]
) -> dict[str, float]:
    """The largest scores of edges that are drawn, by name."""
    readers = readers_of(list(nodes))
    sizes = np.abs(edges) * can[: len(nodes), [reader.node for reader in readers]]
    order = np.argsort(-sizes, axis=None, kind="stable")[:TOLD]
    places = zip(*np.unravel_index(order, edges.shape), strict=True)
    return {f"{nodes[u].name}->{readers[v].name}": float(edges[u, v]) for u, v in places if sizes[u, v] > 0}


def _edges(
    transformer: Transformer, nodes: Sequence[Node], answers: Sequence[int]
) -> Bool[np.ndarray, "source target"]:
    """Who can write to whom; the logits come last. answers: where those of the pairs are read."""
    count = len(nodes)
    name, layer = (np.array([node.column[at] for node in nodes]) for at in range(2))
    position = np.array([node.position for node in nodes])
    found = np.zeros((count + 1, count + 1), dtype=bool)
    of_mlp = ~np.isin(name, ("input", *OF_HEADS))
    order = np.where(name == "input", -1.0, layer + (0.5 if not transformer.parallel else 0.0) * of_mlp)
    found[:count, :count] = order[:, None] < order
    found[:count, count] = True
    if count and position[0] >= 0:
        back = position - position[:, None]  # [source target]: how far back the source is
        window = np.array([each.window or np.inf for each in transformer.layers])[layer]
        causal = np.array([each.causal for each in transformer.layers])[layer]
        seen = ((back >= 0) & (back < window)) | ~causal
        found[:count, :count] &= np.where(of_mlp, back == 0, seen)
        found[:count, count] = np.isin(position, answers)
    return found


def _fed(
    parts: Parts, kept: Bool[np.ndarray, "part *position"], nodes: Sequence[Node]
) -> Bool[np.ndarray, "source target"]:
    """Which kept heads read through which kept queries, keys and values. MLPs and logits read in any case."""
    count = len(nodes)
    position = np.array([node.position for node in nodes])
    found = np.ones((count + 1, count + 1), dtype=bool)
    place = {each: at for at, each in enumerate(parts.names)}
    for target, node in enumerate(nodes):
        if node.column[0] != "mixed":
            continue
        name = node.name.partition("@")[0]
        query, key, value = (kept[place[name + READS[read]]] for read in READS)
        if node.position >= 0:
            here = position == node.position
            found[:count, target] = (here & query[node.position]) | key[position] | value[position]
        else:
            found[:count, target] = query | key | value
    return found


def _on_a_path(edges: Bool[np.ndarray, "source target"], begin: Bool[np.ndarray, "kept"]) -> Bool[np.ndarray, "node"]:
    """Nodes that lie between those where paths begin and the logits, the last."""
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
    transformer: Transformer,
    parts: Parts,
    pairs: Pairs,
    nodes: Sequence[Node],
    notes: Mapping[str, Mapping[str, Any]],
) -> Nodes:
    """The kept nodes and the logits."""
    tokens = model.texts(pairs.clean[0].tolist())
    right, wrong = (text.strip() for text in model.texts([int(pairs.right[0]), int(pairs.wrong[0])]))
    unit, labels = [], []
    for node in nodes:
        name, layer, _ = node.column
        own, label = node.own, node.name.partition("@")[0]
        if name == "input" and node.position >= 0:
            own, label = int(pairs.clean[0, node.position]), tokens[node.position].strip()
        elif name == "features":
            own = (parts.features[layer] or ())[node.own]
            label = notes.get(f"{layer}/{own}", {}).get("label") or label
        unit.append(own if name in ("mixed", *UNITS) or (name == "input" and node.position >= 0) else -1)
        labels.append(label)
    return Nodes(
        kind=np.array([*(KIND[node.column[0]] for node in nodes), "logit"]),
        layer=np.array([-1 if n.column[0] == "input" else n.column[1] for n in nodes] + [parts.components.layers]),
        position=np.array([node.position for node in nodes] + [int(pairs.position[0])]),
        feature=np.array([*unit, int(pairs.right[0])]),
        activation=np.array([*_activations(transformer, parts, pairs, nodes), 1.0]),
        value=np.full(len(nodes) + 1, np.nan),
        gross=np.zeros(len(nodes) + 1),
        influence=np.zeros(len(nodes) + 1),
        label=np.array([*labels, f"{right} - {wrong}"], dtype=object),
    )


@torch.no_grad()
def _activations(transformer: Transformer, parts: Parts, pairs: Pairs, nodes: Sequence[Node]) -> list[float]:
    """Of neurons and features on the first clean prompt, the largest where they are of all positions; else 1."""
    run = transformer.run(transformer.embed(pairs.clean[:1]), neurons=bool(parts.width))
    found = []
    for node in nodes:
        if node.column[0] not in UNITS:
            found.append(1.0)
            continue
        here = column_of(run, node.column)[0, :, node.own]
        found.append(float(here[here.abs().argmax()] if node.position < 0 else here[node.position]))
    return found
