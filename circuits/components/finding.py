"""The front door of component circuits: a model and pairs of prompts in, the edges that carry the answer out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from circuits.attribution import EDGE_METHODS, SEARCHES
from circuits.attribution.acdc import Standing
from circuits.components.batching import bytes_of_circuit
from circuits.components.circuit_graphs import graph_of_circuit
from circuits.components.circuit_runs import run_circuit
from circuits.components.components import connected, strongest
from circuits.components.edge_scores import components_of
from circuits.components.kept_scores import KeptScores
from circuits.components.metrics import Metric
from circuits.components.pairs import Pairs
from circuits.components.searching import (
    BATCH,
    Carry,
    Found,
    begin_search,
    check_alike,
    check_choice,
    check_count,
    kept_of,
    measure,
    options_of,
    provenance_of,
    score_pairs,
)
from circuits.components.transformer import Transformer
from circuits.errors import BadOption
from circuits.model import Model
from circuits.numbers import is_number
from circuits.progress import Progress

NUMBERS = 2**26  # in the inputs of a circuit's heads, laid out at once


def find(
    model: Model,
    pairs: Sequence[Pairs],
    *,
    method: str = "eap-ig",
    metric: str | Metric = "logit-difference",
    ablation: str = "resample",
    edges: int = 200,
    signed: bool = False,
    positions: bool = False,
    batch: int | None = None,
    memory: float | None = None,
    unfinished: Path | None = None,
    progress: Progress = lambda name, done, total: None,
    **options: Any,
) -> Found:
    """The circuit of the `edges` strongest edges, without those that lie on no path from the tokens to the logits.

    method: one of `circuits.attribution.EDGE_METHODS`. metric: one of METRICS (metrics.py), or a function like them.
    ablation: what cut edges carry, one of ABLATIONS (ablations.py). signed: strongest by value, not by size.
    positions: an edge is one at a single position, of methods that tell them apart. batch:
    pairs at a time; by default 32, or as many as `memory` bytes beside the model's weights hold. unfinished: a folder
    where the scores of finished batches are kept while the search is not over. options: the method's own: steps and
    begin of "eap-ig" and "eap-ig-activations", seed of "random".

    Raises:
        BadOption: an option makes no sense, the metric is no number, or prompts that are to be compared position by
            position are not equally long.
        UnfaithfulModel: the model has a part that is not known here.
    """
    check_choice("method", method, EDGE_METHODS)
    check_count("edges", edges)
    if positions:
        check_alike(pairs)
        options["positions"] = True
    search = begin_search(model, pairs, metric=metric, ablation=ablation, batch=batch, memory=memory, progress=progress)
    components = components_of(search.transformer)
    mean = score_pairs(search, method, EDGE_METHODS[method], options, unfinished=unfinished)
    chosen = strongest(components, mean, edges, signed=signed)
    ends = measure(search, carrying(search.transformer, chosen), at_once=_room(search.transformer, pairs, memory))
    options = options_of(EDGE_METHODS[method], options)
    made = provenance_of(search, method, {"edges": edges, "signed": signed, **options}, ends)
    graph = graph_of_circuit(model, components, mean, chosen, pairs[0], made)
    return Found(graph, components, mean, chosen, *ends)


def search_out(
    model: Model,
    pairs: Sequence[Pairs],
    *,
    method: str = "acdc",
    metric: str | Metric = "kl",
    ablation: str = "resample",
    threshold: float = 0.01,
    memory: float | None = None,
    unfinished: Path | None = None,
    progress: Progress = lambda name, done, total: None,
) -> Found:
    """The circuit that is left when edges are taken out one after another, all pairs being run together.

    method: one of `circuits.attribution.SEARCHES`. threshold: an edge stays if without it the metric's mean falls by
    so much or more. `Found.scores` is that fall when the edge's turn came. memory: bytes that it may take beside the
    model's weights. unfinished: a folder where it is kept, after every reader, how far the search is while it is not
    over. The others are those of `find`.

    Raises:
        BadOption: an option makes no sense, or the metric is no number.
        UnfaithfulModel: the model has a part that is not known here.
    """
    check_choice("method", method, SEARCHES)
    if not is_number(threshold) or not threshold > 0:
        raise BadOption(f"the threshold must be a number above 0, found {threshold!r}.")
    asked = {"metric": metric, "ablation": ablation, "batch": BATCH, "memory": memory}
    search = begin_search(model, pairs, **asked, progress=progress)
    components = components_of(search.transformer)
    kept = kept_of(search, method, {"threshold": float(threshold)}, unfinished)
    left = SEARCHES[method](
        search.transformer,
        pairs,
        search.metric,
        threshold=float(threshold),
        ablation=search.ablate,
        memory=memory,
        begin=_where_it_stood(kept),
        keep=lambda standing: kept.keep(standing.readers, **vars(standing)),
        progress=lambda done, total: progress("taking edges out", done, total),
    )
    kept.forget()
    chosen = connected(components, left.chosen)
    ends = measure(search, carrying(search.transformer, chosen), at_once=_room(search.transformer, pairs, memory))
    made = provenance_of(search, method, {"threshold": float(threshold)}, ends)
    graph = graph_of_circuit(model, components, left.rise, chosen, pairs[0], made)
    return Found(graph, components, left.rise, chosen, *ends)


def carrying(transformer: Transformer, chosen: Bool[np.ndarray, "source reader *position"]) -> Carry:
    """The run of a circuit: all edges but the chosen are cut."""
    cut = torch.from_numpy(~chosen).to(transformer.W_U)
    return lambda embedding, other: run_circuit(transformer, embedding, other, cut)


def _where_it_stood(kept: KeptScores) -> Standing | None:
    """How far an interrupted search was; None where there was none."""
    found = kept.read("cut", "rise", "now", "tried", "speed")
    if found is None:
        return None
    readers, (cut, rise, now, tried, speed) = found
    return Standing(readers, cut, rise, float(now), int(tried), int(speed))


def _room(transformer: Transformer, pairs: Sequence[Pairs], memory: float | None) -> int:
    """How many pairs the run of a circuit takes at once."""
    longest = max(each.clean.shape[1] for each in pairs)
    numbers = transformer.heads * longest * transformer.W_E.shape[1] * (len(transformer.layers) + 4)
    room = NUMBERS // numbers
    if memory is not None:
        room = min(room, int(memory // bytes_of_circuit(transformer, longest)[0]))
    return max(1, room)
