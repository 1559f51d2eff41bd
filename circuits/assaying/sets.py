"""Level 5: the whole graph at once, only its units left or only they ablated, against random sets of the same shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int

from circuits.assaying import thresholds
from circuits.assaying.bench import Bench
from circuits.assaying.survival import Survival, p_value
from graphs.assays import Subset

APART = 1000  # between seeds, whose neighbours other experiments use


def test_sets(bench: Bench) -> list[Subset]:
    """Keep only the graph's units, then ablate only them, under mean and zero ablation; the same for random sets."""
    ours = bench.places(bench.units)
    active, activation = bench.active.cpu().numpy(), bench.run.activation.double().cpu().numpy()
    random = draw_controls(active, activation, ours.cpu().numpy(), bench.controls, bench.seed)
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


def test_seeds(bench: Bench) -> list[Subset]:
    """The same with everything that is random drawn twice more: the sets, and the prompts that means are taken over."""
    return [each for more in (1, 2) for each in test_sets(replace(bench, seed=bench.seed + more * APART))]


def draw_controls(
    active: Int[np.ndarray, "active 3"],
    activation: Float[np.ndarray, "active"],
    ours: Int[np.ndarray, "unit 3"],
    count: int,
    seed: int,
    *,
    but: Int[np.ndarray, "member 3"] | None = None,
    loosely: int = 0,
) -> list[Int[np.ndarray, "unit 3"]]:
    """Random sets of active units outside the graph, one for each of the graph's, of its layer.

    If there is one, of its position too and of its fifth of the layer's activations, by size; else of its position, or
    of its fifth, or any of the layer. Where the layer has too few, from the graph's own units there, without which no
    set of that size exists.

    but: units that are not drawn, by default the graph's. loosely: how many of these likenesses are not asked for, from
    the closest on.

    Source: METHODS section 7.3, control 1; by activation alone, without the length of what is written.
    """
    numbers = np.random.default_rng(seed)
    taken = {tuple(unit) for unit in (ours if but is None else but).tolist()}
    is_free = np.array([tuple(unit) not in taken for unit in active.tolist()], dtype=bool)
    fifth = _fifths(active[:, 0], activation)
    fifth_of = {tuple(unit): each for unit, each in zip(active.tolist(), fifth.tolist(), strict=True)}
    sets = []
    for _ in range(count):
        chosen: list[np.ndarray] = []
        for layer in np.unique(ours[:, 0]):
            wanted = ours[ours[:, 0] == layer]
            pool = numbers.permutation(np.flatnonzero(is_free & (active[:, 0] == layer)))
            kinds = [(position, fifth_of[(layer, position, unit)]) for layer, position, unit in wanted.tolist()]
            found = _match(kinds, list(zip(active[pool, 1].tolist(), fifth[pool].tolist(), strict=True)), loosely)
            chosen += [active[pool[found]], numbers.permutation(wanted)[: len(wanted) - len(found)]]
        sets.append(np.concatenate(chosen) if chosen else np.empty((0, 3), dtype=np.int64))
    return sets


def _fifths(layer: Int[np.ndarray, "active"], activation: Float[np.ndarray, "active"]) -> Int[np.ndarray, "active"]:
    """Which fifth of its layer's activations each is in, by size: 0 to 4."""
    fifth = np.zeros(len(layer), dtype=np.int64)
    for each in np.unique(layer):
        here = np.flatnonzero(layer == each)
        rank = np.abs(activation[here]).argsort(kind="stable").argsort(kind="stable")
        fifth[here] = 5 * rank // len(here)
    return fifth


def _match(wanted: list[tuple[int, int]], pool: list[tuple[int, int]], loosely: int) -> list[int]:
    """For as many as can be, another one of the pool, as like as there is: (position, fifth), in the pool's order.

    loosely: how many ways of being alike are left out, the closest first.
    """
    found: dict[int, int] = {}
    used: set[int] = set()
    likeness: list[Callable[[tuple[int, int]], object]] = [
        lambda kind: kind,
        lambda kind: kind[0],
        lambda kind: kind[1],
        lambda _: None,
    ]
    for alike in likeness[loosely:]:
        free: dict[object, list[int]] = {}
        for at in reversed(range(len(pool))):
            if at not in used:
                free.setdefault(alike(pool[at]), []).append(at)
        for which, kind in enumerate(wanted):
            if which not in found and free.get(alike(kind)):
                found[which] = free[alike(kind)].pop()
                used.add(found[which])
    return list(found.values())


def find_unfair(ours: Int[np.ndarray, "unit 3"], random: list[Int[np.ndarray, "_ 3"]]) -> str:
    """Why a p-value would say nothing: no units in the graph, too few controls, or controls much like the graph."""
    if not len(ours):
        return "the graph has no features"
    if 1 / (1 + len(random)) > thresholds.SIGNIFICANT:
        return f"{len(random)} random sets cannot reach p ≤ {thresholds.SIGNIFICANT}"
    taken = {tuple(unit) for unit in ours.tolist()}
    shared = float(np.mean([sum(tuple(unit) in taken for unit in each.tolist()) / len(ours) for each in random]))
    return f"random sets share {shared:.0%} of the graph's features: too few others are active" if shared > 0.5 else ""
