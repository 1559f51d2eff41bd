"""Small worlds for tests: graphs drawn by hand, and graphs drawn by lot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies

from graphs.graph import AttributionGraph
from graphs.nodes import Nodes

SOURCES = ("token", "error", "bias", "unselected")


def graph_of(
    edges: Sequence[tuple[int, int, float]],
    kinds: str | Sequence[str],
    goal: Sequence[float] | None = None,
    **parts: Any,
) -> AttributionGraph:
    """A whole graph from its edges (source, target, weight) and one kind per node, "token feature logit".

    The goal is shared evenly among the logits if none is given. Every node stands at position 0.
    """
    kind = np.array(kinds.split() if isinstance(kinds, str) else list(kinds))
    count = len(kind)
    source = np.array([edge[0] for edge in edges], dtype=np.int64)
    target = np.array([edge[1] for edge in edges], dtype=np.int64)
    weight = np.array([edge[2] for edge in edges], dtype=np.float64)
    counts = kind[source] != "bias" if len(edges) else np.zeros(0, dtype=bool)
    logits = kind == "logit"
    inner = ~np.isin(kind, SOURCES)
    nodes = Nodes(
        kind=kind,
        layer=np.where(kind == "token", -1, np.where(logits, count, np.arange(count))),
        position=np.zeros(count, dtype=np.int64),
        feature=np.arange(count),
        activation=np.where(logits, logits / max(logits.sum(), 1), 1.0),
        value=np.where(inner, np.bincount(target, weight, minlength=count), np.nan),
        gross=np.bincount(target[counts], np.abs(weight[counts]), minlength=count).astype(np.float64),
        influence=np.zeros(count),
        label=np.array([f"{k} {i}" for i, k in enumerate(kind)], dtype=object),
    )
    return AttributionGraph(
        nodes=nodes,
        source=source,
        target=target,
        weight=weight,
        goal=np.asarray(goal, dtype=np.float64) if goal is not None else logits / max(logits.sum(), 1),
        **{"token_ids": (7,), "tokens": ("dallas",), **parts},
    )


@strategies.composite
def graphs(draw, most_inner: int = 12, sources: Sequence[str] = SOURCES) -> AttributionGraph:
    """Any small graph in which every feature and logit has an input from a node that is no bias."""
    kinds = ["token", *draw(strategies.lists(strategies.sampled_from(sources), max_size=4))]
    kinds += draw(strategies.lists(strategies.sampled_from(("feature", *sources)), max_size=most_inner))
    logits = draw(strategies.integers(1, 3))
    kinds += ["logit"] * logits
    rng = np.random.default_rng(draw(strategies.integers(0, 2**32 - 1)))
    density = draw(strategies.floats(0.1, 1.0))
    edges = []
    for target, kind in enumerate(kinds):
        if kind in SOURCES:
            continue
        before = [s for s in range(target) if kinds[s] != "logit"]
        chosen = {s for s in before if rng.random() < density} | {0}
        edges += [(s, target, float(rng.normal())) for s in sorted(chosen)]
    goal = np.zeros(len(kinds))
    goal[-logits:] = rng.dirichlet(np.ones(logits)) * 0.9
    return graph_of(edges, kinds, goal)


def layered(features: int, layers: int = 12, positions: int = 32, seed: int = 0) -> AttributionGraph:
    """A large whole graph shaped like a traced one: each feature reads from all lower layers at earlier positions."""
    rng = np.random.default_rng(seed)
    place = np.sort(rng.integers(0, layers, features) * positions + rng.integers(0, positions, features))
    layer, position = np.divmod(place, positions)
    tokens, logits = positions, 10
    kind = np.repeat(["token", "error", "feature", "logit"], [tokens, layers * positions, features, logits])
    layer = np.concatenate([np.full(tokens, -1), np.repeat(np.arange(layers), positions), layer, [layers] * logits])
    position = np.concatenate(
        [np.arange(positions), np.tile(np.arange(positions), layers), position, [positions - 1] * logits]
    )
    order = np.lexsort((position, layer))
    kind, layer, position = kind[order], layer[order], position[order]
    sources, targets = [], []
    for target in np.flatnonzero(np.isin(kind, ("feature", "logit"))):
        row = np.flatnonzero((layer < layer[target]) & (position <= position[target]))
        sources.append(row)
        targets.append(np.full(len(row), target))
    source, target = np.concatenate(sources), np.concatenate(targets)
    weight = rng.normal(size=len(source)) * np.exp(1.5 * rng.normal(size=len(source)))
    count = len(kind)
    goal = np.zeros(count)
    goal[-logits:] = rng.dirichlet(np.ones(logits)) * 0.95
    nodes = Nodes(
        kind=kind,
        layer=layer,
        position=position,
        feature=np.arange(count),
        activation=np.where(goal > 0, goal, 1.0),
        value=np.bincount(target, weight, minlength=count),
        gross=np.bincount(target, np.abs(weight), minlength=count),
        influence=np.zeros(count),
        label=np.array([""] * count, dtype=object),
    )
    return AttributionGraph(
        nodes=nodes,
        source=source,
        target=target,
        weight=weight,
        goal=goal,
        token_ids=tuple(range(positions)),
        tokens=tuple("t" * positions),
    )
