"""One graph's assay, from registration to verdicts."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from circuits.assaying import thresholds
from circuits.assaying.bench import Bench, strongest_units
from circuits.assaying.between import summarise_between
from circuits.assaying.examples import summarise_examples
from circuits.assaying.groups import leave_untested
from circuits.assaying.ladder import EXPERIMENTS, OF_GROUPS, OF_WORDINGS, QUICK
from circuits.assaying.metric import Metric, choose_metric, why_untestable
from circuits.assaying.rebuilding import missed_share
from circuits.assaying.registration import register
from circuits.assaying.resuming import Unfinished
from circuits.assaying.single import summarise, summarise_doses
from circuits.assaying.stability import summarise_stability
from circuits.assaying.steps import summarise_steps
from circuits.assaying.verdicts import judge
from circuits.errors import BadOption, BadPrompt, WrongGraph
from circuits.model import Model
from circuits.progress import Progress
from circuits.tracing import trace
from circuits.transcoders.base import Dictionary
from graphs.assays import STAGES, Assay
from graphs.graph import AttributionGraph
from graphs.grouping import find_groups

UNREPLACED = (
    "groups",
    "steps",
    "between",
    "disturbances",
)  # experiments that follow a change through the model's own attention


class OutOfTime(Exception):
    """An experiment is given up: the budget is spent."""


@torch.no_grad()
def assay(
    model: Model,
    transcoders: Dictionary,
    graph: AttributionGraph,
    *,
    deep: bool = False,
    experiments: Sequence[str] | None = None,
    top: int | None = None,
    controls: int | None = None,
    seed: int = 0,
    paraphrases: Sequence[str | Sequence[int]] = (),
    groups: Mapping[str, Sequence[int | str]] | None = None,
    budget: float = math.inf,
    unfinished: Path | None = None,
    progress: Progress | None = None,
) -> Assay:
    """Test a graph in the real model: its nodes one by one, then all of it at once, against random sets.

    Everything that could be chosen (metric, nodes, ablations, window, controls, thresholds, seed) is registered and
    hashed before the first experiment. The result says nothing about other prompts.

    graph: made by `attribute` with this model and these transcoders, usually pruned.
    deep: run every experiment of the ladder, over all features and errors, not only what every trace gets.
    experiments: of the ladder's, only these, in its order.
    top: how many of the most influential units are ablated alone; by default 50, or when deep all, errors too.
    controls: how many random sets; by default 20, or when deep 100.
    paraphrases: the same question in other words; with any, their graphs are compared with this one.
    groups: hypotheses: name -> nodes, as `graphs.group` takes them. Each is ablated as one, against random groups.
    budget: seconds after which no more is begun; what is left is named as untested.
    unfinished: a file that keeps each finished experiment: given again, with the same registration, they are not run
        again.
    progress: called with (what is being done, runs done, runs in all).

    Raises:
        WrongGraph: the graph was made with other weights. BadOption: a number out of range, or a group without a name,
            without nodes, or with some that are not in the graph or in another group too.
        BadPrompt: a paraphrase that is no prompt, or the graph's own.
    """
    controls = (thresholds.MANY if deep else thresholds.CONTROLS) if controls is None else controls
    _check_numbers(top, controls, seed, budget)
    _check_origin(model, transcoders, graph)
    began = time.perf_counter()
    reworded = _tokenize(model, graph, paraphrases)
    named = _find_groups(graph, groups)
    names = _choose_experiments(experiments, deep, bool(reworded), bool(named))
    plan = {"experiments": names, "controls": controls, "seed": seed, "paraphrases": reworded, "groups": named}
    run = trace(model, transcoders, graph.token_ids)
    why = why_untestable(graph)
    if why:
        registration = register(model, transcoders, graph, why, np.empty(0, dtype=np.int64), **plan)
        return _leave_untested(graph, registration, names, named, why, missed_share(transcoders, run))
    metric = choose_metric(model, transcoders, graph, run)
    ablated = _choose_ablated(graph, metric, deep, top)
    registration = register(model, transcoders, graph, metric, ablated, **plan)
    bench = Bench(
        model,
        transcoders,
        run,
        graph,
        metric,
        ablated,
        controls,
        seed,
        _until(began + budget, progress),
        reworded,
        named,
    )
    seconds = {"trace": time.perf_counter() - began}
    found, skipped, spent = _experiment(bench, names, Unfinished(unfinished, registration["hash"]), budget)
    statistics = _summarise(bench, found)
    records: dict[str, Any] = {name: found.get(name, []) for name in EXPERIMENTS}
    if "groups" in skipped:
        records["groups"] = [leave_untested(name, rows, skipped["groups"]) for name, rows in named.items()]
    conservation = float(graph.provenance.get("conservation", float("nan")))
    return Assay(
        registration=registration,
        conservation=conservation,
        statistics=statistics,
        verdicts=judge(names, conservation, records, statistics, skipped, metric.moved_by),
        seconds=seconds | spent,
        skipped=skipped,
        **records,
    )


def _check_numbers(top: int | None, controls: int, seed: int, budget: float) -> None:
    """Raises BadOption: see `assay`."""
    if (top is not None and top < 1) or controls < 1:
        raise BadOption(f"top and controls must be at least 1, found {top} and {controls}.")
    if not 0 <= seed < 2**63:
        raise BadOption(f"the seed must be 0 or more and below 2**63, found {seed}.")
    if not budget > 0:
        raise BadOption(f"the budget must be more than 0 seconds, found {budget}.")


def _experiment(
    bench: Bench, names: Sequence[str], kept: Unfinished, budget: float
) -> tuple[dict[str, list[Any]], dict[str, str], dict[str, float]]:
    """What each experiment left, why others were not run, and the seconds each took. kept: those that are finished."""
    found: dict[str, list[Any]] = {}
    skipped: dict[str, str] = {}
    seconds: dict[str, float] = {}
    for name in names:
        if name in UNREPLACED and bench.run.attended:
            skipped[name] = "not run where attention is replaced"
            continue
        known = kept.find(name)
        started = time.perf_counter()
        try:
            if known is None:
                bench.progress(STAGES[name], 0, 1)
            found[name] = known[0] if known else EXPERIMENTS[name].run(bench)
        except OutOfTime:
            skipped[name] = f"not run within the budget of {budget:g} s"
            continue
        seconds[name] = known[1] if known else time.perf_counter() - started
        if known is None:
            kept.keep(name, found[name], seconds[name])
    return found, skipped, seconds


def _summarise(bench: Bench, found: Mapping[str, list[Any]]) -> dict[str, float]:
    """The figures that verdicts are about. found: what each experiment left."""
    clean, seed = bench.metric.clean, bench.seed
    statistics = summarise(found.get("ablations", []), clean, seed)
    statistics["missed"] = missed_share(bench.transcoders, bench.run)
    if "doses" in found:
        statistics |= summarise_doses(found.get("ablations", []), found["doses"], clean)
    statistics |= summarise_stability(bench.graph, found.get("prunings", []), found.get("rewordings", []))
    statistics |= summarise_examples(found.get("examples", []), seed)
    if found.get("steps"):
        statistics |= summarise_steps(found["steps"][0])
    if found.get("between"):
        statistics |= summarise_between(found["between"][0], seed)
    return statistics


def _leave_untested(
    graph: AttributionGraph,
    registration: dict[str, Any],
    names: Sequence[str],
    named: Mapping[str, Sequence[int]],
    why: str,
    missed: float,
) -> Assay:
    """The assay of a graph whose goal cannot be measured: its errors and its edges' law, all other claims untested."""
    conservation = float(graph.provenance.get("conservation", float("nan")))
    skipped = dict.fromkeys(names, why)
    records: dict[str, Any] = {name: [] for name in EXPERIMENTS}
    records["groups"] = [leave_untested(name, rows, why) for name, rows in named.items()]
    statistics = summarise([], math.nan, int(registration["seed"])) | {"missed": missed}
    return Assay(
        registration=registration,
        conservation=conservation,
        statistics=statistics,
        verdicts=judge(names, conservation, records, statistics, skipped),
        skipped=skipped,
        **records,
    )


