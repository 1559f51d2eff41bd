"""What is known of a feature as the record that circuit-tracer's page and Neuronpedia's read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

MARKS = str.maketrans({"\n": "⏎", "\t": "→", "\r": "↵"})  # as both pages show them


def feature_details(note: Mapping[str, Any], index: int) -> dict[str, Any]:
    """The record of one feature, as `feature-details-schema.json` has it and circuit-tracer more.

    note: what a graph's `feature_notes` say of it; what they leave out is left out, and no example is made up. They may
        be written by hand: what is not as `circuits.transcoders.notes` has it is left out too.
    index: the feature's number in its layer.

    Source: FORMATS 5.4.
    """
    examples = [found for each in _listed(note.get("examples")) if (found := _example(each))]
    record: dict[str, Any] = {
        "index": index,
        "examples_quantiles": [{"quantile_name": "Top activations", "examples": examples}] if examples else [],
        "top_logits": [_shown(token) for token in _listed(note.get("promotes"))],
        "bottom_logits": [_shown(token) for token in _listed(note.get("suppresses"))],
    }
    known = note.get("histogram")
    ends, counts = (_numbers(known.get(name) if isinstance(known, Mapping) else None) for name in ("edges", "counts"))
    if len(ends) == 2 and counts:
        record |= {"act_min": ends[0], "act_max": ends[1], "histogram": counts}
    elif most := _numbers([note.get("act_max")]):
        record |= {"act_min": 0.0, "act_max": most[0]}
    if often := _numbers([note.get("density")]):
        record["activation_frequency"] = often[0]
    return record


def _example(said: Any) -> dict[str, Any] | None:
    """A text in which it fires, of which every token has its activation; others are left out."""
    said = said if isinstance(said, Mapping) else {}
    tokens, strengths = _listed(said.get("tokens")), _numbers(said.get("activations"))
    if not tokens or len(tokens) != len(strengths):
        return None
    peak = said.get("peak")
    known = isinstance(peak, int) and 0 <= peak < len(tokens)
    return {
        "tokens": [_shown(token) for token in tokens],
        "tokens_acts_list": [float(value) for value in strengths],
        "train_token_ind": peak if known else strengths.index(max(strengths)),
        "is_repeated_datapoint": False,
    }


def _listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, Sequence) and not isinstance(found, str) else []


def _numbers(found: Any) -> list[float]:
    """The same where it is a list of finite numbers alone, else nothing."""
    listed = _listed(found)
    return listed if all(isinstance(each, int | float) and math.isfinite(each) for each in listed) else []


def _shown(token: Any) -> str:
    return str(token).translate(MARKS)
