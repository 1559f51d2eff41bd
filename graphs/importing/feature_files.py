"""What other programs know of features, read as notes from the records that lie beside a graph."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from graphs.errors import ForeignFile, ForeignFolder
from graphs.graph import AttributionGraph
from graphs.identifiers import pair
from graphs.reading import read

FEATURES = "features"
MOST_BYTES = 4 * 2**20  # of one record: published ones have a hundred examples, and some 200 kB
WORDS, EXAMPLES = 5, 4  # that a note has, at most
BEFORE, AFTER = 12, 4  # tokens around the strongest place of an example
BINS = 200  # of a histogram, at most


class _Told(TypedDict):
    """A text in which a feature fires."""

    tokens: list[str]
    tokens_acts_list: list[float]


class _Example(_Told, total=False):
    """Where in it."""

    train_token_ind: int


class _Quantile(TypedDict):
    """Some of them, the strongest first."""

    examples: list[_Example]


class _Needed(TypedDict):
    """What every record has."""

    examples_quantiles: list[_Quantile]


class _Record(_Needed, total=False):
    """What it may have."""

    top_logits: list[str]
    bottom_logits: list[str]
    act_min: float
    act_max: float
    histogram: list[float]
    activation_frequency: float


def notes_beside(path: Path, graph: AttributionGraph) -> dict[str, dict[str, Any]]:
    """Notes on the graph's features, by `layer/unit`, of the records in a folder beside its file; none where none lie.

    Looked for is `features/NUMBER.json`, NUMBER being Cantor's of layer and unit; in a folder of `features` if the file
    says that its dictionary's lie there, as `graphs.export.page_folder` writes and circuit-tracer's page reads it.

    Raises:
        ForeignFile: what lies there is no record of a feature.
    """
    home = path.parent / FEATURES
    if not home.is_dir():
        return {}
    notes: dict[str, dict[str, Any]] = {}
    units = graph.nodes.where("feature", "neuron").tolist()
    known = {graph.nodes.unit(row): (int(graph.nodes.layer[row]), int(graph.nodes.feature[row])) for row in units}
    for name, (layer, unit) in known.items():
        for folder in dict.fromkeys((_folder(home, graph, layer), home)):
            file = folder / f"{pair(layer, unit)}.json"
            if layer >= 0 <= unit and file.is_file():
                notes[name] = _note(file)
                break
    return {name: note for name, note in notes.items() if note}


def _folder(home: Path, graph: AttributionGraph, layer: int) -> Path:
    """Where the file says that what is known of a layer lies, if that is in the folder."""
    said = graph.provenance.get("imported")
    meta = (said.get("metadata") or {}) if isinstance(said, Mapping) else {}
    scan, several = meta.get("scan"), meta.get("transcoder_list")
    if isinstance(scan, str) and scan.startswith("custom-") and isinstance(several, list) and layer < len(several):
        scan = several[layer]
    found = re.fullmatch(r"\./(?:data|graph_data)/features/([^/\\]{1,200})", scan) if isinstance(scan, str) else None
    return home / found[1] if found and found[1] not in (".", "..") else home


def _note(file: Path) -> dict[str, Any]:
    if file.stat().st_size > MOST_BYTES:
        raise ForeignFile(f"{file} is no record of a feature: it has {file.stat().st_size:,} bytes.")
    try:
        record: _Record = read(json.loads(file.read_bytes(), parse_constant=_refuse), _Record)
        shown = [
            _example(each) for quantile in record["examples_quantiles"] for each in quantile["examples"][:EXAMPLES]
        ]
    except (ValueError, RecursionError, ForeignFolder) as error:
        raise ForeignFile(f"{file} is no record of a feature: {str(error)[:200]}") from None
    shown = [each for each in shown if each is not None][:EXAMPLES]
    fires = Counter[str]()
    for each in shown:
        fires[each["tokens"][each["peak"]]] += each["activations"][each["peak"]]
    low, high, density = (_known(record.get(name)) for name in ("act_min", "act_max", "activation_frequency"))
    bins = [each for each in record.get("histogram", []) if _known(each) is not None]
    counted = None not in (low, high) and 0 < len(bins) <= BINS
    note = {
        "fires_on": [token for token, _ in fires.most_common(WORDS)],
        "promotes": record.get("top_logits", [])[:WORDS],
        "suppresses": record.get("bottom_logits", [])[:WORDS],
        "density": density,
        "act_max": high,
        "histogram": {"edges": [low, high], "counts": bins} if counted else None,
        "examples": shown,
    }
    return {name: each for name, each in note.items() if each not in (None, [])}


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _example(said: _Example) -> dict[str, Any] | None:
    """A text around the place where the feature is strongest."""
    tokens, strengths = said["tokens"], [_known(each) or 0.0 for each in said["tokens_acts_list"]]
    if len(tokens) != len(strengths):
        raise ForeignFolder(f"an example has {len(tokens)} tokens and {len(strengths)} activations.")
    if not tokens:
        return None
    at = said.get("train_token_ind", -1)
    at = at if 0 <= at < len(tokens) else strengths.index(max(strengths))
    first = max(at - BEFORE, 0)
    last = at + AFTER + 1
    return {"tokens": tokens[first:last], "activations": strengths[first:last], "peak": at - first}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON's")
