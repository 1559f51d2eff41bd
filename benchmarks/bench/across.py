"""Rows that are made of several cells: how alike seeds' circuits are, and how near scores are to patching each unit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Shaped
from scipy import stats

from benchmarks.bench.cells import Cell, Result
from benchmarks.bench.measures import SIZES
from benchmarks.bench.overlap import jaccard, pairwise, weighted_jaccard
from benchmarks.bench.rows import Row
from circuits.assaying.statistics import correlate

# The truth of each level.
EXACT = {"edges": "exact", "nodes": "exact-nodes", "neurons": "exact-nodes-neurons", "features": "exact-nodes-features"}
ALL = -1  # in place of a seed: over all of them


def compare_cells(found: Sequence[tuple[Cell, Result]]) -> list[Row]:
    """The rows over the seeds of a method, and of each method beside patching every unit by itself."""
    scored = [(cell, result) for cell, result in found if "scores" in result.arrays]
    return [*_over_seeds(scored), *_beside_exact(scored)]


def _over_seeds(found: Sequence[tuple[Cell, Result]]) -> Iterator[Row]:
    """A seed draws the task's prompts, and what is random in a method."""
    alike: dict[Cell, list[Result]] = {}
    for cell, result in found:
        alike.setdefault(replace(cell, seed=ALL), []).append(result)
    for results in alike.values():
        if len(results) < 2:
            continue
        blank = _blank(results[0], f"{len(results)} seeds", seed=ALL)
        yield _row(blank, "weighted jaccard over seeds", pairwise(weighted_jaccard, _line_up(results, "scores")))
        for size, *chosen in zip(SIZES, *_line_up(results, "chosen"), strict=True):
            yield replace(_row(blank, "jaccard over seeds", pairwise(jaccard, chosen)), size=size)


def _line_up(results: Sequence[Result], name: str) -> list[Shaped[np.ndarray, "*size unit"]]:
    """An array of each result over the units of all: what is no unit in one, as a feature silent there, is 0 in it."""
    if "names" not in results[0].arrays:
        return [each.arrays[name] for each in results]
    every, found = np.unique(np.concatenate([each.arrays["names"] for each in results])), []
    for each in results:
        own = each.arrays[name]
        found.append(np.zeros((*own.shape[:-1], len(every)), own.dtype))
        found[-1][..., np.searchsorted(every, each.arrays["names"])] = own
    return found


def _beside_exact(found: Sequence[tuple[Cell, Result]]) -> Iterator[Row]:
    """The rank correlation of the scores' sizes with those of patching every unit."""
    scores = {cell: result.arrays["scores"] for cell, result in found}
    for cell, result in found:
        level = result.rows[0].level
        exact = scores.get(replace(cell, method=EXACT[level]))
        if exact is None or cell.method == EXACT[level]:
            continue
        ours = scores[cell]
        rank = correlate(stats.spearmanr, np.abs(ours), np.abs(exact))
        blank = _blank(result, f"Spearman, sizes of {len(ours)} scores")
        yield _row(blank, "rank correlation with exact", (rank, math.nan, math.nan))


def _blank(result: Result, says: str, **columns: Any) -> Row:
    return replace(result.rows[0], split="train", ranked="size", size=math.nan, says=says, **columns)


def _row(blank: Row, metric: str, number: tuple[float, float, float]) -> Row:
    value, low, high = number
    return replace(blank, metric=metric, value=value, low=low, high=high)
