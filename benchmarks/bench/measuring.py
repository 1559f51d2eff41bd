"""One cell of a run: a method's scores on the training split, and what its circuits do on the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks.bench import measures
from benchmarks.bench.bootstrap import draw_weights, interval, share_kept
from benchmarks.bench.cells import Cell, Result, row_of
from benchmarks.bench.curves import run_circuits
from benchmarks.bench.levels import LEVELS, Level
from benchmarks.bench.measures import BARS, SIZES
from benchmarks.bench.methods import METHODS, RANDOM, Job
from benchmarks.bench.overlap import jaccard, pairwise, weighted_jaccard
from benchmarks.bench.presets import Preset
from benchmarks.bench.rows import Row
from benchmarks.bench.situations import MEASURED, Situation
from benchmarks.bench.spending import Spent, spend
from circuits.components.parts import Parts

NAN = float("nan")
NEEDED = 0.01  # of the difference: what a unit must carry to be no idle one
Triple = tuple[float, float, float]


def measure_cell(cell: Cell, situation: Situation, preset: Preset) -> Result:
    """All rows of a method on a task.

    situation: of the method's level. The method is chosen by the cell.

    Raises:
        CircuitError: the method cannot be used here; the message says why.
    """
    method = METHODS[cell.method]
    level = LEVELS[method.level](situation.transformer)
    job = Job(situation.transformer, situation.metric, situation.ablate, level, cell.seed)
    parts = situation.parts if method.in_parts else []

    def score() -> list[Float[np.ndarray, "unit *more"]]:
        each = [method.score(job, [pairs]) for _, pairs in parts]
        return each or [method.score(job, situation.train)]

    found, spent = spend(score, situation.transformer.W_U.device)
    return measure_scores(cell, level, situation, preset, np.stack(found), [name for name, _ in parts], spent)


def measure_scores(
    cell: Cell,
    level: Level,
    situation: Situation,
    preset: Preset,
    sums: Float[np.ndarray, "part unit *more"],
    phrasings: Sequence[str],
    spent: Spent,
) -> Result:
    """All rows of the circuits that scores choose, whoever made them.

    sums: over the pairs of each part of the training split, or of all of it. phrasings: of each part; none where it is
    all of it. spent: on the scores.
    """
    scores = sums.sum(0) / sum(len(each) for each in situation.train)
    blank = row_of(cell, level.name)
    tell = _Told(replace(blank, count=float(level.total), seconds=spent.seconds, peak_memory=spent.peak_memory))
    chosen_at: dict[float, float] = {}
    for split in MEASURED:
        _measure_split(tell, split, situation, level, scores, cell, preset, chosen_at)
    _measure_stability(tell, phrasings, sums, level, preset, cell.seed)
    chosen = np.stack([level.at(size, scores)[level.units] for size in SIZES])
    # Edges are the same for every seed; of features those that are active on its prompts are units.
    names = {"names": np.array(level.over.names)[level.units]} if isinstance(level.over, Parts) else {}
    return Result(tell.rows, {"scores": scores[level.units], "chosen": chosen, **names})


class _Told:
    """Rows that share all but their number."""

    def __init__(self, blank: Row) -> None:
        self.rows: list[Row] = []
        self._blank = blank

    def __call__(self, metric: str, number: Triple, **columns: Any) -> None:
        value, low, high = number
        self.rows.append(replace(self._blank, metric=metric, value=value, low=low, high=high, **columns))


def _measure_split(
    tell: _Told,
    split: str,
    situation: Situation,
    level: Level,
    scores: Float[np.ndarray, "unit *more"],
    cell: Cell,
    preset: Preset,
    chosen_at: dict[float, float],
) -> None:
    """The curve of the circuits by size of score and by value, beside random ones; and what it comes to."""
    course, ends = situation.courses[split], situation.ends[split]
    weights = draw_weights(course.prompts, draws=preset.draws)
    kept = partial(share_kept, weights, ends.clean, ends.ablated)
    points = len(SIZES)
    by_size = [level.at(size, scores) for size in SIZES]
    by_value = [level.at(size, scores, signed=True) for size in SIZES]
    # What is random is its own control, and only what is told in the end has others.
    controls = preset.controls if split == MEASURED[-1] and cell.method not in RANDOM.values() else 0
    others = [level.shuffle(scores, 1000 * cell.seed + at) for at in range(controls)]
    random = [level.at(size, each) for each in others for size in SIZES]
    runs = run_circuits(course, [*by_size, *by_value, *(level.without(each) for each in by_size), *random], level.carry)
    curve, signed, left = (kept(runs.metric[first : first + points]) for first in (0, points, 2 * points))
    nulls = kept(runs.metric[3 * points :])[0].reshape(-1, points)
    divergence = weights @ runs.divergence[:points].T
    for at, size in enumerate(SIZES):
        place = {"split": split, "ranked": "size", "size": size, "count": float(level.count(by_size[at]))}
        tell("faithfulness", interval(curve[:, at]), **place)
        tell("completeness", interval(1 - left[:, at]), **place)
        tell("kl", interval(divergence[:, at]), **place)
        if controls:
            tell("faithfulness of matched random", _spread(nulls[:, at]), **place)
        place |= {"ranked": "value", "count": float(level.count(by_value[at]))}
        tell("faithfulness", interval(signed[:, at]), **place)
    whole = {"split": split, "ranked": "size"}
    tell("cpr", interval(measures.performance(signed)), split=split, ranked="value")
    tell("cpr", interval(measures.performance(curve)), **whole)
    tell("cmd", interval(measures.distance(curve)), **whole)
    area = measures.log_area(curve)
    tell("log area", interval(area), **whole)
    if controls:
        null = measures.log_area(nulls)
        tell("log area of matched random", _spread(null), **whole)
        p = (1 + int((null >= area[0]).sum())) / (1 + len(null))
        tell("p of log area", (p, NAN, NAN), says=f"{len(null)} matched random circuits", **whole)
    for bar in BARS:
        places = measures.smallest(curve, bar)
        value, low, high = interval(np.array([SIZES[int(at)] if at < points else np.inf for at in places]))
        count = float(level.count(by_size[int(places[0])])) if places[0] < points else NAN
        tell(f"smallest at {bar}", (value, low, high), count=count, **whole)
    if split == MEASURED[0]:
        chosen_at.update({bar: float(measures.smallest(curve[:1], bar)[0]) for bar in BARS})
    elif chosen_at[BARS[0]] < points:
        _measure_minimality(tell, split, situation, level, by_size[int(chosen_at[BARS[0]])], cell.seed, preset)


def _measure_minimality(
    tell: _Told,
    split: str,
    situation: Situation,
    level: Level,
    circuit: np.ndarray,
    seed: int,
    preset: Preset,
) -> None:
    """Of some units of the circuit, the share without which the rest of it keeps at least 1 % less."""
    units = np.argwhere(circuit & level.units)
    some = np.random.default_rng(seed).permutation(units)[: preset.removed]
    fewer = []
    for unit in some:
        one = circuit.copy()
        one[tuple(unit)] = False
        fewer.append(one)
    course, ends = situation.courses[split], situation.ends[split]
    runs = run_circuits(course, [circuit, *fewer], level.carry)
    weights = draw_weights(course.prompts, draws=preset.draws)
    kept = share_kept(weights, ends.clean, ends.ablated, runs.metric)
    needed = (kept[:, :1] - kept[:, 1:] >= NEEDED).mean(1)
    said = f"{len(some)} of {len(units)} units taken out of the smallest circuit at {BARS[0]} on validation"
    tell("minimality", interval(needed), split=split, ranked="size", count=float(len(units)), says=said)


def _measure_stability(
    tell: _Told,
    phrasings: Sequence[str],
    sums: Float[np.ndarray, "part unit *more"],
    level: Level,
    preset: Preset,
    seed: int,
) -> None:
    """How alike the circuits are that other batches of the training split, or other phrasings, would have given."""
    if len(sums) < 2:
        return
    numbers = np.random.default_rng(seed)
    drawn = numbers.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=preset.resamples)
    samples = {"batches": [np.tensordot(each, sums, 1) for each in drawn]}
    names = list(dict.fromkeys(phrasings))
    if len(names) > 1:
        samples["phrasings"] = [sums[[name == each for each in phrasings]].sum(0) for name in names]
    for over, those in samples.items():
        what = {"split": "train", "ranked": "size", "says": f"{len(those)} samples"}
        tell(f"weighted jaccard over {over}", pairwise(weighted_jaccard, those), **what)
        for size in SIZES:
            circuits = [level.at(size, each) & level.units for each in those]
            tell(f"jaccard over {over}", pairwise(jaccard, circuits), size=size, **what)


def _spread(of: Float[np.ndarray, "draw"]) -> Triple:
    """Their mean, the least and the largest."""
    return float(of.mean()), float(of.min()), float(of.max())
