"""What the JSON beside a graph's tables must hold: graph.json and assay.json, checked in one place."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

import numpy as np

from graphs.addresses import Place
from graphs.assays import Assay
from graphs.errors import ForeignFolder
from graphs.reading import read

FORMAT = "circuit-assay graph"
VERSION = 1
RECORD = "graph.json"
ASSAY = "assay.json"
TABLES = ("nodes.parquet", "edges.parquet")
ADVICE = "Restore it from a copy, or trace the prompt again."
OF_A_METHOD = ("model", "transcoders", "conservation", "against")  # without these a traced graph cannot be tested


class Provenance(TypedDict, total=False):
    """How a graph was made; free to say more. A graph made by hand may say nothing."""

    prompt: str | list[int]
    model: str
    model_hash: str
    transcoders: str
    transcoders_hash: str
    method: str
    options: Mapping[str, Any]
    versions: Mapping[str, str]
    conservation: float
    active: int
    traced: int
    against: list[int]
    dtype: str
    device: str
    feature_notes: Mapping[str, Mapping[str, Any]]


class Pruned(TypedDict):
    """What is always said of a graph that was pruned."""

    nodes_before: int
    edges_before: int
    influence: float


class Kept(Pruned, total=False):
    """What pruning kept: see `graphs.pruning.prune`."""

    nodes: float
    edges: float
    renormalise: bool
    most_nodes: int | None
    node_threshold: float
    edge_threshold: float
    edge_influence: float
    replacement_before: float
    replacement_after: float
    completeness_before: float
    completeness_after: float
    completeness_inputs_before: float
    completeness_inputs_after: float


class Figures(TypedDict):
    """`graphs.scores.Scores` as stored; null where undefined."""

    replacement: float | None
    completeness: float | None
    completeness_inputs: float | None
    error: float | None
    unselected: float | None
    pruned: float | None
    bias: float | None
    path_length: float | None


class File(TypedDict):
    """One table: its size in bytes, and its checksum."""

    bytes: int
    sha256: str


class Whole(TypedDict):
    """What graph.json always holds."""

    saved: str
    prompt: str
    tokens: list[str]
    token_ids: list[int]
    nodes: int
    edges: int
    provenance: Provenance
    kept: Mapping[str, Any]
    scores: Figures
    assay: Any
    content: str
    files: Mapping[str, File]


class Record(Whole, total=False):
    """graph.json. seal: its own checksum, see `seal`. The first that were written have neither this nor targets."""

    id: str
    targets: list[str]
    seal: str


@dataclass(frozen=True)
class Sheet:
    """All that is on record of a graph.

    plain: graph.json as it stands, but with the assay that is current.
    record: the same with numbers for nulls where a number is wanted.
    assay: the one attached later as assay.json, else the one the graph was saved with, else none.
    """

    plain: Mapping[str, Any]
    record: Record
    assay: Assay | None


def check_version(path: Place, plain: Mapping[str, Any], most: int) -> None:
    """That what a file holds has a version that is read here. most: the last one that there is.

    Raises:
        ForeignFolder: it has none, or a later one.
    """
    version = plain.get("version")
    if type(version) is not int or not 0 < version <= most:
        raise ForeignFolder(
            f"{path} has version {version!r:.40}, this program reads up to {most}: update circuit-assay."
        )


def read_sheet(folder: Place) -> Sheet:
    """Everything on record in a graph's folder.

    Raises:
        ForeignFolder: a file is missing, damaged, no record of ours, or of a later version; the message names it.
    """
    path = folder / RECORD
    plain = read_json(path)
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise ForeignFolder(f"{path} is no record of ours: it does not say format {FORMAT!r}. Give a graph's folder.")
    check_version(path, plain, VERSION)
    try:
        record = read(plain, Record)
        if record["kept"]:
            record["kept"] = read(record["kept"], Kept, "kept")
        _check(record)
        if "seal" in record and record["seal"] != seal(plain):
            raise ForeignFolder("its checksum is not the one it states, so it was changed after it was written.")
    except ForeignFolder as error:
        raise ForeignFolder(f"{path} is damaged: {error} {ADVICE}") from error
    advice = ADVICE
    with suppress(FileNotFoundError):
        plain["assay"] = _json_in(folder / ASSAY)
        path, advice = folder / ASSAY, "Remove it and check the graph again, or restore it from a copy."
    if path.name == RECORD and plain["assay"] is None:
        return Sheet(plain, record, None)
    try:
        return Sheet(plain, record, _read_assay(plain["assay"], record))
    except ForeignFolder as error:
        raise ForeignFolder(f"{path} is damaged: {error} {advice}") from error


def _check(record: Record) -> None:
    """What types do not say."""
    try:
        datetime.fromisoformat(record["saved"])
    except ValueError:
        raise ForeignFolder(f"saved should be a time, found {record['saved']!r:.40}.") from None
    if len(record["tokens"]) != len(record["token_ids"]):
        counts = f"{len(record['token_ids'])} ids, {len(record['tokens'])} texts"
        raise ForeignFolder(f"tokens should have one text for each of token_ids, found {counts}.")
    sizes = {"nodes": record["nodes"], "edges": record["edges"]}
    sizes |= {f"kept.{name}": record["kept"][name] for name in ("nodes_before", "edges_before") if record["kept"]}
    for name, size in sizes.items():
        if size < 0:
            raise ForeignFolder(f"{name} should be a number of rows, found {size}.")
    missing = [f"files.{table}" for table in TABLES if table not in record["files"]]
    if "method" in record["provenance"]:
        missing += [f"provenance.{name}" for name in OF_A_METHOD if name not in record["provenance"]]
    if missing:
        raise ForeignFolder(f"{', '.join(missing)} missing.")


def _read_assay(plain: Any, record: Record) -> Assay:
    """The assay, its rows and lengths held to the graph that it is of."""
    assay = Assay.from_json(plain)
    nodes, edges = record["nodes"], record["edges"]
    rows = [
        (f"{name}[{number}].node", [each.node])
        for name in ("ablations", "doses")
        for number, each in enumerate(getattr(assay, name))
    ]
    rows += [(f"contributions[{number}].node", each.node) for number, each in enumerate(assay.contributions)]
    for name in ("edges", "between"):
        for number, each in enumerate(getattr(assay, name)):
            for end in ("source", "target"):
                found = getattr(each, end)
                rows.append((f"{name}[{number}].{end}", [max(found, 0)] if name == "edges" else found))
    for place, found in rows:
        outside = [row for row in found if not 0 <= row < nodes]
        if outside:
            raise ForeignFolder(f"assay.{place} should be a row of {nodes} nodes, found {outside[0]}.")
    for number, each in enumerate(assay.prunings):
        if not each.untested and (len(each.node), len(each.edge)) != (nodes, edges):
            raise ForeignFolder(
                f"assay.prunings[{number}] should say something of {nodes} nodes and {edges} edges, "
                f"found {len(each.node)} and {len(each.edge)}."
            )
    return assay


def seal(record: Mapping[str, Any]) -> str:
    """A checksum of all that a record says, but for the checksum itself. Its layout does not matter.

    record: plain JSON values, as from `strict`.
    """
    said = {key: each for key, each in record.items() if key != "seal"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def read_json(path: Place) -> Any:
    """A file's JSON.

    Raises:
        ForeignFolder: it is missing, or no JSON.
    """
    try:
        return _json_in(path)
    except FileNotFoundError as error:
        raise ForeignFolder(f"{path} is missing: {path.parent} is no graph's folder, or a damaged one.") from error


def _json_in(path: Place) -> Any:
    try:
        return json.loads(path.read_bytes(), parse_constant=_refuse)
    except FileNotFoundError:
        raise
    except RecursionError as error:
        raise ForeignFolder(f"{path} cannot be read: it is nested too deep. {ADVICE}") from error
    except (OSError, ValueError) as error:
        raise ForeignFolder(f"{path} cannot be read: {error}. {ADVICE}") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def to_json(record: Any) -> bytes:
    """A file's content: JSON that any program reads, see `strict`; what holds nothing but plain values is one line."""
    return (_laid_out(strict(record), "\n") + "\n").encode()


def _laid_out(value: Any, margin: str) -> str:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not any(isinstance(each, dict | list) for each in inside):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    within = margin + " "
    items = [_laid_out(each, within) for each in inside]
    if isinstance(value, dict):
        items = [f"{json.dumps(key, ensure_ascii=False)}: {item}" for key, item in zip(value, items, strict=True)]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}{within}{f',{within}'.join(items)}{margin}{closing}"


def strict(value: Any) -> Any:
    """The same in JSON's own values: null for what is no finite number, plain numbers for numpy's."""
    if isinstance(value, Mapping):
        return {str(key): strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [strict(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
