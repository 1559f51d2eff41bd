"""Three tests of a circuit over examples: does it do what the model does, is nothing left outside, is nothing idle.

Not to reject is no evidence: that a circuit is equivalent must be shown against both bounds.

Source: Shi et al. 2024, "Hypothesis Testing the Circuit Hypothesis in LLMs"; METHODS section 7.4, also for where the
published code is not followed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats
from scipy.spatial.distance import pdist, squareform

PERMUTATIONS = 1000


@dataclass(frozen=True)
class Equivalence:
    """share: of the examples, how many score higher with the circuit than with the model, ties counting half.

    p_differs: how likely a share so far from a half is if the true one is within the margin. p_equivalent: how likely
    one so near is if the true one is at the margin or beyond.
    """

    share: float
    p_differs: float
    p_equivalent: float


def find_equivalence(
    circuit: Float[np.ndarray, "example"], model: Float[np.ndarray, "example"], *, margin: float = 0.1
) -> Equivalence:
    """Whether circuit and model score higher equally often. margin: of the share, to both sides of a half."""
    count, higher = len(circuit), float((circuit > model).sum() + 0.5 * (circuit == model).sum())
    far = abs(higher / count - 0.5) * count
    up = stats.binom(count, 0.5 + margin)
    differs = up.sf(np.ceil(count / 2 + far) - 1) + up.cdf(np.floor(count / 2 - far))
    below, above = up.cdf(np.floor(higher)), stats.binom(count, 0.5 - margin).sf(np.ceil(higher) - 1)
    return Equivalence(higher / count, float(min(differs, 1.0)), float(max(below, above)))


def find_independence(
    without: Float[np.ndarray, "example"], model: Float[np.ndarray, "example"], *, seed: int = 0
) -> tuple[float, float]:
    """Whether what is left without the circuit still says something of what the model does.

    Gives the Hilbert-Schmidt independence criterion of both scores, with Gaussian kernels as wide as the median
    distance, and p: (1 + shuffles that reach it) / (1 + shuffles). Small: the rest is not independent, so something was
    left out.
    """
    kernels = [_kernel(without), _kernel(model)]
    count = len(model)
    centre = np.eye(count) - 1 / count
    first, second = centre @ kernels[0] @ centre, kernels[1]
    reached = float((first * second).sum()) / count**2
    numbers = np.random.default_rng(seed)
    shuffled = []
    for _ in range(PERMUTATIONS):
        order = numbers.permutation(count)
        shuffled.append(float((first * second[np.ix_(order, order)]).sum()) / count**2)
    return reached, float((1 + (np.array(shuffled) >= reached - 1e-15).sum()) / (1 + PERMUTATIONS))


def find_needed(
    lost: Float[np.ndarray, "part"], reference: Float[np.ndarray, "draw"], *, share: float = 0.9, level: float = 0.05
) -> Bool[np.ndarray, "part"]:
    """Which parts matter more than `share` of random ones, by binomial tests, Holm's correction over all parts.

    lost: what is lost without each part. reference: what a random one adds.
    """
    outdone = np.array([(np.abs(reference) < abs(each)).sum() for each in lost])
    p = stats.binom(len(reference), share).sf(outdone - 1)
    return holm(p, level)


def holm(p: Float[np.ndarray, "test"], level: float) -> Bool[np.ndarray, "test"]:
    """Which tests pass when all are to be wrong together no more often than `level`."""
    order = np.argsort(p, kind="stable")
    passes = p[order] <= level / np.arange(len(p), 0, -1)
    found = np.zeros(len(p), dtype=bool)
    found[order[: int(np.argmin(passes)) if not passes.all() else len(p)]] = True
    return found


def _kernel(x: Float[np.ndarray, "example"]) -> Float[np.ndarray, "example example"]:
    apart = pdist(np.asarray(x, dtype=np.float64)[:, None])
    width = np.median(apart[apart > 0]) if (apart > 0).any() else 1.0
    return np.exp(-(squareform(apart) ** 2) / (2 * width**2))
