"""How sure a number is that rests on some prompts: prompts drawn again, with replacement, and the number made anew."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

DRAWS = 1000
LEVEL = 0.95


def draw_weights(prompts: int, *, draws: int = DRAWS, seed: int = 0) -> Float[np.ndarray, "draw prompt"]:
    """The weight of every prompt in each draw. The first draw is the prompts themselves."""
    numbers = np.random.default_rng(seed)
    drawn = numbers.multinomial(prompts, np.full(prompts, 1 / prompts), size=draws) / prompts
    return np.concatenate([np.full((1, prompts), 1 / prompts), drawn])


def share_kept(
    weights: Float[np.ndarray, "draw prompt"],
    clean: Float[np.ndarray, "prompt"],
    ablated: Float[np.ndarray, "prompt"],
    kept: Float[np.ndarray, "circuit prompt"],
) -> Float[np.ndarray, "draw circuit"]:
    """The share of the difference between clean and ablated that each circuit keeps: a ratio of means, in every draw.

    nan where they do not differ.
    """
    whole = weights @ (clean - ablated)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole[:, None] == 0, np.nan, weights @ (kept - ablated).T / whole[:, None])


def interval(drawn: Float[np.ndarray, "draw"]) -> tuple[float, float, float]:
    """The number itself, which is the first, and between what 95 % of the draws lie; nan where one is no number."""
    value, rest = float(drawn[0]), drawn[1:]
    if np.isnan(drawn).any():
        return value, float("nan"), float("nan")
    tail = (1 - LEVEL) / 2
    # Of the draws themselves, none between two: one may be infinite.
    low, high = np.quantile(rest, [tail, 1 - tail], method="nearest")
    return value, float(low), float(high)
