"""Tasks: a file each. `making.make_task` makes one for a model."""

from benchmarks.tasks import induction, ioi, two_hop
from benchmarks.tasks.task import Task

TASKS: dict[str, Task] = {
    "ioi": ioi.TASK,
    "induction": induction.TASK,
    "two-hop": two_hop.TASK,
}
