"""A circuit of components as an attribution graph: stored, drawn and listed like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from circuits.components.components import Components
from circuits.components.pairs import Pairs
from circuits.model import Model
from graphs.graph import AttributionGraph
from graphs.nodes import Nodes
from graphs.paths import influence


def graph_of_circuit(
    model: Model,
    components: Components,
    scores: Float[np.ndarray, "source reader *position"],
    chosen: Bool[np.ndarray, "source reader *position"],
    pairs: Pairs,
    provenance: Mapping[str, Any],
) -> AttributionGraph:
    """The chosen edges, drawn for the first pair's clean prompt.

    A node is the tokens as a whole, a head, an MLP, or the logits; positions are summed over. The weight of an edge is
    the score of all its chosen parts: what one head reads of another as query, key and value, or at several positions,
    is one edge, and each part has its own score in `provenance["circuit"]`, by name.
    """
    count = len(components.sources)
    parts = np.argwhere(chosen)
    ends = np.column_stack([parts[:, 0], components.component[parts[:, 1]]])
    pair, inverse = np.unique(ends, axis=0, return_inverse=True)
    weight = np.bincount(inverse.reshape(-1), scores[chosen], minlength=len(pair))
    weight = weight.astype(np.float64)  # whole numbers where there is no edge
    kept = np.unique(np.concatenate([[0, count], ends.ravel()]))
    place = np.full(count + 1, -1)
    place[kept] = np.arange(len(kept))
    graph = AttributionGraph(
        nodes=_nodes(model, components, scores, pairs).take(kept),
        source=place[pair[:, 0]],
        target=place[pair[:, 1]],
        weight=weight,
        goal=(kept == count).astype(np.float64),
        token_ids=tuple(pairs.clean[0].tolist()),
        tokens=tuple(model.texts(pairs.clean[0].tolist())),
        provenance={
            **provenance,
            "against": [int(pairs.wrong[0])],
            "circuit": {components.name(*edge): float(scores[tuple(edge)]) for edge in parts.tolist()},
        },
    )
    nodes = graph.nodes.with_columns(influence=influence(graph))
    return AttributionGraph(
        nodes, graph.source, graph.target, graph.weight, graph.goal, graph.token_ids, graph.tokens, graph.provenance
    )


def _nodes(
    model: Model, components: Components, scores: Float[np.ndarray, "source reader *position"], pairs: Pairs
) -> Nodes:
    """All components, the logits last. What comes into each is counted over all edges, the chosen and the others."""
    heads, layers = components.heads, components.layers
    inner = np.arange(components.layers * components.written)
    layer, head = inner // components.written, inner % components.written
    coming_in = [scores[:, components.component == node] for node in range(len(components.sources) + 1)]
    answer, other = (text.strip() for text in model.texts([int(pairs.right[0]), int(pairs.wrong[0])]))
    return Nodes(
        kind=np.array(["token", *np.where(head < heads, "head", "mlp"), "logit"]),
        layer=np.array([-1, *layer, layers]),
        position=np.array([-1] * (len(inner) + 1) + [int(pairs.position[0])]),
        feature=np.array([-1, *np.where(head < heads, head, -1), int(pairs.right[0])]),
        activation=np.ones(len(inner) + 2),
        value=np.array([np.nan, *(each.sum() for each in coming_in[1:])]),
        gross=np.array([0.0, *(np.abs(each).sum() for each in coming_in[1:])]),
        influence=np.zeros(len(inner) + 2),
        label=np.array([*components.sources, f"{answer} - {other}"], dtype=object),
    )
