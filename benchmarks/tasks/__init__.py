"""Tasks: a file each. `making.make_task` makes one for a model."""

from benchmarks.tasks import (
    acronyms,
    agreement,
    antonyms,
    arithmetic,
    booleans,
    coloured_objects,
    docstring,
    greater_than,
    induction,
    ioi,
    pronoun,
    two_hop,
)
from benchmarks.tasks.task import Task

TASKS: dict[str, Task] = {
    "ioi": ioi.TASK,
    "greater-than": greater_than.TASK,
    "agreement": agreement.TASK,
    "pronoun": pronoun.TASK,
    "docstring": docstring.TASK,
    "induction": induction.TASK,
    "antonyms": antonyms.TASK,
    "arithmetic": arithmetic.TASK,
    "coloured-objects": coloured_objects.TASK,
    "booleans": booleans.TASK,
    "two-hop": two_hop.TASK,
    "acronyms": acronyms.TASK,
}
