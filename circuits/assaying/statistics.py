"""Figures over pairs of numbers: what was said of each, and what was measured."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from circuits.assaying import thresholds


def correlate(statistic: Any, x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> float:
    """One of scipy's correlations; nan where there is none."""
    if len(x) < 3 or not np.isfinite([x, y]).all() or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(statistic(x, y).statistic)


def p_of_order(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], reached: float, seed: int) -> float:
    """(1 + shuffled orders that reach this Spearman correlation) / (1 + shuffled orders)."""
    if np.isnan(reached):
        return float("nan")
    numbers = np.random.default_rng(seed)
    x, y = stats.rankdata(x), stats.rankdata(y)
    centred = y - y.mean()
    scale = np.linalg.norm(x - x.mean()) * np.linalg.norm(centred)
    scores = np.array([numbers.permutation(x) @ centred for _ in range(thresholds.SHUFFLES)]) / scale
    return float((1 + (scores >= reached - 1e-12).sum()) / (1 + len(scores)))


def ratio(above: float, below: float) -> float:
    """Their ratio; nan where there is none."""
    return above / below if below > 0 else float("nan")


def slope_of(predicted: Float[np.ndarray, "n"], measured: Float[np.ndarray, "n"]) -> float:
    """Of measured on predicted, through the origin."""
    return ratio(float(predicted @ measured), float(predicted @ predicted))


def sign_agreement(
    predicted: Float[np.ndarray, "n"], measured: Float[np.ndarray, "n"], least: float
) -> tuple[float, int]:
    """Of the changes predicted to be at least so large: the share that went that way, and how many they are."""
    sizeable = np.abs(predicted) >= least
    agree = np.sign(predicted[sizeable]) == np.sign(measured[sizeable])
    return float(agree.mean()) if len(agree) else float("nan"), int(sizeable.sum())
