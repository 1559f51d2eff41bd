"""What is known of a feature as the record that circuit-tracer's page and Neuronpedia's read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MARKS = str.maketrans({"\n": "⏎", "\t": "→", "\r": "↵"})  # as both pages show them


def feature_details(note: Mapping[str, Any], index: int) -> dict[str, Any]:
    """The record of one feature, as `feature-details-schema.json` has it and circuit-tracer more.

    note: what a graph's `feature_notes` say of it; what they leave out is left out, and no example is made up.
    index: the feature's number in its layer.

    Source: FORMATS 5.4.
    """
    examples = [
        {
            "tokens": [_shown(token) for token in each["tokens"]],
            "tokens_acts_list": [float(value) for value in each["activations"]],
            "train_token_ind": int(each["peak"]),
            "is_repeated_datapoint": False,
        }
        for each in note.get("examples") or []
    ]
    record: dict[str, Any] = {
        "index": index,
        "examples_quantiles": [{"quantile_name": "Top activations", "examples": examples}] if examples else [],
        "top_logits": [_shown(token) for token in note.get("promotes") or []],
        "bottom_logits": [_shown(token) for token in note.get("suppresses") or []],
    }
    known = note.get("histogram") or {}
    if known:
        low, high = known["edges"]
        record |= {"act_min": low, "act_max": high, "histogram": list(known["counts"])}
    elif note.get("act_max") is not None:
        record |= {"act_min": 0.0, "act_max": note["act_max"]}
    if note.get("density") is not None:
        record["activation_frequency"] = note["density"]
    return record


def _shown(token: Any) -> str:
    return str(token).translate(MARKS)
