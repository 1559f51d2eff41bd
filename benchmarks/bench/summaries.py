"""Rows gathered for a reader: the numbers of each method on a task, over all seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmarks.bench.levels import LEVELS
from benchmarks.bench.rows import UNTESTED, Row

CIRCUITS = tuple(LEVELS)


class Place(NamedTuple):
    """Where methods stand side by side."""

    task: str
    model: str
    ablation: str


@dataclass(frozen=True)
class Number:
    """The mean over seeds of a number and of the ends of its interval; of sizes, the units counted."""

    value: float
    low: float
    high: float
    count: float


@dataclass(frozen=True)
class Summary:
    """One method at one place. level: what its circuits are made of. numbers: by metric, ranking and size."""

    method: str
    level: str
    seconds: float
    peak_memory: float
    numbers: dict[tuple[str, str, float], Number]

    def get(self, metric: str, ranked: str = "size", size: float = -1.0) -> Number:
        """A number; nan where it was not measured."""
        return self.numbers.get((metric, ranked, size), Number(math.nan, math.nan, math.nan, math.nan))


def summarise(rows: Iterable[Row], *, splits: Sequence[str] = ("test", "train")) -> dict[Place, list[Summary]]:
    """For every place its methods, in the order of their levels and then of the rows. splits: that count."""
    cells: dict[tuple[Place, str, str], dict[tuple[str, str, float], list[Row]]] = {}
    for row in rows:
        if row.split in splits and row.level in CIRCUITS and row.metric != UNTESTED:
            place = Place(row.task, row.model, row.ablation)
            size = -1.0 if math.isnan(row.size) else row.size
            numbers = cells.setdefault((place, row.level, row.method), {})
            numbers.setdefault((row.metric, row.ranked, size), []).append(row)
    found: dict[Place, list[Summary]] = {}
    for (place, level, method), numbers in cells.items():
        costs = next(iter(numbers.values()))
        told = {key: _mean(those) for key, those in numbers.items()}
        seconds, peak = (float(np.mean([getattr(row, name) for row in costs])) for name in ("seconds", "peak_memory"))
        found.setdefault(place, []).append(Summary(method, level, seconds, peak, told))
    for those in found.values():
        those.sort(key=lambda each: CIRCUITS.index(each.level))
    return found


def _mean(rows: Sequence[Row]) -> Number:
    return Number(*(float(np.mean([getattr(row, name) for row in rows])) for name in ("value", "low", "high", "count")))
