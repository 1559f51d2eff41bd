"""The real model behind a page: what it says when some nodes of a stored graph are taken away or set."""

from __future__ import annotations

import gc
import json
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import torch

from circuits.assaying.metric import Metric, choose_metric, why_untestable
from circuits.attention import can_be_split, strongest_heads
from circuits.attribution.direct import UNITS
from circuits.changes import Change, Patch, to_record
from circuits.errors import BadIntervention, CircuitError, NoRoom, WrongGraph
from circuits.hub.cached import cached_models, cached_sets
from circuits.hub.published import shipped_models, shipped_transcoders
from circuits.interventions import ATTENTION, change_node, intervene
from circuits.model import Model, load_model
from circuits.numbers import is_number, is_whole
from circuits.tracing import Trace, trace
from circuits.transcoders.base import Dictionary
from circuits.transcoders.naming import read_name, split_names
from graphs.errors import GraphError
from graphs.flow import flow
from graphs.graph import AttributionGraph
from graphs.store import Store

TRIALS = "trials"  # beside the graph: what was asked of its page, and what the model answered, a file each
TRIALS_ONCE = "trials.json"  # all of them in one file, as the program kept them at first
SHOWN = 5  # next tokens
MOST_CHANGES = 500
MOST_TRIALS = 1000  # kept with a graph, the latest
MOST_SPLIT = 200  # inputs of a node
GRAPHS = 8  # whose clean runs are kept
MODELS = 2  # kept loaded, with their transcoders: each may fill much of the memory
# What a page reads of a trial.
FIELDS = {"changes": list, "nodes": list, "before": list, "after": list, "attention": str, "seconds": float | int}

Found = TypeVar("Found")
Names = tuple[str, str, str]  # of model and transcoders, dtype
Load = Callable[[str, str, str], tuple[Model, Dictionary]]  # by these


@dataclass(frozen=True, eq=False)
class Opened:
    """A graph and the clean run of its prompt. metric: what it explains; None where that cannot be measured."""

    graph: AttributionGraph
    model: Model
    transcoders: Dictionary
    run: Trace
    metric: Metric | None


