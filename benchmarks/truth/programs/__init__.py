"""PROGRAMS: name -> a program compiled from blocks. Read top to bottom; programs of one wiring share a file."""

from collections.abc import Callable

from benchmarks.truth.program import Program
from benchmarks.truth.programs.backup import backup
from benchmarks.truth.programs.brackets import brackets
from benchmarks.truth.programs.cancelling import cancelling
from benchmarks.truth.programs.copying import copying
from benchmarks.truth.programs.counting import counting
from benchmarks.truth.programs.duplicates import duplicate, indirect_object
from benchmarks.truth.programs.gates import both, either
from benchmarks.truth.programs.induction import induction, normed_induction, soft_induction
from benchmarks.truth.programs.majority import majority
from benchmarks.truth.programs.maximum import maximum
from benchmarks.truth.programs.previous import previous
from benchmarks.truth.programs.two_tokens import equality, modular_addition

PROGRAMS: dict[str, Callable[[], Program]] = {
    "previous": previous,  # one head that goes by position
    "copying": copying,  # one head whose queries read the prompt
    "maximum": maximum,  # one head whose keys do
    "majority": majority,  # one head with an even pattern: all is linear
    "induction": induction,  # two heads, one in the keys of the other
    "induction-soft": soft_induction,  # the same with patterns that gradients pass through
    "induction-normed": normed_induction,  # the same with norms
    "duplicate": duplicate,  # two heads, one marks for the other
    "indirect-object": indirect_object,  # three heads, composed by keys and by queries
    "counting": counting,  # a head and an MLP of steps
    "brackets": brackets,  # two heads and an MLP between them
    "equality": equality,  # an MLP that compares
    "modular-addition": modular_addition,  # an MLP that looks up
    "both": both,  # an AND gate
    "either": either,  # an OR gate: no edge of its heads matters alone
    "backup": backup,  # redundancy and self-repair
    "cancelling": cancelling,  # two heads that write the opposite of each other
}
