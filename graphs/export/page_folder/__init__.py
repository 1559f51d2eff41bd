"""A folder that circuit-tracer's own page shows: graphs, and what is known of their features."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphs.errors import CannotWrite
from graphs.export.neuronpedia import TYPES, to_neuronpedia
from graphs.export.page_folder.feature_details import feature_details
from graphs.export.whole_files import write_whole
from graphs.graph import AttributionGraph
from graphs.identifiers import pair

LIST = "graph-metadata.json"
FEATURES = "features"
TRACED = "cross layer transcoder"  # the page shows what is known of these only


def write_page_folder(graphs: Sequence[AttributionGraph], folder: Path) -> list[Path]:
    """Put graphs, and a record of each of their features, where `circuit-tracer start-server` finds them.

    `SLUG.json` is a graph as `to_neuronpedia` has it, `features/DICTIONARY/NUMBER.json` a feature, and to the list of
    graphs in `graph-metadata.json` is added. The page looks features up at the Hub, by the name of their dictionary; a
    graph of this folder says instead that they lie beside it.

    Returns the graphs' files.

    Raises:
        CannotWrite: two graphs have one name there, the disk refuses, or a list is there that is none.
    """
    records = [_beside(to_neuronpedia(graph)) for graph in graphs]
    slugs = [record["metadata"]["slug"] for record in records]
    twice = {slug for slug in slugs if slugs.count(slug) > 1}
    if twice:
        raise CannotWrite(f"two graphs are called {min(twice)!r} there: write them into two folders.")
    try:
        listed = _listed(folder / LIST)
        folder.mkdir(parents=True, exist_ok=True)
        for graph, record in zip(graphs, records, strict=True):
            _write_features(graph, folder / FEATURES / _place(record))
            _write(folder / f"{record['metadata']['slug']}.json", record)
        others = [each for each in listed if each.get("slug") not in slugs]
        _write(folder / LIST, {"graphs": [*others, *(record["metadata"] for record in records)]})
    except OSError as error:
        if isinstance(error, CannotWrite):
            raise
        raise CannotWrite(f"{folder} could not be written to: {error.strerror or error}.") from error
    return [folder / f"{slug}.json" for slug in slugs]


def _beside(record: dict[str, Any]) -> dict[str, Any]:
    """The same, whose features lie in the folder: the page asks for those of a layer where a list says."""
    meta = record["metadata"]
    depth = max([int(node["layer"]) for node in record["nodes"] if node["layer"] != "E"], default=0)
    place = f"./data/{FEATURES}/{_place(record)}"
    changed = {
        "slug": _plain(meta["slug"]) or "graph",  # of a file of others it may be anything
        "scan": f"custom-{meta['scan'].removeprefix('custom-')}",
        "transcoder_list": [place] * (depth + 1),
    }
    return {**record, "metadata": {**meta, **changed}}


def _place(record: Mapping[str, Any]) -> str:
    """What the folder of a dictionary is called: sets of two models may be called the same."""
    meta = record["metadata"]
    info = meta.get("info")
    dictionary = info.get("transcoder_set") if isinstance(info, Mapping) else None
    return _plain(f"{meta['scan'].removeprefix('custom-')}-{dictionary or 'features'}") or FEATURES


def _plain(name: str) -> str:
    """Letters, digits, and marks that no path gives a meaning to."""
    return re.sub(r"[^a-zA-Z0-9_.-]+", "-", name).strip("-.")


def _write_features(graph: AttributionGraph, folder: Path) -> None:
    """A record of each feature of the graph; of one that nothing is known of, one that says so."""
    notes = graph.provenance.get("feature_notes") or {}
    shown = [kind for kind, told in TYPES.items() if told == TRACED]
    units = {graph.nodes.unit(row): row for row in graph.nodes.where(*shown).tolist()}
    for name, row in units.items():
        layer, unit = int(graph.nodes.layer[row]), int(graph.nodes.feature[row])
        if min(layer, unit) >= 0:
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / f"{pair(layer, unit)}.json", feature_details(notes.get(name) or {}, unit))


def _listed(path: Path) -> list[dict[str, Any]]:
    """The graphs that are in the folder already."""
    if not path.exists():
        return []
    try:
        listed = json.loads(path.read_bytes())["graphs"]
        if all(isinstance(each, dict) for each in listed):
            return list(listed)
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise CannotWrite(f"{path} is no list of graphs: choose another folder, or take it away.")


def _write(path: Path, record: Any) -> None:
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    write_whole(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))
