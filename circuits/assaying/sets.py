"""Level 5: the whole graph at once, only its units left or only they ablated, against random sets of the same shape."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int

from circuits.assaying import thresholds
from circuits.assaying.bench import Bench
from circuits.assaying.survival import Survival, p_value
from graphs.assays import Subset


def test_sets(bench: Bench) -> list[Subset]:
    """Keep only the graph's units, then ablate only them, under mean and zero ablation; the same for random sets."""
    ours = bench.places(bench.units)
    random = draw_controls(bench.active.cpu().numpy(), ours.cpu().numpy(), bench.controls, bench.seed)
    sets = [ours, *(torch.from_numpy(each).to(ours) for each in random)]
    unfair = find_unfair(ours.cpu().numpy(), random)
    kinds = ("mean", "zero")
    count = bench.count("ablating all but the graph, and random sets", len(kinds) * 2 * len(sets))
    found = []
    for ablation in kinds:
        survival = Survival(bench, ablation)
        untested = unfair or survival.untested
        if survival.untested:
            kept = without = np.full(len(sets), np.nan)
            count(2 * len(sets))
        else:
            kept, without = survival.kept(sets, count), survival.without(sets, count)
        found.append(
            Subset(
                ablation=ablation,
                faithfulness=float(kept[0]),
                complement=float(without[0]),
                random_faithfulness=kept[1:].tolist(),
                random_complement=without[1:].tolist(),
                p_faithfulness=float("nan") if untested else p_value(kept[1:] >= kept[0]),
                p_complement=float("nan") if untested else p_value(without[1:] <= without[0]),
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


def find_unfair(ours: Int[np.ndarray, "unit 3"], random: list[Int[np.ndarray, "_ 3"]]) -> str:
    """Why a p-value would say nothing: no units in the graph, too few controls, or controls much like the graph."""
    if not len(ours):
        return "the graph has no features"
    if 1 / (1 + len(random)) > thresholds.SIGNIFICANT:
        return f"{len(random)} random sets cannot reach p ≤ {thresholds.SIGNIFICANT}"
    taken = {tuple(unit) for unit in ours.tolist()}
    shared = float(np.mean([sum(tuple(unit) in taken for unit in each.tolist()) / len(ours) for each in random]))
    return f"random sets share {shared:.0%} of the graph's features: too few others are active" if shared > 0.5 else ""
