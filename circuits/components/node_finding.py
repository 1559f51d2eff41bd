"""The front door of circuits of whole nodes: heads, MLPs, their parts, neurons or features; a kept one stays live."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from circuits.attribution import PART_METHODS
from circuits.components import verification
from circuits.components.metrics import Metric
from circuits.components.node_edges import score_node_edges
from circuits.components.node_graphs import graph_of_nodes, name_of
from circuits.components.node_runs import run_nodes
from circuits.components.pairs import Pairs
from circuits.components.parts import Parts, parts_of
from circuits.components.searching import (
    Found,
    begin_search,
    check_alike,
    check_choice,
    check_count,
    measure,
    options_of,
    provenance_of,
    score_pairs,
)
from circuits.components.taking_apart import check_separable, take_apart
from circuits.components.transformer import Transformer
from circuits.errors import BadOption
from circuits.model import Model
from circuits.progress import Progress
from circuits.transcoders.base import Dictionary


def find_nodes(
    model: Model,
    pairs: Sequence[Pairs],
    *,
    method: str = "atp",
    metric: str | Metric = "logit-difference",
    ablation: str = "resample",
    nodes: int = 30,
    signed: bool = False,
    apart: bool = False,
    neurons: bool = False,
    transcoders: Dictionary | None = None,
    max_features: int | None = None,
    positions: bool = False,
    verify: int | None = None,
    batch: int | None = None,
    memory: float | None = None,
    unfinished: Path | None = None,
    progress: Progress = lambda name, done, total: None,
    **options: Any,
) -> Found:
    """The circuit of the tokens and the `nodes` strongest nodes.

    method: one of `circuits.attribution.PART_METHODS`. apart: queries, keys and values of heads are nodes too.
    neurons: those of an MLP are nodes in its place. transcoders: features of a per-layer set are, those that are active
    on some prompt, and an error for what they miss; the MLP itself stays the model's own. max_features: so many of them
    at most, those that write most differently on the two prompts; the others count as error. positions: a node is a
    part at one position. verify: so many of
    the strongest are patched for real, and the circuit is chosen from these by what that gives; what was estimated, and
    how much a node beyond them may do, is in the provenance. options: the method's own, steps of "conductance". The
    others are those of `circuits.components.finding.find`.

    The graph has every edge between the kept nodes, scored as by "eap-ig": see `score_node_edges`.

    Raises:
        BadOption: an option makes no sense, the metric is no number, or prompts that are to be compared position by
            position are not equally long.
        UnfaithfulModel: the model has a part that is not known here.
        UnfitTranscoders: features of the set are parts of no one MLP, see `check_separable`.
    """
    check_choice("method", method, PART_METHODS)
    check_count("nodes", nodes)
    if verify is not None:
        check_count("verify", verify)
        if method == "exact-nodes":
            raise BadOption("exact-nodes patches every node for real: nothing is left to verify.")
        if verify < nodes:
            raise BadOption(f"the {nodes} nodes are chosen from those verified: verify {nodes} or more, not {verify}.")
    if positions:
        check_alike(pairs)
    _check_features(transcoders, max_features, neurons=neurons)
    asked = {"metric": metric, "ablation": ablation, "batch": batch, "memory": memory, "progress": progress}
    units: dict[str, Any] = {"apart": apart, "neurons": neurons or transcoders is not None}

    def with_features(transformer: Transformer, batches: Iterable[Pairs]) -> Transformer:
        return transformer if transcoders is None else take_apart(transformer, transcoders, batches, max_features)

    search = begin_search(model, pairs, laid_open=with_features, **units, **asked)
    parts = parts_of(search.transformer, dictionary="" if transcoders is None else transcoders.content_hash, **units)
    score = PART_METHODS[method]
    mean = score_pairs(search, method, score, options, parts, unfinished=unfinished, positions=positions)
    among, verified = None, {}
    if verify is not None:
        among, estimates = strongest_nodes(mean, verify, signed=signed), mean
        exact = verification.verify(search, parts, estimates, among, unfinished=unfinished)
        mean = exact.scores
        verified = {"verified": _told(parts, estimates, among, exact.missed)}
    chosen = strongest_nodes(mean, nodes, signed=signed, among=among)
    kept = torch.from_numpy(chosen).to(model.device)
    transformer = search.transformer
    edges = score_pairs(search, "edges", score_node_edges, {}, parts, kept, doing="scoring edges")
    ends = measure(search, lambda embedding, other: run_nodes(transformer, embedding, other, parts, kept))
    level = {"nodes": nodes, "signed": signed, "apart": apart, "neurons": neurons, "positions": positions}
    made = provenance_of(search, method, level | options_of(score, options, ("positions",)), ends) | verified
    notes = {}
    if transcoders is not None:
        notes, made["options"]["max_features"] = transcoders.notes, max_features
        made |= {"transcoders": transcoders.name, "transcoders_hash": transcoders.content_hash}
    graph = graph_of_nodes(model, transformer, parts, mean, chosen, edges, pairs[0], made, notes)
    return Found(graph, parts, mean, chosen, *ends)


def strongest_nodes(
    scores: Float[np.ndarray, "node *position"],
    count: int,
    *,
    signed: bool = False,
    among: Bool[np.ndarray, "node *position"] | None = None,
) -> Bool[np.ndarray, "node *position"]:
    """The `count` nodes of the largest size, or value, and the tokens, which are the first row. among: of these."""
    rank = np.where(True if among is None else among, scores if signed else np.abs(scores), -np.inf)
    rank[0] = -np.inf
    order = np.argsort(-rank, axis=None, kind="stable")[: min(count, int(np.isfinite(rank).sum()))]
    chosen = np.zeros(scores.shape, dtype=bool)
    chosen.flat[order] = True
    chosen[0] = True
    return chosen


def _check_features(transcoders: Dictionary | None, max_features: int | None, *, neurons: bool) -> None:
    """Raises BadOption or UnfitTranscoders where features cannot be nodes."""
    if max_features is not None:
        check_count("max_features", max_features)
        if transcoders is None:
            raise BadOption("max_features says how many features may be nodes: give the transcoders whose they are.")
    if transcoders is None:
        return
    check_separable(transcoders)
    if neurons:
        raise BadOption(f"neurons and features are asked: {transcoders.name}+neurons has both, each in its own layers.")


def _told(
    parts: Parts,
    estimates: Float[np.ndarray, "node *position"],
    which: Bool[np.ndarray, "node *position"],
    missed: float,
) -> dict[str, Any]:
    """What a graph says of its verification."""
    names = {name_of(parts, tuple(at)): float(estimates[tuple(at)]) for at in np.argwhere(which).tolist()}
    told = {"missed": missed, "subsets": verification.SUBSETS, "confidence": verification.CONFIDENCE}
    return {"nodes": int(which[1:].sum()), "estimates": names, **told}
