"""What a run is made of: which tasks, models, methods, ablations and seeds, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench.levels import INSIDE
from benchmarks.bench.methods import GRAPH_METHODS, METHODS, RANDOM
from benchmarks.bench.presets import PRESETS, Preset
from benchmarks.bench.side_by_side import EDGE_PEERS, PEERS, PREFIX
from benchmarks.tasks import TASKS
from benchmarks.truth import TRUTHS, Truth, load_truths
from circuits.components.ablations import ABLATIONS
from circuits.errors import BadOption

PROGRAM = "truth:"  # before the name of a program, where a task has the same


@dataclass(frozen=True)
class Plan:
    """tasks: names of the table, or files. truths: programs with known circuits, as `open_truth` takes them.

    models: that do the tasks. methods: random ones included. transcoders: for features; None: the model's own.
    """

    tasks: tuple[str, ...]
    truths: tuple[str, ...]
    models: tuple[str, ...]
    methods: tuple[str, ...]
    ablations: tuple[str, ...]
    seeds: tuple[int, ...]
    preset: Preset
    transcoders: str | None = None

    @property
    def cells(self) -> int:
        """How many cells the run has: the model itself is one on each task and ablation."""
        edges = [each for each in self.methods if each in METHODS]
        ablated = len(edges) + sum(each in EDGE_PEERS for each in self.methods)
        each_task = len(self.ablations) * (1 + ablated) + len(self.methods) - ablated
        of_truths = sum(METHODS[each].level not in INSIDE for each in edges) * len(self.ablations)
        whole = len(self.tasks) * len(self.models) * each_task + len(self.truths) * of_truths
        return whole * len(self.seeds)


def plan(
    tasks: Sequence[str] = (),
    models: Sequence[str] = (),
    *,
    methods: Sequence[str] = (),
    ablations: Sequence[str] = (),
    seeds: Sequence[int] = (),
    preset: str = "quick",
    transcoders: str | None = None,
    peers: bool = False,
) -> Plan:
    """A run of what is named; what is not is the preset's, and without tasks all tasks and all programs.

    tasks: names of TASKS or of TRUTHS ("truth:induction", where a task has the name too), JSONL files of pairs, folders
        of compiled programs.
    peers: whatever of the peers stands beside one of the methods is run too; by name, "peer:eap", it is in any case.

    Raises:
        BadOption: there is no such task, method, ablation or preset.
    """
    if preset not in PRESETS:
        raise BadOption(f"a preset is one of {', '.join(PRESETS)}; found {preset!r}.")
    numbers = PRESETS[preset]
    named = list(dict.fromkeys(tasks)) or [*TASKS, *(f"{PROGRAM}{each}" for each in TRUTHS)]
    known = (*METHODS, *GRAPH_METHODS, *PEERS)
    wanted = [*(methods or numbers.methods)]
    for what, names, table in (("method", wanted, known), ("ablation", ablations, tuple(ABLATIONS))):
        strange = [each for each in names if each not in table]
        if strange:
            raise BadOption(f"there is no {what} {strange[0]!r}; there are {', '.join(table)}.")
    # Whatever is looked at, something drawn by lot stands beside it.
    wanted += [
        RANDOM[level] for level in RANDOM if any(each in METHODS and METHODS[each].level == level for each in wanted)
    ]
    if peers:
        wanted += [f"{PREFIX}{each}" for each in wanted if f"{PREFIX}{each}" in PEERS]
    truths = [name for each in named for name in _programs(each)]
    whole = [each for each in named if not _programs(each)]
    called = [name_of(each) for each in whole]
    twice = [each for each in called if called.count(each) > 1]
    if twice:
        raise BadOption(f"{called.count(twice[0])} tasks are called {twice[0]!r}: give the files other names.")
    return Plan(
        tasks=tuple(whole),
        truths=tuple(dict.fromkeys(truths)),
        models=tuple(dict.fromkeys(models)),
        methods=tuple(dict.fromkeys(wanted)),
        ablations=tuple(dict.fromkeys(ablations or numbers.ablations)),
        seeds=tuple(dict.fromkeys(seeds or numbers.seeds)),
        preset=numbers,
        transcoders=transcoders,
    )


def name_of(task: str) -> str:
    """What a task or program is called in rows: a file or folder without what it lies in."""
    path = Path(task)
    if path.is_dir():
        return f"{path.resolve().parent.name}/{path.name}"
    return path.stem if path.is_file() else task.removeprefix(PROGRAM)


def open_truth(name: str) -> Truth:
    """A program by the name that a plan has for it."""
    if name.startswith(PROGRAM):
        return TRUTHS[name.removeprefix(PROGRAM)]()
    path = Path(name)
    return next(each for each in load_truths(path.parent) if each.name == path.name)


def _programs(name: str) -> list[str]:
    """The programs that a name stands for; none where it is a task."""
    if name in TASKS:
        return []
    if name.removeprefix(PROGRAM) in TRUTHS:
        return [f"{PROGRAM}{name.removeprefix(PROGRAM)}"]
    path = Path(name)
    if path.is_dir():
        found = sorted(str(each.parent) for each in path.glob("*/ground_truth.json"))
        if found:
            return found
        raise BadOption(f"{name} holds no compiled programs: folders with a ground_truth.json in each are wanted.")
    if path.is_file():
        return []
    raise BadOption(
        f"there is no task {name!r}: there are {', '.join(TASKS)}; of programs {', '.join(TRUTHS)}; or name a JSONL "
        "file of pairs, or a folder of compiled programs."
    )
