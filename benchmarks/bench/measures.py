"""What a curve of faithfulness comes to in one number: areas under it, and the smallest circuit that will do.

    CPR   ∫ f(k) dk          CMD   ∫ |1 - f(k)| dk          log area   ∫ f(k) d log k / log 1000

k is the share of the edges, or nodes, that are kept. The integrals are trapezoids over the ten SIZES; there is no point
at 0. CPR and CMD are MIB's. 85 % of their weight lies on circuits of a fifth of the model and more, and a method whose
circuits work only at k = 1 gets CPR 0.25 and CMD 0.75. Edges that speak against the answer, left out, take CPR above 1.
The log area weighs every doubling of the circuit alike.

Source: Mueller et al. 2025 (MIB); METHODS section 8.7.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.integrate import trapezoid

SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
BARS = (0.8, 0.9)


def performance(curve: Float[np.ndarray, "*draw size"]) -> Float[np.ndarray, "*draw"]:
    """CPR of faithfulness at SIZES."""
    return np.asarray(trapezoid(curve, SIZES, axis=-1))


def distance(curve: Float[np.ndarray, "*draw size"]) -> Float[np.ndarray, "*draw"]:
    """CMD of faithfulness at SIZES; 0 is best."""
    return np.asarray(trapezoid(np.abs(1 - curve), SIZES, axis=-1))


def log_area(curve: Float[np.ndarray, "*draw size"]) -> Float[np.ndarray, "*draw"]:
    """The mean of faithfulness over the logarithm of the size."""
    at = np.log(SIZES)
    return np.asarray(trapezoid(curve, at, axis=-1)) / (at[-1] - at[0])


def smallest(curve: Float[np.ndarray, "*draw size"], bar: float) -> Float[np.ndarray, "*draw"]:
    """The place in SIZES of the smallest circuit that reaches the bar, as do all larger ones; inf where none does."""
    short = curve < bar
    beyond = short.shape[-1] - np.argmax(short[..., ::-1], axis=-1)  # behind the last that falls short
    at = np.where(short.any(-1), beyond, 0).astype(float)
    return np.where(at == short.shape[-1], np.inf, at)
