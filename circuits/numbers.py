"""Whether what a user gave is a number: of any library's kind, but true and false are none."""

from __future__ import annotations

from numbers import Integral, Real


def is_whole(value: object) -> bool:
    """A whole number: 3, or numpy's 3."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """A real number, whole or not."""
    return isinstance(value, Real) and not isinstance(value, bool)
