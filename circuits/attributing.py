"""The front door of attribution: a model, a dictionary and a prompt in, a graph that says where it came from out."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import torch

from circuits.attribution import METHODS
from circuits.errors import BadOption
from circuits.expansion import ROUND
from circuits.model import Model
from circuits.numbers import is_number, is_whole
from circuits.progress import Count
from circuits.targets import Target
from circuits.tracing import check_given
from circuits.transcoders.base import Dictionary
from graphs.graph import AttributionGraph


def attribute(
    model: Model,
    transcoders: Dictionary,
    prompt: str | Sequence[int],
    targets: Sequence[Target] | None = None,
    *,
    max_logits: int = 10,
    logit_mass: float = 0.95,
    max_features: int | None = None,
    min_influence: float | None = None,
    round_size: int = ROUND,
    method: str = "direct",
    progress: Count | None = None,
) -> AttributionGraph:
    """The whole causal graph of one prompt; `prune` makes it small.

    prompt: text, or token ids. targets: None for the likeliest tokens (`logit_mass` of the probability, `max_logits` at
    most), else tokens, pairs (right, wrong), or values of `circuits.targets`: features, errors, directions, spans.
    max_features: trace at most so many features, sum up the others. min_influence: instead, trace the features that
    carry at least this share of the goal. In both cases `provenance["expansion"]` bounds what was left. round_size:
    under `max_features`, how many are traced before the most influential ones are looked for anew.
    method: one of `circuits.attribution.METHODS`. progress: called with (targets done, in all).

    Raises:
        CircuitError: prompt, target or option make no sense, or the graph would be wrong; the message says which.
    """
    if method not in tuple(METHODS):
        raise BadOption(f"method must be one of {', '.join(METHODS)}, found {method!r}.")
    check_given(model, transcoders)
    if max_features is not None and not is_whole(max_features):
        raise BadOption(f"max_features must be a whole number or None, found {max_features!r}.")
    if not is_whole(round_size):
        raise BadOption(f"round_size must be a whole number, found {round_size!r}.")
    if min_influence is not None and not is_number(min_influence):
        raise BadOption(f"min_influence must be a share or None, found {min_influence!r}.")
    options = {
        "max_logits": max_logits,
        "logit_mass": logit_mass,
        "max_features": max_features,
        "min_influence": min_influence,
        "round_size": round_size,
    }
    graph = METHODS[method](model, transcoders, prompt, targets, **options, progress=progress)
    names = {graph.nodes.unit(row) for row in graph.nodes.where("feature", "attention").tolist()}
    return replace(
        graph,
        provenance={
            "model": model.name,
            "model_hash": model.content_hash,
            "transcoders": transcoders.name,
            "transcoders_hash": transcoders.content_hash,
            "method": method,
            "options": {**options, "targets": None if targets is None else [_plain(each) for each in targets]},
            "prompt": prompt if isinstance(prompt, str) else [int(i) for i in prompt],
            "versions": versions(),
            **graph.provenance,
            "feature_notes": {name: transcoders.notes[name] for name in sorted(names & transcoders.notes.keys())},
        },
    )


def _plain(target: Target) -> object:
    if isinstance(target, tuple):
        return list(target)
    return target if isinstance(target, str | int) else str(target)


def versions() -> dict[str, str]:
    """What the graph was made with: Python and the libraries that computed it."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("circuit-assay", "transformer-lens", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
