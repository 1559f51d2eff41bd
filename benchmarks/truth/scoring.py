"""How near scores come to what is true: recall, precision, and how well they rank; by size, see ranks.py."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from benchmarks.truth.ranks import area_under_roc, average_precision, recall, sizes_of


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
    size = sizes_of(scores)
    some = size > 0
    return Score(
        of=len(true),
        true=int(true.sum()),
        recall=recall(scores, true),
        precision=float(true[some].mean()) if some.any() else math.nan,
        ranking=area_under_roc(scores, true),
        average_precision=average_precision(scores, true),
        needed=int((size >= size[true].min()).sum()) if true.any() else 0,
    )