class Lab:
    """Graphs of one store, opened with their models when they are first asked about. Answers one question at a time.

    load: the model and the transcoders by the names and the dtype that a graph's provenance gives.
    """

    def __init__(self, store: Store, load: Load) -> None:
        self.store = store
        self._load = load
        self._models: OrderedDict[Names, tuple[Model, Dictionary]] = OrderedDict()
        self._opened: OrderedDict[tuple[str, str], tuple[Names, Opened]] = OrderedDict()
        self._lock = Lock()

    def ask(self, id: str, asked: Any) -> dict[str, Any]:
        """Change some nodes, run the model, keep the answer with the graph. See `try_out`.

        Raises:
            BadIntervention: the question is none. WrongGraph: the graph's model cannot be asked.
            UnknownGraph, ForeignFolder: as `Store.load`. CannotWrite: the answer could not be kept.
            NoRoom: the memory does not suffice.
        """
        with self._lock:
            trial = self._answer(id, lambda opened: try_out(opened, asked))
        self.store.add(id, TRIALS, json.dumps(trial).encode(), most=MOST_TRIALS)
        return trial

    def heads(self, id: str, row: int) -> list[dict[str, Any]]:
        """Through which heads a node's inputs came: [{"source", "heads": [[layer, head, load], ...]}, ...].

        Raises:
            WrongGraph, BadOption: it cannot be said of this graph. IndexError: there is no such node.
            NoRoom: the memory does not suffice.
        """
        with self._lock:
            return self._answer(id, lambda opened: split_inputs(opened, row))

    def prepare(self, id: str) -> None:
        """Open a graph before anything is asked of it, unless another is being opened or asked about.

        Nothing is fetched for it: who only looks has not asked for that. What cannot be opened is told when asked.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            with suppress(CircuitError, GraphError, OSError, MemoryError, RuntimeError):
                if is_here(*names_in(self.store.load(id))[:2]):
                    self._open(id)
        finally:
            self._lock.release()

    def trials(self, id: str) -> list[dict[str, Any]]:
        """What was asked of a graph so far, first to last; what cannot be read is as if it were not there."""
        kept = self.store.added(id, TRIALS)
        with suppress(FileNotFoundError):
            kept = [(self.store.find(id) / TRIALS_ONCE).read_bytes(), *kept]
        found = [each for content in kept for each in _read_trials(content)]
        return found[-MOST_TRIALS:]

    def _answer(self, id: str, work: Callable[[Opened], Found]) -> Found:
        """What `work` finds of a graph. A model that was loaded before and is not the graph's is read again first."""
        loaded = set(self._models)
        try:
            return self._fit(id, work)
        except WrongGraph:
            names = names_in(self.store.load(id))
            if names not in loaded:
                raise
        self._forget(names)  # another may lie under its name by now
        return self._fit(id, work)

    def _fit(self, id: str, work: Callable[[Opened], Found], *, last: bool = False) -> Found:
        """The same; where the memory does not suffice, once more without the models of other graphs."""
        opened = None
        try:
            opened = self._open(id)
            return work(opened)
        except (MemoryError, RuntimeError) as reason:
            if not ran_out(reason):
                raise
            others = list(self._models)[: -1 if opened else None]
            if last or not others:
                raise NoRoom(
                    f"the memory does not suffice: {str(reason).split('. ')[0] or 'all of it is taken'}. "
                    "End other programs that fill it, or serve with another --device or --dtype."
                ) from reason
        for names in others:  # by now, when the error holds nothing any more of what was begun
            self._forget(names)
        return self._fit(id, work, last=True)

    def _open(self, id: str) -> Opened:
        """A graph with the clean run of its prompt; its model is then the last of those that are kept."""
        key = (id, str(self.store.stamp(id)))  # the same id may be another graph by now
        if key not in self._opened:
            graph = self.store.load(id)
            names = names_in(graph)
            while names not in self._models and len(self._models) >= MODELS:
                self._forget(next(iter(self._models)))  # by now, so that there is room for the next
            if names not in self._models:
                self._models[names] = self._load(*names)
            self._opened[key] = names, open_graph(graph, *self._models[names])
        self._opened.move_to_end(key)
        while len(self._opened) > GRAPHS:
            self._opened.popitem(last=False)
        names, opened = self._opened[key]
        self._models.move_to_end(names)
        return opened

    def _forget(self, names: Names) -> None:
        """Let go of a model, and of the clean runs that were made with it."""
        del self._models[names]
        for key in [key for key, (used, _) in self._opened.items() if used == names]:
            del self._opened[key]
        gc.collect()  # a model's hooks know the model, so it does not go by itself


