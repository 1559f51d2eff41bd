"""How alike circuits are that were found on other prompts: Jaccard indices of what was chosen, and of the scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float


def jaccard(one: Bool[np.ndarray, "*unit"], other: Bool[np.ndarray, "*unit"]) -> float:
    """What both hold, of what either holds; nan where neither holds anything."""
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else float("nan")


def weighted_jaccard(one: Float[np.ndarray, "*unit"], other: Float[np.ndarray, "*unit"]) -> float:
    """The same of the scores' sizes, each side's summing to one: Σ min / Σ max."""
    one, other = (np.abs(each) / (np.abs(each).sum() or 1.0) for each in (one, other))
    most = float(np.maximum(one, other).sum())
    return float(np.minimum(one, other).sum()) / most if most else float("nan")


def pairwise(alike: Callable[..., float], of: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """The mean over all pairs, the least and the largest; nan without pairs."""
    found = [alike(one, other) for one, other in combinations(of, 2)]
    if not found or not np.isfinite(found).all():
        return float("nan"), float("nan"), float("nan")
    return float(np.mean(found)), min(found), max(found)
