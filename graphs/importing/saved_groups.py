"""Groups of a graph that were saved on Neuronpedia's page or circuit-tracer's, as `graphs.group` takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

from graphs.errors import ForeignFile, ForeignFolder
from graphs.graph import AttributionGraph
from graphs.identifiers import identify
from graphs.importing.json_files import load_json
from graphs.naming import name_of
from graphs.reading import read

LONGEST_ADDRESS = 2**21  # characters: what Chromium takes


class _Grouped(TypedDict):
    """What says which nodes were grouped."""

    supernodes: list[list[str]]


class _Subgraph(_Grouped, total=False):
    """What is posted to save groups of a graph."""

    pinnedIds: list[str]


def read_groups_saved_there(path: str | Path, graph: AttributionGraph) -> dict[str, list[str]]:
    """The groups of a saved subgraph: name -> nodes, as `graphs.group` takes them; a second of one name is numbered.

    path: a JSON file with `supernodes`, as it is posted to save a subgraph, or a graph with them in its `qParams`.
    graph: the one that they are of, imported.

    Raises:
        ForeignFile: it holds none, or nodes that the graph has not.
    """
    path = Path(path)
    record = load_json(path)
    if isinstance(record, Mapping) and isinstance(record.get("qParams"), Mapping):
        record = record["qParams"]
    try:
        saved: _Subgraph = read(as_lists(record), _Subgraph)
    except ForeignFolder as error:
        raise ForeignFile(f"{path} holds no saved subgraph: {error}") from error
    place = _rows_by_id(graph)
    for number, each in enumerate(saved["supernodes"]):
        if not each:
            raise ForeignFile(f"{path}: supernodes[{number}] should be a name and ids, found nothing.")
        missing = [id for id in each[1:] if id not in place]
        if missing:
            raise ForeignFile(f"{path}: the graph has no node {missing[0]!r:.60}: is the subgraph of another graph?")
    return _groups(saved["supernodes"], graph, place)


def read_groups_within(path: str | Path, graph: AttributionGraph) -> dict[str, list[str]]:
    """The groups that a graph's own file holds, likewise; none of a file of another kind.

    What they say of nodes that the graph has not is left out, as it is on the page.

    Raises:
        ForeignFile: they are no groups.
    """
    if not Path(path).name.lower().endswith((".json", ".json.gz")):
        return {}
    record = load_json(Path(path))
    asked = as_lists(record.get("qParams")) if isinstance(record, Mapping) else None
    try:
        saved = read(asked, _Grouped)["supernodes"] if asked and asked.get("supernodes") else []
    except ForeignFolder as error:
        raise ForeignFile(f"{path}: qParams.{error}") from error
    place = _rows_by_id(graph)
    known = [[name, *(id for id in ids if id in place)] for name, *ids in filter(None, saved)]
    return _groups([each for each in known if len(each) > 1], graph, place)


def _rows_by_id(graph: AttributionGraph) -> dict[str, int]:
    """Where each node is, by its id; errors also by their older one, where no unit has it."""
    place = {id: row for row, id in enumerate(identify(graph.nodes))}
    older = {
        f"0_{graph.nodes.layer[row]}_{graph.nodes.position[row]}": row for row in graph.nodes.where("error").tolist()
    }
    return older | place


def _groups(saved: Sequence[Sequence[str]], graph: AttributionGraph, place: Mapping[str, int]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, *ids in saved:
        taken, number = name, 1
        while taken in found:
            number += 1
            taken = f"{name} ({number})"
        found[taken] = [name_of(graph, place[id]) for id in ids]
    return found


def as_lists(asked: Any) -> Any:
    """The same with lists of pins and groups where they are texts: as circuit-tracer's page saves its address."""
    if not isinstance(asked, Mapping):
        return asked
    found = dict(asked)
    if isinstance(found.get("pinnedIds"), str):
        found["pinnedIds"] = [id for id in found["pinnedIds"].split(",") if id]
    if isinstance(found.get("supernodes"), str) and len(found["supernodes"]) <= LONGEST_ADDRESS:
        with suppress(ValueError, RecursionError):
            found["supernodes"] = json.loads(found["supernodes"])
    return found
