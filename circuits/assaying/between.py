"""Level 3: what ablating one node does to the other nodes of the graph, against what the graph says it would do."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse, stats
from scipy.sparse.csgraph import shortest_path
from torch import Tensor

from circuits.assaying import thresholds
from circuits.assaying.bench import Bench
from circuits.assaying.statistics import correlate, p_of_order, sign_agreement, slope_of
from circuits.attribution.direct import effects_on
from circuits.interventions import ATTENTION, change_node, default_window, read_under
from circuits.sites import Site
from circuits.transcoders.base import written_within
from graphs.assays import Between
from graphs.graph import AttributionGraph

AT_ONCE = 16  # ablations between two reports of progress


@torch.no_grad()
def test_between(bench: Bench) -> list[Between]:
    """Ablate each registered node alone and read the values of all units it can reach in the graph.

    Pairs that a kept edge joins are kept apart from those that only longer paths join: a direct edge confirms itself,
    since the intervention writes just what the edge was made of. Of very many pairs those of most influence count.

    Source: METHODS sections 7.1 (predictor P0) and 7.2, level 3.
    """
    units = bench.graph.nodes.where("feature", "neuron")
    sources = bench.ablated
    direct, predicted, influence = predict_between(bench, sources, units)
    hops = count_hops(bench.graph, sources, units)
    above = bench.graph.nodes.layer[units][:, None] > _last_held(bench, sources)[None, :]
    joined = np.isfinite(hops) & above
    at = np.argwhere(joined)
    strongest = np.argsort(-influence[joined], kind="stable")[: thresholds.PAIRS]
    target, source = at[np.sort(strongest)].T
    measured = {mode: _measure(bench, sources, units, mode) for mode in ATTENTION}
    return [
        Between(
            source=sources[source].tolist(),
            target=units[target].tolist(),
            hops=hops[target, source].astype(int).tolist(),
            influence=influence[target, source].tolist(),
            direct=direct[target, source].tolist(),
            predicted=predicted[target, source].tolist(),
            measured=measured["live"][target, source].tolist(),
            measured_frozen=measured["frozen"][target, source].tolist(),
            left_out=int(joined.sum()) - len(source),
        )
    ]


def predict_between(
    bench: Bench, sources: Int[np.ndarray, "source"], units: Int[np.ndarray, "unit"]
) -> tuple[Float[np.ndarray, "unit source"], Float[np.ndarray, "unit source"], Float[np.ndarray, "unit source"]]:
    """What the graph says each unit's value changes by when each source is ablated alone; all as shares of its value.

    By the edges from the source alone; by all paths, every unit changing with its value; and the unsigned influence of
    the source on it, along all paths too. Of a cross-layer unit those writes count that the intervention makes.
    """
    graph, run, transcoders = bench.graph, bench.run, bench.transcoders
    count = len(graph.nodes)
    value = np.nan_to_num(graph.nodes.value)
    is_unit = np.zeros(count, dtype=bool)
    is_unit[units] = True
    weight = sparse.csr_array((graph.weight, (graph.target, graph.source)), shape=(count, count))
    per_value = np.divide(1.0, value, out=np.zeros(count), where=is_unit & (value != 0))
    first = -weight[:, sources].toarray()
    window = default_window(transcoders)
    of_unit = graph.nodes.kind[sources] != "error"
    if window and of_unit.any():
        first[np.ix_(units, of_unit)] = -effects_on(run, transcoders, graph, units, sources[of_unit], window=window)
    first[graph.nodes.layer[:, None] <= _last_held(bench, sources)[None, :]] = 0
    first[~is_unit] = 0
    passed_on = sparse.identity(count, format="csr") - weight.multiply(per_value[None, :]).tocsr()
    changes = sparse.linalg.spsolve_triangular(passed_on, first, lower=True, unit_diagonal=True)

    gross = np.where(graph.nodes.gross > 0, graph.nodes.gross, 1)
    share = sparse.csr_array(abs(weight).multiply(1 / gross[:, None]))
    carried = sparse.identity(count, format="csr") - share.multiply(is_unit[None, :]).tocsr()
    reached = sparse.linalg.spsolve_triangular(carried, share[:, sources].toarray(), lower=True, unit_diagonal=True)
    relative = per_value[units][:, None]
    return first[units] * relative, changes[units] * relative, reached[units]


def count_hops(
    graph: AttributionGraph, sources: Int[np.ndarray, "source"], units: Int[np.ndarray, "unit"]
) -> Float[np.ndarray, "unit source"]:
    """Edges on the shortest path from each source to each unit; infinite where there is none."""
    if not len(sources):
        return np.empty((len(units), 0))
    edges = sparse.csr_array((np.ones(len(graph.source)), (graph.source, graph.target)), shape=2 * (len(graph.nodes),))
    hops = shortest_path(edges, unweighted=True, indices=sources)[:, units].T
    return np.where(hops == 0, np.inf, hops)


def summarise_between(found: Between, seed: int) -> dict[str, float]:
    """Figures over the pairs, each for live attention and, named `_frozen`, for attention held.

    between_...: over all pairs. near_..., far_...: over those that an edge joins, and those that none does.
    beyond_...: over the pairs joined by longer paths too, of what is left of both changes without the edge's own part.
    pairs: how many. spearman: rank correlation of influence with the size of the change; p_spearman: the share of
    shuffled orders that reach it. slope: of measured on predicted change. sign_agreement: among the pairs predicted to
    move by 5 % of themselves; sizeable: how many those are.
    """
    influence, direct, predicted, live, frozen = (
        np.array(getattr(found, name), dtype=np.float64)
        for name in ("influence", "direct", "predicted", "measured", "measured_frozen")
    )
    is_near = np.array(found.hops, dtype=np.int64) == 1
    through = predicted != direct
    kinds = {
        "between": (np.ones(len(direct), dtype=bool), 0 * direct),
        "near": (is_near, 0 * direct),
        "far": (~is_near, 0 * direct),
        "beyond": (through, direct),
    }
    figures: dict[str, float] = {}
    for kind, (of, without) in kinds.items():
        figures[f"{kind}_pairs"] = float(of.sum())
        for mode, measured in (("", live), ("_frozen", frozen)):
            said, seen = (predicted - without)[of], (measured - without)[of]
            ranks = correlate(stats.spearmanr, influence[of], np.abs(seen))
            agreement, sizeable = sign_agreement(said, seen, thresholds.SIZEABLE)
            figures[f"{kind}_spearman{mode}"] = ranks
            figures[f"{kind}_p_spearman{mode}"] = p_of_order(influence[of], np.abs(seen), ranks, seed)
            figures[f"{kind}_slope{mode}"] = slope_of(said, seen)
            figures[f"{kind}_sign_agreement{mode}"] = agreement
            figures[f"{kind}_sizeable"] = float(sizeable)
    return figures


def _last_held(bench: Bench, sources: Int[np.ndarray, "source"]) -> Int[np.ndarray, "source"]:
    """The last layer whose MLP output an ablation holds: what reads up to there cannot answer."""
    nodes, window = bench.graph.nodes, default_window(bench.transcoders)
    held = [
        layer if kind == "error" else written_within(bench.transcoders, layer, window)[-1]
        for kind, layer in zip(nodes.kind[sources], nodes.layer[sources].tolist(), strict=True)
    ]
    return np.array(held, dtype=np.int64)


def _measure(
    bench: Bench, sources: Int[np.ndarray, "source"], units: Int[np.ndarray, "unit"], attention: str
) -> Float[np.ndarray, "unit source"]:
    """The change of each unit's value when each source is ablated in the real model, as a share of its value."""
    nodes = bench.graph.nodes
    alone = [[change_node(nodes, int(row), 0.0)] for row in sources]
    sites: dict[int, Site] = {
        layer: (bench.transcoders.at(layer).reads, layer) for layer in sorted(set(nodes.layer[units].tolist()))
    }
    clean = read_values(bench, units, {layer: bench.run.inputs[layer][None] for layer in sites})[:, 0]
    found = [np.empty((len(units), 0))]
    count = bench.count("ablating nodes, reading all others", len(sources) * len(ATTENTION))
    for start in range(0, len(alone), AT_ONCE):
        some = alone[start : start + AT_ONCE]
        seen = read_under(bench.model, bench.transcoders, bench.run, some, list(sites.values()), attention=attention)
        now = read_values(bench, units, {layer: seen[site] for layer, site in sites.items()})
        found.append((now - clean[:, None]) / np.where(clean == 0, 1, clean)[:, None])
        count(len(some))
    return np.concatenate(found, axis=1)


def read_values(
    bench: Bench, units: Int[np.ndarray, "unit"], inputs: dict[int, Float[Tensor, "run pos _"]]
) -> Float[np.ndarray, "unit run"]:
    """The value of every unit in every run, from what stands where the dictionary reads."""
    nodes = bench.graph.nodes
    values = np.empty((len(units), len(next(iter(inputs.values()))) if inputs else 1))
    for place in {(int(nodes.layer[row]), int(nodes.position[row])) for row in units}:
        layer, position = place
        here = np.flatnonzero((nodes.layer[units] == layer) & (nodes.position[units] == position))
        unit = torch.from_numpy(nodes.feature[units[here]]).to(bench.run.tokens.device)
        x = inputs[layer][:, position]
        for run, each in enumerate(x):
            vectors, constants = bench.transcoders.reading(layer, each.expand(len(unit), -1), unit)
            values[here, run] = (vectors @ each + constants).double().cpu().numpy()
    return values
