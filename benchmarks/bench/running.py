"""A run from its plan to its rows, cell by cell; what is in its folder already is not computed again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from benchmarks.bench.bootstrap import draw_weights, interval
from benchmarks.bench.cells import Cell, Result, keep, path_of, recall_cell, row_of
from benchmarks.bench.levels import INSIDE
from benchmarks.bench.measuring import measure_cell
from benchmarks.bench.methods import GRAPH_METHODS, METHODS
from benchmarks.bench.peer_edges import measure_edge_peer
from benchmarks.bench.peer_graphs import measure_graph_peer
from benchmarks.bench.plans import Plan, name_of, open_truth
from benchmarks.bench.rows import Row
from benchmarks.bench.side_by_side import EDGE_PEERS, GRAPH_PEERS
from benchmarks.bench.situations import MEASURED, Situation, prepare
from benchmarks.bench.traces import measure_graphs
from benchmarks.bench.truths import COMPILED, measure_truth
from benchmarks.tasks.making import Made, make_task
from benchmarks.truth import Truth
from circuits.attributing import versions
from circuits.components.opening import transformer_of
from circuits.components.pairs import gather
from circuits.components.transformer import Transformer
from circuits.errors import BadPairs, CircuitError, UnfaithfulModel, UnsupportedModel
from circuits.hub.published import shipped_transcoders
from circuits.model import Model
from circuits.transcoders.base import Dictionary
from circuits.transcoders.loading import load_transcoders

NEURONS = "neurons"  # the set that every model has
WHOLE = "the model"  # in place of a method: what the model itself does on a task
Loader = Callable[[str], Model]
Found = list[tuple[Cell, Result]]


def run_plan(
    plan: Plan, folder: Path, load: Loader, *, tell: Callable[[str], None] = lambda words: None
) -> list[tuple[Cell, Result]]:
    """Every cell of the plan. load: from a name to a model. tell: called with each cell that was tried, in words.

    What cannot be done is a row that says why; it is not kept, so that the next run tries it again.

    Raises:
        UnknownModel, NotFetched: there is no such model. BadPairs: a file of pairs is none.
        CannotWrite: the disk refuses.
    """
    keeper = _Keeper(folder, plan, tell)
    found: Found = []
    for name in plan.truths:
        found += _run_truth(keeper, plan, name)
    for name in plan.models if plan.tasks else ():
        try:
            model = load(name)
        except (UnsupportedModel, UnfaithfulModel) as reason:
            cells = [Cell(name_of(task), name, WHOLE, "", seed) for task in plan.tasks for seed in plan.seeds]
            found += [(cell, Result([row_of(cell, "", says=str(reason))])) for cell in cells]
            continue
        found += _run_model(keeper, plan, model, name)
    return found


class _Keeper:
    """What was done is read from the folder; the rest is done, and kept there unless it failed."""

    def __init__(self, folder: Path, plan: Plan, tell: Callable[[str], None]) -> None:
        self._folder, self._total, self._tell = folder, plan.cells, tell
        # Which cells there are besides is no matter of a cell's: a plan may grow.
        numbers = {name: each for name, each in asdict(plan.preset).items() if not isinstance(each, tuple)}
        self._question = {"preset": numbers, "versions": versions()}
        self._done = self._computed = 0
        self._seconds = 0.0

    def __call__(self, cell: Cell, level: str, question: Mapping[str, Any], work: Callable[[], Result]) -> Result:
        path = path_of(self._folder, cell, self._question | dict(question))
        found, began = recall_cell(path), time.monotonic()
        self._done += 1
        if found is None:
            try:
                found, failed = work(), ""
                keep(path, found)
            except CircuitError as reason:
                found, failed = Result([row_of(cell, level, says=str(reason))]), ", not measured"
            self._computed += 1
            self._seconds += time.monotonic() - began
            left = (self._total - self._done) * self._seconds / self._computed
            what = f"{cell.task}, {cell.model}, {cell.method}, {cell.ablation or 'its own ablations'}, seed {cell.seed}"
            end = f", about {_clock(left)} left" if self._done < self._total else ""
            self._tell(f"{self._done} of {self._total}: {what}: {time.monotonic() - began:.1f} s{failed}{end}")
        return found


def _run_truth(keeper: _Keeper, plan: Plan, name: str) -> Found:
    opened: Callable[[], Truth] = cache(partial(open_truth, name))
    found = []
    for ablation in plan.ablations:
        for seed in plan.seeds:
            for method in (each for each in plan.methods if each in METHODS and METHODS[each].level not in INSIDE):
                cell = Cell(name_of(name), COMPILED, method, ablation, seed)
                work = partial(lambda cell: measure_truth(cell, opened()), cell)
                found.append((cell, keeper(cell, METHODS[method].level, {"program": name}, work)))
    return found


def _run_model(keeper: _Keeper, plan: Plan, model: Model, name: str) -> Found:
    laid_open = cache(lambda: transformer_of(model))
    found = []
    for task in plan.tasks:
        for seed in plan.seeds:
            found += _run_task(keeper, plan, model, laid_open, Cell(name_of(task), name, "", "", seed), task)
    return found


def _run_task(
    keeper: _Keeper, plan: Plan, model: Model, laid_open: Callable[[], Transformer], blank: Cell, task: str
) -> Found:
    made: Made | None = None
    why = ""
    try:
        made = make_task(task, model, seed=blank.seed, size=plan.preset.pairs)
    except BadPairs:
        raise  # a file of the user's that nothing can read
    except CircuitError as reason:
        why = str(reason)
    question = {"hash": model.content_hash, "dtype": str(model.dtype), "pairs": _digest(made)}

    transcoders = plan.transcoders or (blank.model if blank.model in shipped_transcoders() else NEURONS)

    @cache
    def opened() -> Dictionary:
        return load_transcoders(transcoders, model)

    def units() -> Dictionary:
        if transcoders == NEURONS:
            raise _Unfit(
                f"no features are known of {blank.model}: name a set with -t. Neurons are a level of their own."
            )
        return opened()

    def situated(ablation: str, level: str) -> Situation:
        if made is None:
            raise _Unfit(why)
        sizes = {name: getattr(plan.preset, name) for name in ("parts", "draws", "features")}
        return prepare(model, laid_open(), made.splits, ablation, level=level, dictionary=units, **sizes)

    found: Found = []
    for ablation in plan.ablations:
        once = cache(partial(situated, ablation))
        for method in (WHOLE, *(each for each in plan.methods if each in METHODS)):
            cell = replace(blank, method=method, ablation=ablation)
            level = "" if method == WHOLE else METHODS[method].level
            # Edges and nodes have the same situation.
            work = partial(_measure, cell, partial(once, level if level in INSIDE else "edges"), plan, made)
            of = {"transcoders": transcoders} if level == "features" else {}
            found.append((cell, keeper(cell, level, question | of, work)))
        for method in (each for each in plan.methods if each in EDGE_PEERS):
            cell = replace(blank, method=method, ablation=ablation)
            work = partial(lambda cell, once: measure_edge_peer(cell, model, once("edges"), plan.preset), cell, once)
            found.append((cell, keeper(cell, "edges", question, work)))
    for method in (each for each in plan.methods if each in GRAPH_METHODS or each in GRAPH_PEERS):
        cell = replace(blank, method=method)

        def trace(cell: Cell = cell) -> Result:
            if made is None:
                raise _Unfit(why)
            pairs = gather(model, [(f"test pair {at}", each) for at, each in enumerate(made.splits["test"], start=1)])
            measure = measure_graph_peer if cell.method in GRAPH_PEERS else measure_graphs
            return measure(cell, model, opened(), pairs, plan.preset)

        found.append((cell, keeper(cell, "graphs", question | {"transcoders": transcoders}, trace)))
    return found


class _Unfit(CircuitError, ValueError):
    """A task has nothing for a model, or the model does not do it."""


def _measure(cell: Cell, situated: Callable[[], Situation], plan: Plan, made: Made | None) -> Result:
    situation = situated()
    if cell.method == WHOLE and made is not None:
        return Result(list(_rows_of_model(cell, situation, plan, made)))
    if situation.unfit:
        raise _Unfit(situation.unfit)
    return measure_cell(cell, situation, plan.preset)


def _rows_of_model(cell: Cell, situation: Situation, plan: Plan, made: Made) -> Iterator[Row]:
    """What the model does on a task, and where all is ablated."""
    empty = row_of(cell, "", says=situation.unfit or made.note)
    for split in MEASURED:
        ends = situation.ends[split]
        weights = draw_weights(len(ends.clean), draws=plan.preset.draws)
        for metric, of in (("clean", ends.clean), ("ablated", ends.ablated), ("accuracy", ends.right.astype(float))):
            value, low, high = interval(weights @ of)
            yield replace(
                empty, split=split, metric=metric, value=value, low=low, high=high, count=float(len(ends.clean))
            )
    yield replace(empty, split="all", metric="share lost", value=made.lost, says=made.note)


def _digest(made: Made | None) -> str:
    told = json.dumps(None if made is None else made.splits, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
