"""One graph's assay, from registration to verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from circuits.assaying import thresholds
from circuits.assaying.metric import choose_metric
from circuits.assaying.registration import register
from circuits.assaying.sets import test_sets
from circuits.assaying.single import summarise, test_singly
from circuits.assaying.verdicts import judge
from circuits.errors import BadOption, WrongGraph
from circuits.model import Model
from circuits.tracing import trace
from circuits.transcoders.base import Dictionary
from graphs.assays import Assay
from graphs.graph import AttributionGraph

Progress = Callable[[str, int, int], None]


@torch.no_grad()
def assay(
    model: Model,
    transcoders: Dictionary,
    graph: AttributionGraph,
    *,
    top: int = thresholds.TOP,
    controls: int = thresholds.CONTROLS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Assay:
    """Test a graph in the real model: its strongest nodes one by one, then all of it at once, against random sets.

    Everything that could be chosen (metric, nodes, ablations, window, controls, thresholds, seed) is registered and
    hashed before the first experiment. The result says nothing about other prompts.

    graph: made by `attribute` with this model and these transcoders, usually pruned.
    top: how many of the most influential units are ablated alone. controls: how many random sets.
    progress: called with (what is being done, runs done, runs in all).

    Raises:
        WrongGraph: the graph was made with other weights.
    """
    if top < 1 or controls < 1:
        raise BadOption(f"top and controls must be at least 1, found {top} and {controls}.")
    if not 0 <= seed < 2**63:
        raise BadOption(f"the seed must be 0 or more and below 2**63, found {seed}.")
    _check_origin(model, transcoders, graph)
    began = time.perf_counter()
    run = trace(model, transcoders, graph.token_ids)
    metric = choose_metric(model, graph, run.logits[-1])
    units = graph.nodes.where("feature", "neuron")
    strongest = units[np.argsort(-graph.nodes.influence[units], kind="stable")[:top]]
    registration = register(model, transcoders, graph, metric, strongest, controls=controls, seed=seed)
    seconds = {"trace": time.perf_counter() - began}

    ablations = _timed(
        seconds, "single", lambda: test_singly(model, transcoders, run, graph, metric, strongest, progress)
    )
    subsets = _timed(
        seconds, "sets", lambda: test_sets(model, transcoders, run, graph, metric, controls, seed, progress)
    )
    statistics = summarise(ablations, metric.clean, seed)
    conservation = float(graph.provenance.get("conservation", float("nan")))
    return Assay(
        registration=registration,
        conservation=conservation,
        ablations=ablations,
        statistics=statistics,
        subsets=subsets,
        verdicts=judge(conservation, ablations, statistics, subsets),
        seconds=seconds,
    )


def _timed(seconds: dict[str, float], stage: str, work: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    result = work()
    seconds[stage] = time.perf_counter() - began
    return result


def _check_origin(model: Model, transcoders: Dictionary, graph: AttributionGraph) -> None:
    for what, given in (("model", model), ("transcoders", transcoders)):
        name, made = graph.provenance.get(what, "unknown"), graph.provenance.get(f"{what}_hash", "no hash")
        if made != given.content_hash:
            raise WrongGraph(
                f"the graph was made with the {what} {name} ({made}), this is {given.name} ({given.content_hash}): "
                "load the same weights, or trace the prompt again."
            )