def _tokenize(model: Model, graph: AttributionGraph, paraphrases: Sequence[str | Sequence[int]]) -> list[list[int]]:
    found = [model.tokenize(each).tolist() for each in paraphrases]
    same = [text for text, ids in zip(paraphrases, found, strict=True) if tuple(ids) == graph.token_ids]
    if same:
        raise BadPrompt(f"the paraphrase {str(same[0])!r} is the graph's own prompt: give other words.")
    return found


def _find_groups(graph: AttributionGraph, groups: Mapping[str, Sequence[int | str]] | None) -> dict[str, list[int]]:
    """The rows of each group.

    Raises:
        BadOption: see `assay`.
    """
    if groups is None:
        return {}
    if not groups:
        raise BadOption('there are no groups to test: name some, as {"texas": ["L1/544@3", …], …}.')
    for name, nodes in groups.items():
        if not name.strip():
            raise BadOption(f"a group wants a name to be called by, found {name!r} for {list(nodes)[:4]}.")
        if not len(nodes):
            raise BadOption(f"group {name!r} has no nodes: name some, or leave it out.")
    return find_groups(graph, groups)


def _choose_experiments(wanted: Sequence[str] | None, deep: bool, reworded: bool, grouped: bool) -> tuple[str, ...]:
    names = (*(tuple(EXPERIMENTS) if deep else QUICK), *OF_WORDINGS, *OF_GROUPS) if wanted is None else tuple(wanted)
    strange = [name for name in names if name not in EXPERIMENTS]
    if strange:
        raise BadOption(f"there is no experiment {strange[0]!r}; there are {', '.join(EXPERIMENTS)}.")
    left_out = {*(() if reworded else OF_WORDINGS), *(() if grouped else OF_GROUPS)}
    return tuple(name for name in EXPERIMENTS if name in names and name not in left_out)


def _choose_ablated(graph: AttributionGraph, metric: Metric, deep: bool, top: int | None) -> np.ndarray:
    """Rows of the nodes that are ablated one by one."""
    units = strongest_units(graph, metric.rows)
    if deep and top is None:
        return np.concatenate([units, graph.nodes.where("error")])
    return units[: thresholds.TOP if top is None else top]


def _until(end: float, progress: Progress | None) -> Progress:
    """Passes reports on as long as there is time."""

    def report(what: str, done: int, total: int) -> None:
        if progress is not None:
            progress(what, done, total)
        if time.perf_counter() > end and done < total:
            raise OutOfTime

    return report


def _check_origin(model: Model, transcoders: Dictionary, graph: AttributionGraph) -> None:
    for what, given in (("model", model), ("transcoders", transcoders)):
        name, made = graph.provenance.get(what, "unknown"), graph.provenance.get(f"{what}_hash", "no hash")
        if made != given.content_hash:
            raise WrongGraph(
                f"the graph was made with the {what} {name} ({made}), this is {given.name} ({given.content_hash}): "
                "load the same weights, or trace the prompt again."
            )
