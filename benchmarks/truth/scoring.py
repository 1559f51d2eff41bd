"""How near scores come to what is true: recall, precision, and how well they rank.

Scores count by size. One below a millionth of the largest is none: below that, order is rounding, and a ranking by
scores of 1e-30 would look as good as any.

Source: METHODS sections 8.7 and 8.8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

SOME = 1e-6  # of the largest score: what counts as a score at all


@dataclass(frozen=True)
class Score:
    """How scores do. of: how many were scored. true: how many of these are true.

    recall: the share of the true that got a score; precision: the share of what got one that is true.
    ranking: the area under the ROC curve; average_precision: that under precision against recall.
    needed: how many of the strongest have to be taken until all the true are among them.
    """

    of: int
    true: int
    recall: float
    precision: float
    ranking: float
    average_precision: float
    needed: int


def score(scores: Float[np.ndarray, "item"], true: Bool[np.ndarray, "item"]) -> Score:
    """How these scores do; nan where there is nothing to be right or wrong about."""
    size = sizes(scores)
    some = size > 0
    return Score(
        of=len(true),
        true=int(true.sum()),
        recall=float(some[true].mean()) if true.any() else math.nan,
        precision=float(true[some].mean()) if some.any() else math.nan,
        ranking=ranking(size, true),
        average_precision=average_precision(size, true),
        needed=int((size >= size[true].min()).sum()) if true.any() else 0,
    )


def sizes(scores: Float[np.ndarray, "*item"]) -> Float[np.ndarray, "*item"]:
    """Their absolute values, 0 where there is no score."""
    size = np.abs(scores)
    return np.where(size > SOME * size.max(initial=0.0), size, 0.0)


def ranking(size: Float[np.ndarray, "item"], true: Bool[np.ndarray, "item"]) -> float:
    """The chance that a true one is larger than another; equal ones count half. nan where there are no others."""
    if true.all() or not true.any():
        return math.nan
    above = size[true][:, None] - size[~true]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def average_precision(size: Float[np.ndarray, "item"], true: Bool[np.ndarray, "item"]) -> float:
    """Precision at each size that a true one has, averaged over the true ones; equal ones come together."""
    if not true.any():
        return math.nan
    at = size[true][:, None]
    return float(((size[true] >= at).sum(1) / (size >= at).sum(1)).mean())
