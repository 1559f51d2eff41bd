"""What changed between two runs beyond noise, cell by cell.

Of two numbers with their intervals, the difference over the size that noise would give it:

    z = (new - old) / sqrt(half_old² + half_new²) · 1.96

half: from a number to that end of its interval which lies towards the other number. The same prompts are in both runs
mostly, which makes them more alike than that takes them to be. Rows without an interval have changed if they differ by
more than rounding. Of all that were compared, as many are called changed as keep the expected share of false ones at
5 % (Benjamini & Hochberg 1995). Seconds and memory are no claim of a run and are told apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from scipy.stats import norm

from benchmarks.bench.rows import UNTESTED, Row
from benchmarks.bench.side_by_side import COSTS

FALSE = 0.05
ROUNDING = 1e-3  # of the larger number: float32 in another order of sums moves ranks by up to 1e-4
OUTRIGHT = 1e-300  # the p of a difference that no noise makes


@dataclass(frozen=True)
class Change:
    """One row in both runs. p: how likely noise alone makes such a difference."""

    old: Row
    new: Row
    p: float


@dataclass(frozen=True)
class Comparison:
    """compared: how many rows both have. changed: those beyond noise, surest first. gone, come: tested in one run only.

    times: of each method, in the median over its cells, new seconds over old.
    """

    compared: int
    changed: list[Change]
    gone: list[Row]
    come: list[Row]
    times: dict[str, float]


def compare(old: Sequence[Row], new: Sequence[Row]) -> Comparison:
    """Two runs, paired by task, model, method, ablation, seed, split, metric, ranking and size."""
    before, after = ({row.place: row for row in rows if row.metric not in (UNTESTED, *COSTS)} for rows in (old, new))
    pairs = [(before[place], row) for place, row in after.items() if place in before]
    pairs = [(one, other) for one, other in pairs if not (_undefined(one) and _undefined(other))]
    changes = [Change(one, other, p_of(one, other)) for one, other in pairs]
    changes.sort(key=lambda each: (each.p, each.new.place))
    allowed = FALSE * np.arange(1, len(changes) + 1) / max(len(changes), 1)
    passed = np.flatnonzero([each.p <= bar for each, bar in zip(changes, allowed, strict=True)])
    return Comparison(
        compared=len(changes),
        changed=changes[: int(passed[-1]) + 1 if len(passed) else 0],
        gone=[row for place, row in before.items() if place not in after],
        come=[row for place, row in after.items() if place not in before],
        times=_times(pairs),
    )


def p_of(old: Row, new: Row) -> float:
    """How likely noise alone sets two numbers so far apart; two-sided."""
    if _undefined(old) or _undefined(new):
        return OUTRIGHT
    if old.value == new.value:  # infinite ones too
        return 1.0
    apart = new.value - old.value
    if math.isfinite(apart) and abs(apart) <= ROUNDING * max(abs(old.value), abs(new.value), 1.0):
        return 1.0
    halves = [old.high - old.value, new.value - new.low] if apart > 0 else [old.value - old.low, new.high - new.value]
    noise = math.hypot(*(0.0 if math.isnan(each) else each for each in halves)) / norm.ppf(0.975)
    if math.isinf(apart):
        return 1.0 if math.isinf(noise) else OUTRIGHT
    return max(OUTRIGHT, float(2 * norm.sf(abs(apart) / noise))) if noise else OUTRIGHT


def comparison_in_words(found: Comparison, *, most: int = 40) -> list[str]:
    """For a terminal."""
    lines = [f"{found.compared:,} numbers are in both runs; {len(found.changed)} changed beyond noise"]
    for each in found.changed[:most]:
        row = each.new
        at = f" at {row.size:g}" if row.size == row.size else ""
        where = f"{row.task}, {row.model}, {row.method}, {row.ablation}, seed {row.seed}, {row.split}"
        lines.append(f"  {where}: {row.metric}{at}: {_told(each.old)} -> {_told(row)}")
    if len(found.changed) > most:
        lines.append(f"  and {len(found.changed) - most} more")
    for what, rows in (("only in the old run", found.gone), ("only in the new run", found.come)):
        cells = dict.fromkeys((row.task, row.model, row.method, row.ablation, row.seed) for row in rows)
        if cells:
            some = [", ".join(str(each) for each in cell) for cell in list(cells)[:5]]
            more = f"; and {len(cells) - 5} more" if len(cells) > 5 else ""
            lines.append(f"{what}: {len(rows):,} numbers of {'; '.join(some)}{more}")
    told = ", ".join(f"{method} {ratio:.2f}" for method, ratio in sorted(found.times.items()))
    return [*lines, *([f"seconds, new over old: {told}"] if told else [])]


def comparison_as_json(found: Comparison) -> dict[str, Any]:
    """For another program; what is infinite is told in words."""
    names = ("task", "model", "level", "method", "ablation", "seed", "split", "metric", "ranked", "size")
    changed = [
        {name: _plain(getattr(each.new, name)) for name in names}
        | {"old": _plain(each.old.value), "new": _plain(each.new.value), "p": each.p}
        for each in found.changed
    ]
    counts = {"compared": found.compared, "gone": len(found.gone), "come": len(found.come)}
    return {**counts, "changed": changed, "seconds": found.times}


def _plain(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else "infinite"


def _undefined(row: Row) -> bool:
    return math.isnan(row.value)


def _told(row: Row) -> str:
    between = "" if math.isnan(row.low) else f" [{row.low:.3g}, {row.high:.3g}]"
    return f"{row.value:.3g}{between}"


def _times(pairs: Sequence[tuple[Row, Row]]) -> dict[str, float]:
    cells = {(new.task, new.model, new.method, new.ablation, new.seed): (old, new) for old, new in pairs}
    ratios: dict[str, list[float]] = {}
    for old, new in cells.values():
        if old.seconds > 0 and new.seconds > 0:
            ratios.setdefault(new.method, []).append(new.seconds / old.seconds)
    return {method: median(those) for method, those in ratios.items()}
