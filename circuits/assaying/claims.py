"""A claim held to its bar."""

from __future__ import annotations

import math

from graphs.assays import Verdict


def verdict_on(claim: str, number: float, passed: bool, threshold: str, control: str, why: str) -> Verdict:
    """The verdict on a number. passed: whether it meets the bar.

    why: the reason that nothing can be said, empty when the number can be judged.
    """
    if why or math.isnan(number):
        return Verdict(claim, "untested", math.nan, threshold, f"untested: {why or 'there is no number to judge'}")
    return Verdict(claim, "supported" if passed else "not supported", number, threshold, control)
