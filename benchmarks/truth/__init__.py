"""Transformers whose circuits are known, and methods held to them.

TRUTHS               name -> the truth of a program compiled by hand here, made when it is called
load_truths(folder)  those of programs that were compiled with Tracr
"""

from collections.abc import Callable

from benchmarks.truth.programs import PROGRAMS
from benchmarks.truth.tracr import load_truths
from benchmarks.truth.truths import Truth, truth_of

__all__ = ["TRUTHS", "Truth", "load_truths"]


def _called(name: str) -> Callable[[], Truth]:
    return lambda: truth_of(name, PROGRAMS[name]())


TRUTHS: dict[str, Callable[[], Truth]] = {name: _called(name) for name in PROGRAMS}
