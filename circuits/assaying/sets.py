"""The whole graph tested at once: only its units left, or only they ablated, against random sets of the same shape."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from circuits.ablation import ablate_sets
from circuits.assaying import thresholds
from circuits.assaying.metric import Metric
from circuits.model import Model
from circuits.sampling import mean_activations, sample_prompts
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary
from graphs.assays import Subset
from graphs.graph import AttributionGraph


def test_sets(
    model: Model,
    transcoders: Dictionary,
    run: Trace,
    graph: AttributionGraph,
    metric: Metric,
    controls: int,
    seed: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Subset]:
    """Keep only the graph's units, then ablate only them, under mean and zero ablation; the same for random sets.

    What survives is `(m - m₀) / (m clean - m₀)`: m the logit difference of right and foil, m₀ with nothing left.
    """
    active = torch.stack([run.layer, run.position, run.unit], dim=1)
    ours = _units_of(graph).to(active)
    random = draw_controls(active.cpu().numpy(), ours.cpu().numpy(), controls, seed)
    sets = [ours, *(torch.from_numpy(each).to(active) for each in random)]
    nothing = active[:0]
    unfair = _unfair(ours.cpu().numpy(), random)
    length = min(max(len(run.tokens), 2), thresholds.LONGEST)
    prompts = sample_prompts(
        model, int(run.tokens[0]), count=thresholds.PROMPTS, length=length, seed=seed, progress=progress
    )
    fills = {"mean": mean_activations(model, transcoders, prompts), "zero": None}
    done, total = 0, len(fills) * (2 * len(sets) + 1)

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress("ablating all but the graph, and random sets", done, total)

    clean = float(metric.difference(metric.clean_logits))
    found = []
    for ablation, fill in fills.items():

        def measure(units: list[Tensor], keep: bool, fill: list[Tensor] | None = fill) -> np.ndarray:
            runs = ablate_sets(model, transcoders, run, units, keep=keep, fill=fill, progress=count)
            return torch.cat([metric.difference(logits[:, -1]) for logits in runs]).double().cpu().numpy()

        empty = float(measure([nothing], True)[0])
        scale = clean - empty
        untested = unfair
        if not abs(scale) >= thresholds.SMALLEST:
            untested = f"ablating everything moves the difference by {abs(scale):.2g} logits, "
            untested += f"{thresholds.SMALLEST} are wanted"
            kept = without = np.full(len(sets), np.nan)
            count(2 * len(sets))
        else:
            kept = (measure(sets, True) - empty) / scale
            without = (measure(sets, False) - empty) / scale
        found.append(
            Subset(
                ablation=ablation,
                faithfulness=float(kept[0]),
                complement=float(without[0]),
                random_faithfulness=kept[1:].tolist(),
                random_complement=without[1:].tolist(),
                p_faithfulness=float("nan") if untested else _p(kept[1:] >= kept[0]),
                p_complement=float("nan") if untested else _p(without[1:] <= without[0]),
                untested=untested,
            )
        )
    return found


def draw_controls(
    active: Int[np.ndarray, "active 3"], ours: Int[np.ndarray, "unit 3"], count: int, seed: int
) -> list[Int[np.ndarray, "unit 3"]]:
    """Random sets of active units outside the graph, as many at each layer and position as the graph has there.

    Where a place has too few, the rest is drawn from the same layer at any position; where the layer has too few, from
    the graph's own units there, without which no set of that size exists.
    """
    numbers = np.random.default_rng(seed)
    taken = {tuple(unit) for unit in ours.tolist()}
    free = np.array([unit for unit in active.tolist() if tuple(unit) not in taken], dtype=np.int64).reshape(-1, 3)
    sets = []
    for _ in range(count):
        chosen: list[np.ndarray] = []
        for layer in np.unique(ours[:, 0]):
            wanted = ours[ours[:, 0] == layer]
            pool = numbers.permutation(free[free[:, 0] == layer])
            used = np.zeros(len(pool), dtype=bool)
            for position, needed in zip(*np.unique(wanted[:, 1], return_counts=True), strict=True):
                used[np.flatnonzero(pool[:, 1] == position)[:needed]] = True
            short = len(wanted) - used.sum()
            used[np.flatnonzero(~used)[:short]] = True
            chosen.append(pool[used])
            short = len(wanted) - used.sum()
            chosen.append(numbers.permutation(wanted)[:short])
        sets.append(np.concatenate(chosen) if chosen else np.empty((0, 3), dtype=np.int64))
    return sets


def _unfair(ours: Int[np.ndarray, "unit 3"], random: list[Int[np.ndarray, "_ 3"]]) -> str:
    """Why a p-value would say nothing: no units in the graph, too few controls, or controls much like the graph."""
    if not len(ours):
        return "the graph has no features"
    if 1 / (1 + len(random)) > thresholds.SIGNIFICANT:
        return f"{len(random)} random sets cannot reach p ≤ {thresholds.SIGNIFICANT}"
    taken = {tuple(unit) for unit in ours.tolist()}
    shared = float(np.mean([sum(tuple(unit) in taken for unit in each.tolist()) / len(ours) for each in random]))
    return f"random sets share {shared:.0%} of the graph's features: too few others are active" if shared > 0.5 else ""


def _units_of(graph: AttributionGraph) -> Int[Tensor, "unit 3"]:
    rows = graph.nodes.where("feature", "neuron")
    columns = [getattr(graph.nodes, name)[rows].astype(np.int64) for name in ("layer", "position", "feature")]
    return torch.from_numpy(np.stack(columns, axis=1))


def _p(as_well: np.ndarray) -> float:
    """(1 + controls that do as well or better) / (1 + controls)."""
    return float((1 + as_well.sum()) / (1 + len(as_well)))
