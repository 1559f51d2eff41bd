"""PROGRAMS: name -> a program compiled from blocks. One file a program, read top to bottom."""

from collections.abc import Callable

from benchmarks.truth.program import Program
from benchmarks.truth.programs.either import either
from benchmarks.truth.programs.induction import induction, normed_induction, soft_induction
from benchmarks.truth.programs.previous import previous

PROGRAMS: dict[str, Callable[[], Program]] = {
    "previous": previous,  # one head
    "induction": induction,  # two heads, one composed with the keys of the other
    "induction-soft": soft_induction,  # the same with patterns that gradients pass through
    "induction-normed": normed_induction,  # the same with norms
    "either": either,  # an OR gate: no edge of a head matters alone
}
