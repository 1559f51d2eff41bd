"""What is fixed before the first experiment runs, and its hash: the same plan, the same hash, on any machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from circuits.assaying import thresholds
from circuits.assaying.bench import strongest_units
from circuits.assaying.metric import Metric
from circuits.interventions import ATTENTION, default_window
from circuits.model import Model
from circuits.transcoders.base import Dictionary
from graphs.folders import content_of
from graphs.graph import AttributionGraph


def register(
    model: Model,
    transcoders: Dictionary,
    graph: AttributionGraph,
    metric: Metric | str,
    ablated: Int[np.ndarray, "node"],
    *,
    experiments: Sequence[str],
    controls: int,
    seed: int,
    paraphrases: Sequence[Sequence[int]] = (),
    groups: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Everything that could be chosen, as plain JSON, with `hash`: twelve digits over all of it.

    ablated: rows of the nodes that are ablated alone; registered as (layer, position, unit), which mean the same in
        every graph of these transcoders, with -1 for a unit where it is an error.
    metric: or why there is none. experiments: what is to be run, by name. paraphrases: token ids. groups: rows,
        by name; without any the plan does not speak of them.

    Source: METHODS section 7.6.
    """
    explained = () if isinstance(metric, str) else metric.rows
    plan: dict[str, Any] = {
        "model": model.content_hash,
        "transcoders": transcoders.content_hash,
        "dtype": str(model.dtype).removeprefix("torch."),
        "graph": content_of(graph),
        "token_ids": list(graph.token_ids),
        "metric": metric if isinstance(metric, str) else metric.words,
        "experiments": list(experiments),
        "single": {
            "units": _places(graph, ablated),
            "doses": [1.0, *thresholds.DOSES],
            "attention": list(ATTENTION),
            "window": default_window(transcoders),
            "norms": "live",
        },
        "sets": {
            "kept": _digest(_places(graph, np.sort(strongest_units(graph, explained)))),
            "ablations": ["mean", "zero"],
            "means_from": f"{thresholds.PROMPTS} prompts of at most {thresholds.LONGEST} tokens that the model samples",
            "ablated": "units that are active in the clean run or in the changed one",
            "rule": "MLPs replaced, errors held" if default_window(transcoders) else "real MLPs, errors live",
            "controls": f"{controls} random sets of active units, alike in layer, position and activation",
        },
        "thresholds": {name.lower(): getattr(thresholds, name) for name in dir(thresholds) if name.isupper()},
        "paraphrases": [list(each) for each in paraphrases],
        "seed": seed,
    }
    if groups:
        plan["groups"] = {
            "members": {name: _places(graph, np.array(rows, dtype=np.int64)) for name, rows in groups.items()},
            "ablation": "zero",
            "rule": "MLPs held from the first member to the end of the last one's window"
            if default_window(transcoders)
            else "real MLPs, live",
            "controls": "different random groups of active units outside all groups, alike in layer, position and "
            f"activation where enough of these exist: {controls}, or as many as Holm's correction needs",
        }
    return {**plan, "hash": _digest(plan)}


def _places(graph: AttributionGraph, rows: Int[np.ndarray, "node"]) -> list[list[int]]:
    """(layer, position, unit) of some nodes."""
    columns = [getattr(graph.nodes, name)[rows].tolist() for name in ("layer", "position", "feature")]
    return [list(place) for place in zip(*columns, strict=True)]


def _digest(plan: Any) -> str:
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:12]
