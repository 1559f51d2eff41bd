"""Circuit-tracer's graphs beside ours: the same model, transcoders and prompts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.bench.cells import Cell, Result, row_of
from benchmarks.bench.presets import Preset
from benchmarks.bench.side_by_side import BESIDE, check_runs, costs_of, take_turns
from benchmarks.peers.graphs_apart import Pruned, apart, compare_pruned, places
from benchmarks.peers.hooked_models import folder_of
from benchmarks.peers.jobs import Peer, write_attribution
from benchmarks.peers.processes import Spent
from circuits.attribution.direct import attribute_directly
from circuits.components.pairs import Pairs
from circuits.model import Model
from circuits.transcoders.base import Dictionary
from graphs.graph import AttributionGraph

BATCH, INTERVAL = 16, 4  # its best batch on a CPU, and after how many of them it ranks features anew
NODES, EDGES = 0.8, 0.98  # what pruning keeps, by its own defaults
NAN = float("nan")


@dataclass(frozen=True)
class Apart:
    """One prompt's two graphs. same: of the same features. edges: the largest difference over its row's largest."""

    same: bool
    edges: float
    pruned: Pruned | None


def measure_graph_peer(
    cell: Cell, model: Model, transcoders: Dictionary, pairs: Sequence[Pairs], preset: Preset
) -> Result:
    """The first clean prompts of a split, traced for the likely answers by both, pruned and scored.

    Raises:
        CircuitError: it cannot be run here; the message says why.
    """
    check_runs(cell.method, model)
    prompts = [few.clean[0].tolist() for each in pairs for few in each.split(1)][: preset.graphs]
    folder = write_attribution(folder_of(model), transcoders, prompts[0], str(model.dtype).removeprefix("torch."))
    its = {"batch_size": BATCH, "update_interval": INTERVAL, "max_feature_nodes": preset.features}

    def trace(tokens: list[int]) -> AttributionGraph:
        budget = {"max_features": preset.features, "round_size": BATCH * INTERVAL}
        return attribute_directly(model, transcoders, tokens, **budget)

    with Peer(folder) as peer:
        found = [_hold(trace(tokens), peer, tokens, folder, its) for tokens in prompts]
        turns = take_turns(
            lambda: deque((trace(tokens) for tokens in prompts), maxlen=0),  # none is held on to
            lambda: _together([peer.attribute(tokens=tokens, **its) for tokens in prompts]),
        )
    said = f"{len(prompts)} prompts; {transcoders.name}"
    costs = dict(costs_of(turns))
    blank = replace(
        row_of(cell, BESIDE, says=said),
        **{"split": "test", "count": float(len(prompts))},
        **{"seconds": costs["peer's seconds"][0], "peak_memory": costs["peer's memory"][0]},
    )
    rows = [replace(blank, metric="prompts with the same features", value=float(sum(each.same for each in found)))]
    for metric, figure in FIGURES.items():
        known = [figure(each) for each in found if each.same]
        rows.append(replace(blank, metric=metric, value=max(known, default=NAN)))
    for metric, (value, low, high) in costs.items():
        rows.append(replace(blank, metric=metric, value=value, low=low, high=high))
    return Result(rows)


def _pruned(name: str) -> Callable[[Apart], float]:
    return lambda each: float(getattr(each.pruned, name))


# The largest over the prompts where both found the same features.
FIGURES: dict[str, Callable[[Apart], float]] = {
    "edges apart": lambda each: each.edges,
    "influence apart": _pruned("influence"),
    "graph scores apart": _pruned("scores"),
    "nodes kept by one side": _pruned("nodes"),
    "edges kept by one side": _pruned("kept"),
}


def _hold(graph: AttributionGraph, peer: Peer, tokens: list[int], folder: Path, its: dict[str, int]) -> Apart:
    peer.attribute(tokens=tokens, save=folder / "whole.npz", **its)
    whole = np.load(folder / "whole.npz")
    if places(graph) != [tuple(place) for place in whole["active"][np.sort(whole["selected"])].tolist()]:
        return Apart(False, NAN, None)
    peer.prune(NODES, EDGES, save=folder / "pruned.npz")
    peer.score(folder / "scores.npz")
    return Apart(True, apart(graph, whole["adjacency"])[0], compare_pruned(graph, folder))


def _together(spent: Sequence[Spent]) -> Spent:
    return Spent(sum(each.cpu for each in spent), sum(each.wall for each in spent), max(each.peak for each in spent))
