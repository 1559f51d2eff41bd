"""The tables of one graph as Parquet: made, written, and read back whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.addresses import Address, Place
from graphs.errors import ForeignFolder
from graphs.records import ADVICE, RECORD, File

if TYPE_CHECKING:
    import pyarrow

    from graphs.graph import AttributionGraph


def node_table(graph: AttributionGraph) -> pyarrow.Table:
    """The columns of the nodes, and goal."""
    import pyarrow

    columns = {field.name: getattr(graph.nodes, field.name) for field in fields(graph.nodes)}
    texts = {name: pyarrow.array([str(each) for each in columns[name]]) for name in ("kind", "label")}
    return pyarrow.table({**columns, **texts, "goal": graph.goal})


def edge_table(graph: AttributionGraph) -> pyarrow.Table:
    """source and target, as rows of the nodes, and weight."""
    import pyarrow

    return pyarrow.table({"source": graph.source, "target": graph.target, "weight": graph.weight})


def write_table(path: Path, table: pyarrow.Table) -> File:
    """Write a table; returns what `read_table` checks it against."""
    from pyarrow import parquet

    parquet.write_table(table, path, compression="zstd")
    sync(path)
    return {"bytes": path.stat().st_size, "sha256": checksum(path)}


def read_table(path: Place, stated: File) -> pyarrow.Table:
    """A table as it was written.

    Raises:
        ForeignFolder: the file is missing, damaged or another.
    """
    from pyarrow import ArrowException, parquet

    check_size(path, stated)
    try:
        if checksum(path) != stated["sha256"]:
            raise ForeignFolder(f"{path} is damaged: its checksum is not the one in {RECORD}. {ADVICE}")
        with path.open("rb") as file:
            return parquet.read_table(file)
    except (OSError, ArrowException) as error:
        raise ForeignFolder(f"{path} cannot be read: {error}. {ADVICE}") from error


def as_arrays(table: pyarrow.Table) -> dict[str, np.ndarray]:
    """Its columns."""
    return {column: table[column].to_numpy() for column in table.column_names}


def table_of(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> pyarrow.Table:
    """A table of rows. columns: name -> type: string, strings, int32, int64 or float64. Other keys are left out."""
    import pyarrow

    texts = pyarrow.list_(pyarrow.string())
    schema = pyarrow.schema(
        [(name, texts if kind == "strings" else pyarrow.type_for_alias(kind)) for name, kind in columns.items()]
    )
    return pyarrow.Table.from_pylist(rows, schema=schema)


def joined(batches: Sequence[pyarrow.RecordBatch], schema: pyarrow.Schema) -> pyarrow.Table:
    """Batches one below the other."""
    import pyarrow

    return pyarrow.Table.from_batches(batches, schema=schema)


def check_size(path: Place, stated: File) -> None:
    """Whether a table is there and as long as its record says.

    Raises:
        ForeignFolder: it is not.
    """
    try:
        state = path.state() if isinstance(path, Address) else [path.stat().st_size]
    except FileNotFoundError:
        state = None
    except OSError as error:
        raise ForeignFolder(f"{path} cannot be read: {error.strerror}. {ADVICE}") from error
    if state is None:
        raise ForeignFolder(f"{path} is missing. {ADVICE}")
    if state[0] != stated["bytes"]:
        raise ForeignFolder(
            f"{path} is damaged: it has {state[0]:,} bytes, {RECORD} says {stated['bytes']:,}. {ADVICE}"
        )


def checksum(path: Place) -> str:
    """Of all that a file holds."""
    if isinstance(path, Address):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until what was written to a file is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