def ran_out(reason: Exception) -> bool:
    """Whether it was for want of memory: of a processor's torch says that in words alone."""
    return isinstance(reason, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(reason)


def split_inputs(opened: Opened, row: int) -> list[dict[str, Any]]:
    """See `Lab.heads`."""
    graph = opened.graph
    if not 0 <= row < len(graph.nodes):
        raise IndexError(f"the graph has nodes 0 to {len(graph.nodes) - 1}, found {row}")
    edges = can_be_split(graph)
    edges = edges[graph.target[edges] == row]
    edges = edges[np.argsort(-np.abs(graph.weight[edges]), kind="stable")][:MOST_SPLIT]
    found = strongest_heads(opened.run, opened.transcoders, graph, edges)
    sources = graph.source[edges].tolist()
    return [{"source": source, "heads": heads} for source, heads in zip(sources, found, strict=True)]


def _read_trials(content: bytes) -> list[dict[str, Any]]:
    """The trials in a file: one, or a list of them."""
    try:
        found = json.loads(content, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return []
    return [each for each in (found if isinstance(found, list) else [found]) if _is_trial(each)]


def _is_trial(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in FIELDS.items())


def names_in(graph: AttributionGraph) -> Names:
    """Model, transcoders and dtype that a traced graph was made with.

    Raises:
        WrongGraph: it does not say, does not say of which weights, or is a circuit over pairs of prompts.
    """
    made = graph.provenance
    if "circuit" in made:
        raise WrongGraph(
            "this graph is a circuit that `circuits find` found over pairs of prompts: the model can be asked about "
            "one prompt, in a graph that `circuits trace` made."
        )
    model, transcoders = (str(made.get(what) or "") for what in ("model", "transcoders"))
    if not (model and transcoders):
        raise WrongGraph("the graph does not say with which model and transcoders it was made.")
    if not (made.get("model_hash") and made.get("transcoders_hash")):
        raise WrongGraph(
            f"the graph names {model} and {transcoders}, but not by their weights, like every graph that another "
            "program made: trace its prompt here to ask the model."
        )
    return model, transcoders, str(made.get("dtype") or "float32")


def is_here(model: str, transcoders: str) -> bool:
    """Whether both are on this machine, whole, so that nothing need be fetched."""
    sets = [read_name(each).plain for each in split_names(transcoders)]
    here = {*shipped_models(), *shipped_transcoders(), *(each.name for each in cached_models() if each.whole)}
    here |= {each.name for each in cached_sets() if each.whole}
    return all(
        each.partition("@")[0] in here or each.partition("/")[0] == "neurons" or os.path.isdir(each)
        for each in (model, *sets)
    )


def open_graph(graph: AttributionGraph, model: Model, transcoders: Dictionary) -> Opened:
    """A graph with the clean run of its prompt.

    Raises:
        WrongGraph: it was made with another model, or other transcoders.
    """
    for what, given in (("model", model), ("transcoders", transcoders)):
        if graph.provenance.get(f"{what}_hash") != given.content_hash:
            raise WrongGraph(f"the graph was made with another {what} than {given.name} as it is here.")
    run = trace(model, transcoders, list(graph.token_ids))
    metric = None if why_untestable(graph) else choose_metric(model, transcoders, graph, run)
    return Opened(graph, model, transcoders, run, metric)


def answering(model: Model, transcoders: Dictionary, graph: AttributionGraph) -> Callable[[Any], dict[str, Any]]:
    """What `graph.widget(answer=…)` takes: from a question to the real model's answer. Raises as `open_graph` does."""
    return partial(try_out, open_graph(graph, model, transcoders))


def try_out(opened: Opened, asked: Any) -> dict[str, Any]:
    """Change some nodes and run the model.

    asked: {"changes": [{"node": row, "factor": x} or {"node": row, "value": x}, ...], "attention": "live"}.
    The answer: `before` and `after` [{"token", "probability"}], the explained value `clean` and `changed`, what the
    graph `predicted` of that change (None where it cannot), `seconds`.

    Raises:
        BadIntervention: the question is none, or the answer no number.
    """
    begun = time.perf_counter()
    chosen, rows, attention = read_question(opened.graph, asked)
    found = {**measure(opened, chosen, attention), "predicted": predict(opened, rows)}
    numbers = [each["probability"] for name in ("before", "after") for each in found[name]]
    numbers += [found[name] for name in ("clean", "changed", "predicted") if found[name] is not None]
    if not all(map(math.isfinite, numbers)):
        raise BadIntervention("so large a change makes the model's answer no number: take a smaller one.")
    return {
        "changes": [to_record(each) for each in chosen],
        "nodes": [row for row, _ in rows],
        "attention": attention,
        **found,
        "seconds": round(time.perf_counter() - begun, 3),
    }


def read_question(graph: AttributionGraph, asked: Any) -> tuple[list[Change], list[tuple[int, float | None]], str]:
    """The changes that are asked for, the rows with their factors (None: set to a value), and the way of attention.

    Raises:
        BadIntervention: the question is none.
    """
    if not isinstance(asked, Mapping) or not isinstance(asked.get("changes"), list) or not asked["changes"]:
        raise BadIntervention('wanted {"changes": [{"node": 12, "factor": 0}, …]}, found something else.')
    if len(asked["changes"]) > MOST_CHANGES:
        raise BadIntervention(f"at most {MOST_CHANGES} nodes are changed at once, found {len(asked['changes'])}.")
    attention = asked.get("attention", ATTENTION[0])
    if attention not in ATTENTION:
        raise BadIntervention(f"attention is {' or '.join(ATTENTION)}, found {attention!r:.40}.")
    chosen: list[Change] = []
    rows: list[tuple[int, float | None]] = []
    for each in asked["changes"]:
        if not isinstance(each, Mapping) or not is_whole(each.get("node")):
            raise BadIntervention(f"each change names a node by its row, found {each!r:.60}.")
        row, factor, value = each["node"], each.get("factor", 0.0), each.get("value")
        if not 0 <= row < len(graph.nodes):
            raise BadIntervention(f"the graph has nodes 0 to {len(graph.nodes) - 1}, found {row!r:.40}.")
        if not is_finite(factor) or not (value is None or is_finite(value)):
            raise BadIntervention(f"a factor or value must be a number, found {each!r:.60}.")
        chosen.append(_change(graph, row, float(factor), None if value is None else float(value)))
        rows.append((row, float(factor) if value is None else None))
    return chosen, rows, attention


def is_finite(value: Any) -> bool:
    """A number that a computer's can be: not nan, not infinite, not of 400 digits."""
    try:
        return is_number(value) and math.isfinite(value)
    except OverflowError:
        return False


def _change(graph: AttributionGraph, row: int, factor: float, value: float | None) -> Change:
    kind = graph.nodes.kind[row]
    if kind == "token" and value is None:
        return Patch("input", int(graph.nodes.position[row]), factor)
    if kind not in (*UNITS, "error") or (value is not None and kind == "error"):
        raise BadIntervention(
            f"{graph.nodes.label[row]!r:.60} is a {kind}: features, neurons, errors, tokens are changed."
        )
    change = change_node(graph.nodes, row, factor)
    return change if value is None else replace(change, value=value)


def measure(opened: Opened, chosen: Sequence[Change], attention: str) -> dict[str, Any]:
    """The likeliest next tokens before and after, and the explained value of both runs."""
    model, run = opened.model, opened.run
    after = intervene(model, opened.transcoders, run, [chosen], attention=attention)[0]
    found: dict[str, Any] = {}
    for name, logits in (("before", run.logits[-1]), ("after", after[-1])):
        best = model.probabilities(logits).topk(min(SHOWN, model.vocabulary))
        texts = model.texts(best.indices.tolist())
        found[name] = [{"token": text, "probability": p} for text, p in zip(texts, best.values.tolist(), strict=True)]
    metric = opened.metric
    found["clean"] = found["changed"] = None
    if metric is not None:
        read = after
        if metric.site != ("logits", 0):
            read = intervene(model, opened.transcoders, run, [chosen], attention=attention, read=metric.site)[0]
        found |= {"clean": metric.clean, "changed": float(metric.explained(read[None])[0])}
    return found


def predict(opened: Opened, rows: Sequence[tuple[int, float | None]]) -> float | None:
    """What the graph says the explained value changes by: the nodes' signed flow, each by its factor.

    None where values are set, or several nodes are changed, whose paths may run through each other.
    """
    if opened.metric is None or len(rows) != 1 or rows[0][1] is None:
        return None
    row, factor = rows[0]
    assert factor is not None
    return (factor - 1) * float(flow(opened.graph, opened.metric.worth.copy())[row])


def load_by_name(model: str | None, transcoders: str | None, *, dtype: str | None, device: str, force: bool) -> Load:
    """A loader of what models are called; what is given here goes before what a graph says."""

    def load(named: str, set_named: str, made_in: str) -> tuple[Model, Dictionary]:
        from circuits.transcoders.loading import load_transcoders

        found = load_model(model or named, device=device, dtype=dtype or made_in)
        return found, load_transcoders(transcoders or set_named, found, force=force)

    return load
