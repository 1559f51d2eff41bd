"""Which edges matter, by brute force: every one is cut by itself, every two together, and every node.

A cut edge carries what takes its place under an ablation. Nothing here knows gradients or scores; each cut is a run of
the whole circuit.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.components.ablations import ABLATIONS
from circuits.components.circuit_runs import run_circuit
from circuits.components.edge_scores import components_of, read_logits
from circuits.components.metrics import Metric
from circuits.components.pairs import Pairs
from circuits.components.transformer import Transformer

TOLERANCE = 1e-6  # in logits, of some pair: above rounding in float64, below any effect that is one
Edges = Bool[np.ndarray, "source reader"]
Cut = Callable[[Edges], Float[Tensor, "pair"]]


def cutter(transformer: Transformer, pairs: Pairs, metric: Metric, ablation: str) -> Cut:
    """What measures the metric of every pair when some edges are cut."""
    prepared = ABLATIONS[ablation](transformer, [pairs], lambda name, done, total: None)
    with torch.no_grad():
        instead, embedding = prepared(transformer, pairs), transformer.embed(pairs.clean)
        clean = read_logits(transformer, transformer.run(embedding).after, pairs)

    @torch.no_grad()
    def cut(edges: Edges) -> Float[Tensor, "pair"]:
        after = run_circuit(transformer, embedding, instead, torch.from_numpy(edges).to(embedding))
        return metric(read_logits(transformer, after, pairs), pairs, clean, transformer.log_probabilities)

    return cut


def edges_alone(transformer: Transformer, pairs: Pairs, metric: Metric, ablation: str) -> Edges:
    """The edges that matter when they alone are cut."""
    cut, edges = cutter(transformer, pairs, metric, ablation), components_of(transformer).edges
    nothing, found = np.zeros_like(edges), np.zeros_like(edges)
    whole = cut(nothing)
    for place in _places(edges):
        found[place] = _moved(whole, cut(_with(nothing, place)))
    return found


def edges_together(transformer: Transformer, pairs: Pairs, metric: Metric, ablation: str, among: Edges) -> Edges:
    """The edges that matter alone, or once one other is cut. among: those of which all twos are tried."""
    cut, nothing = cutter(transformer, pairs, metric, ablation), np.zeros_like(among)
    whole, found = cut(nothing), np.zeros_like(among)
    alone = {place: cut(_with(nothing, place)) for place in _places(among)}
    for place, value in alone.items():
        found[place] = _moved(whole, value)
    for one, other in combinations(alone, 2):
        both = cut(_with(_with(nothing, one), other))
        found[one] |= _moved(alone[other], both)
        found[other] |= _moved(alone[one], both)
    return found


def nodes_alone(transformer: Transformer, pairs: Pairs, metric: Metric, ablation: str) -> Bool[np.ndarray, "node"]:
    """The tokens, heads and MLPs that matter when all edges from one are cut."""
    cut, edges = cutter(transformer, pairs, metric, ablation), components_of(transformer).edges
    whole, found = cut(np.zeros_like(edges)), []
    for node in range(len(edges)):
        from_node = np.zeros_like(edges)
        from_node[node] = edges[node]
        found.append(_moved(whole, cut(from_node)))
    return np.array(found)


def _places(edges: Edges) -> list[tuple[int, int]]:
    return [(int(source), int(reader)) for source, reader in np.argwhere(edges)]


def _with(edges: Edges, place: tuple[int, int]) -> Edges:
    found = edges.copy()
    found[place] = True
    return found


def _moved(before: Float[Tensor, "pair"], after: Float[Tensor, "pair"]) -> bool:
    return bool(((after - before).abs() > TOLERANCE).any())
