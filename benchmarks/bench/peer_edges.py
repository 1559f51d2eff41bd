"""EAP-IG's scores of edges beside ours: the same model, pairs and ablation, and its circuits run like any others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from benchmarks.bench.cells import Cell, Result, row_of
from benchmarks.bench.curves import Course, run_circuits, run_ends
from benchmarks.bench.levels import LEVELS, Level
from benchmarks.bench.measures import SIZES
from benchmarks.bench.measuring import measure_scores
from benchmarks.bench.methods import BATCH, METHODS, Job
from benchmarks.bench.overlap import jaccard
from benchmarks.bench.presets import Preset
from benchmarks.bench.side_by_side import BESIDE, PREFIX, Triple, Turn, check_runs, costs_of, take_turns
from benchmarks.bench.situations import Situation
from benchmarks.bench.spending import Spent
from benchmarks.peers.component_jobs import Peer, write_job
from benchmarks.peers.hooked_models import folder_of
from circuits.assaying.statistics import correlate
from circuits.attribution import EDGE_METHODS
from circuits.errors import BadOption
from circuits.model import Model

ABLATION = "resample"  # what it is driven with
BEGINS = {"eap-ig": "corrupted", "eap-ig-activations": "clean"}  # where its program begins its steps
FROZEN = ("eap-ig",)  # what can do without gradients of the parameters, which saves it time
NAN = float("nan")


def measure_edge_peer(cell: Cell, model: Model, situation: Situation, preset: Preset) -> Result:
    """All rows of its circuits, as of a method of ours, and those that hold it to the method of that name.

    Where the model does not do the task, the latter alone.

    Raises:
        CircuitError: it cannot be run here; the message says why.
    """
    check_runs(cell.method, model)
    if cell.ablation != ABLATION:
        raise BadOption(f"EAP-IG is driven with {ABLATION} ablation alone; what it takes the mean over is not ours.")
    name, level = cell.method.removeprefix(PREFIX), LEVELS["edges"](situation.transformer)
    job = Job(situation.transformer, situation.metric, situation.ablate, level, cell.seed)
    ours = partial(METHODS[name].score, job, situation.train)
    folder = write_job(folder_of(model), situation.train, model.dtype)
    with Peer(folder) as peer:
        theirs = partial(peer.score, name, **_steps(name), batch=BATCH, frozen=name in FROZEN)
        theirs(save=folder / "scores.npz")
        scores = np.load(folder / "scores.npz")["found"].astype(np.float64)
        runs = {size: _run_its(peer, level, size, folder) for size in SIZES if int(size * level.total)}
        turns = take_turns(ours, theirs)
    total = sum(len(each) for each in situation.train)
    mine, spent = ours() / total, _median(turns)
    blank = replace(row_of(cell, BESIDE), split="train", seconds=spent.seconds, peak_memory=spent.peak_memory)
    beside = [
        replace(blank, metric=metric, value=value, low=low, high=high, **columns)
        for metric, (value, low, high), columns in [
            *_hold_scores(level, mine, scores),
            *_hold_runs(situation, level, mine, runs),
            *((metric, number, {}) for metric, number in costs_of(turns)),
        ]
    ]
    if situation.unfit:
        return Result([*beside, row_of(cell, "edges", says=situation.unfit)])
    found = measure_scores(cell, level, situation, preset, scores[None] * total, (), spent)
    return Result([*found.rows, *beside], found.arrays)


def _steps(name: str) -> dict[str, Any]:
    """The points between the prompts that our method has, and by how many steps they are later than its own."""
    taken = signature(EDGE_METHODS[name]).parameters
    if "steps" not in taken:
        return {}
    begin = taken["begin"].default
    later = 0 if begin == BEGINS[name] else 1 if begin == "clean" else -1
    return {"steps": taken["steps"].default, "later": later}


def _run_its(peer: Peer, level: Level, size: float, folder: Path) -> dict[str, np.ndarray]:
    """The circuit that it chooses of its own scores, and the metric of each pair as it runs that."""
    file = folder / "circuit.npz"
    peer.evaluate(int(size * level.total), file, batch=BATCH)
    return dict(np.load(file))


def _hold_scores(
    level: Level, ours: Float[np.ndarray, "source reader"], theirs: Float[np.ndarray, "source reader"]
) -> Iterator[tuple[str, Triple, dict[str, Any]]]:
    largest = np.abs(theirs).max()
    apart = float(np.abs(ours - theirs).max() / largest) if largest else NAN
    units = level.units
    rank = correlate(stats.spearmanr, np.abs(ours[units]), np.abs(theirs[units]))
    yield "scores apart", (apart, NAN, NAN), {"count": float(level.total), "says": "over its largest score"}
    yield "rank correlation with ours", (rank, NAN, NAN), {"count": float(level.total)}


def _hold_runs(
    situation: Situation,
    level: Level,
    scores: Float[np.ndarray, "source reader"],
    runs: dict[float, dict[str, np.ndarray]],
) -> Iterator[tuple[str, Triple, dict[str, Any]]]:
    """Whether our scores choose its circuits, and whether we run these as it does."""
    course = Course(situation.transformer, situation.train, situation.metric, situation.ablate)
    its: list[Bool[np.ndarray, "source reader"]] = [each["chosen"] for each in runs.values()]
    ran, ends = run_circuits(course, its, level.carry).metric, run_ends(course)
    whole = np.abs(ends.clean - ends.ablated).mean()
    for at, (size, run) in enumerate(runs.items()):
        mine = level.at(size, scores)
        place = {"size": size, "count": float(level.count(its[at]))}
        alike = jaccard(mine, its[at]) if (mine | its[at]).any() else 1.0
        said = f"{int((mine ^ its[at]).sum())} edges that only one side chose"
        yield "circuits alike", (alike, NAN, NAN), {**place, "says": said}
        moved = float(np.abs(ran[at] - run["kept"]).max() / whole)
        yield "metric apart", (moved, NAN, NAN), {**place, "says": "of any pair, over the mean difference of its ends"}


def _median(turns: list[Turn]) -> Spent:
    costs = {name: number for name, (number, _, _) in costs_of(turns)}
    return Spent(costs["peer's seconds"], costs["peer's memory"])
