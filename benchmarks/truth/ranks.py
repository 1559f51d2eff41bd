"""How well scores tell the true edges, or nodes, of a known circuit from all others; by size, ties counted as ties.

A score below a millionth of the largest is none: below that, order is rounding, and a ranking by scores of 1e-30 would
look as good as any.

Source: METHODS sections 8.7 and 8.8.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

SOME = 1e-6  # of the largest score: below it, order is rounding


def sizes_of(scores: Float[np.ndarray, "*unit"]) -> Float[np.ndarray, "*unit"]:
    """Sizes of scores; what is below a millionth of the largest is nothing."""
    size = np.abs(scores)
    return np.where(size > SOME * size.max(initial=0.0), size, 0.0)


def area_under_roc(scores: Float[np.ndarray, "unit"], true: Bool[np.ndarray, "unit"]) -> float:
    """The chance that a true one has a larger score than another, equal ones counting half; nan without both."""
    size = sizes_of(scores)
    return chance_above(size[~true], size[true])


def chance_above(low: Float[np.ndarray, "one"], high: Float[np.ndarray, "other"]) -> float:
    """How often one of `high` is above one of `low`, equal ones counting half; nan where either holds nothing."""
    if not len(low) or not len(high):
        return math.nan
    ranks = rankdata(np.concatenate([low, high]))[len(low) :]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(low) * len(high)))


def average_precision(scores: Float[np.ndarray, "unit"], true: Bool[np.ndarray, "unit"]) -> float:
    """The mean, over the true ones, of the precision down to their score; equal ones are taken together."""
    if not true.any():
        return math.nan
    size = sizes_of(scores)
    down = [(size >= each) for each in size[true]]
    return float(np.mean([true[each].mean() for each in down]))


def recall(scores: Float[np.ndarray, "unit"], true: Bool[np.ndarray, "unit"]) -> float:
    """The share of the true ones that have a score at all."""
    return float((sizes_of(scores) > 0)[true].mean()) if true.any() else math.nan


def size_with_all(scores: Float[np.ndarray, "unit"], true: Bool[np.ndarray, "unit"]) -> float:
    """How many must be taken, strongest first, until all true ones are in, equal ones last; inf where one has none."""
    size = sizes_of(scores)
    least = size[true].min(initial=math.inf)
    return float((size >= least).sum()) if 0 < least < math.inf else math.inf
