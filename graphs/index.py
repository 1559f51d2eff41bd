"""Every node of a store sorted by the unit it is, so that one unit is found without opening every graph.

It lies in the store, under INDEX: Parquet files of some graphs' nodes each, never changed once they are written. Each
says which graphs it holds, by a checksum of the tables they came from, so a file is right for as long as those are the
same. What is missing is read from the graphs; the folder can be removed at any time.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.addresses import Address, Place, each_of
from graphs.errors import ForeignFolder
from graphs.shelves import desk, land_file
from graphs.staging import SAVING
from graphs.tables import THREADED, read_parquet, write_parquet

if TYPE_CHECKING:
    import pyarrow

INDEX = ".index"
KEY = b"circuit-assay graphs 2"  # of the metadata under which a file says what it holds
ORDER = ("layer", "feature", "kind", "graph", "node")
MOST = 2000  # graphs in one file: so many are sorted in memory
ROWS = 50_000  # in a row group: a look-up reads one or two of them

IN_USE = 600.0  # seconds since the index last changed for which a question may be at a file that it had before


@dataclass(frozen=True)
class Part:
    """One file of the index. holds: graph -> mark of what it was made of. counts: those of it that are so still."""

    path: Place
    holds: Mapping[str, str]
    counts: frozenset[str]


@dataclass(frozen=True)
class Index:
    """The nodes of a store. loose: what could not be written down, because the disk is full or not ours.

    problems: graph -> what is wrong with its nodes; they are in no part.
    """

    parts: tuple[Part, ...]
    loose: pyarrow.Table | None = None
    problems: Mapping[str, str] = field(default_factory=dict)


def refresh(folder: Place, wanted: Mapping[str, str], read: Callable[[str], pyarrow.Table]) -> Index:
    """The index of a store as it is now.

    folder: the store. wanted: graph -> mark, which changes when its nodes do. read: a graph's nodes as a table; called
    for those that are not in the index yet.
    """
    import pyarrow

    parts = _parts_in(folder, wanted)
    found = {id for part in parts for id in part.counts}
    missing = [id for id in wanted if id not in found]
    kept = [part for part in parts if 2 * len(part.counts) >= len(part.holds)]
    worn = [part for part in parts if part.counts and part not in kept]
    unused = [part for part in parts if not part.counts]
    if unused and time.time() - _last_change(folder / INDEX) > IN_USE:
        _remove(unused)
    loose, problems = [], {}
    while missing or worn:
        marks, tables, missing, rest = {}, [], missing[:MOST], missing[MOST:]
        for id, nodes in zip(missing, each_of(folder, partial(_nodes_of, read), missing), strict=True):
            if isinstance(nodes, str):
                problems[id] = nodes
            else:
                tables.append(nodes)
                marks[id] = wanted[id]
        # Files grow by taking in those of their size: there are few, and a graph is seldom written again. Those that
        # were taken in stay until later, for somebody may be reading them.
        kept.sort(key=lambda part: len(part.counts))
        taken, worn, missing, size = worn, [], rest, len(marks)
        while kept and len(kept[0].counts) <= min(2 * size, MOST - size):
            taken.append(kept.pop(0))
            size += len(taken[-1].counts)
        for part in taken:
            try:
                tables.append(_rows_of(part))
                marks |= {id: wanted[id] for id in part.counts}
            except (OSError, ValueError):  # damaged, or put into another file by somebody else: read its graphs again
                _remove([part])
                missing += sorted(part.counts)
        if not tables:
            continue
        table = pyarrow.concat_tables(tables).sort_by([(column, "ascending") for column in ORDER])
        try:
            kept.append(_write(folder, table, marks))
        except OSError:
            loose.append(table)
    return Index(tuple(kept), pyarrow.concat_tables(loose) if loose else None, problems)


def _parts_in(folder: Place, wanted: Mapping[str, str]) -> list[Part]:
    """The files there are. A graph that is in several counts in one only, the one that holds most of what is wanted."""
    files = []
    for path in _files_in(folder / INDEX):
        with suppress(Exception):  # a damaged file is none, and what is gone by now was put into another
            holds = _holds(path)
            files.append((path, holds, {id for id, mark in holds.items() if wanted.get(id) == mark}))
    files.sort(key=lambda file: (-len(file[2]), len(file[1]), str(file[0])))
    parts, found = [], set()
    for path, holds, right in files:
        parts.append(Part(path, holds, frozenset(right - found)))
        found |= right
    return parts


def _files_in(index: Place) -> list[Place]:
    try:
        names = list(index.sizes()) if isinstance(index, Address) else os.listdir(index)
    except OSError:
        return []
    return [index / name for name in names if name.endswith(".parquet")]


def _holds(path: Place) -> dict[str, str]:
    from pyarrow import parquet

    with path.open("rb") as file:
        return json.loads(parquet.read_schema(file).metadata[KEY])


def _nodes_of(read: Callable[[str], pyarrow.Table], id: str) -> pyarrow.Table | str:
    """The columns of a graph's nodes, behind the graph's name and their row; or what is wrong with them."""
    import pyarrow

    try:
        nodes = read(id)
    except ForeignFolder as error:
        return str(error)
    names = pyarrow.repeat(pyarrow.scalar(id), len(nodes))
    # From its bytes, for `pyarrow.array` loads pandas where there is one.
    rows = pyarrow.Array.from_buffers(
        pyarrow.int64(), len(nodes), [None, pyarrow.py_buffer(np.arange(len(nodes), dtype=np.int64))]
    )
    return nodes.replace_schema_metadata().add_column(0, "node", rows).add_column(0, "graph", names)


def _rows_of(part: Part) -> pyarrow.Table:
    import pyarrow
    from pyarrow import compute

    with part.path.open("rb") as file:
        table = read_parquet(file, THREADED).replace_schema_metadata()
    if len(part.counts) == len(part.holds):
        return table
    still = pyarrow.array(sorted(part.counts), pyarrow.string())
    return table.filter(compute.call_function("is_in", [table["graph"]], compute.SetLookupOptions(still)))


def _write(folder: Place, table: pyarrow.Table, marks: Mapping[str, str]) -> Part:
    path = folder / INDEX / f"{uuid.uuid4().hex}.parquet"
    if not isinstance(folder, Address):
        (folder / INDEX).mkdir(exist_ok=True)
    with desk(folder, SAVING) as place:
        unfinished = place / path.name
        described = table.replace_schema_metadata({KEY: json.dumps(dict(marks))})
        # They pass over nan, and DuckDB then takes it that a column has none: so of no column that may.
        statistics: Any = list(ORDER)
        write_parquet(unfinished, described, row_group_size=ROWS, write_statistics=statistics)
        land_file(unfinished, path)
    return Part(path, dict(marks), frozenset(marks))


def _remove(parts: list[Part]) -> None:
    """Remove files of which nothing counts any more."""
    for part in parts:
        with suppress(OSError):
            part.path.unlink(missing_ok=True)


def _last_change(index: Place) -> float:
    """When the newest file of the index was written, in seconds as `time.time` tells them."""
    if isinstance(index, Address):
        return max((path.modified() for path in _files_in(index) if isinstance(path, Address)), default=0.0)
    return index.stat().st_mtime
