"""The tables of one graph as Parquet: made, written, and read back whole."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.addresses import Address, Place
from graphs.errors import CannotWrite, ForeignFolder
from graphs.records import ADVICE, RECORD, File

if TYPE_CHECKING:
    import pyarrow

    from graphs.graph import AttributionGraph

THREADED = 1_000_000  # bytes of a table above which several threads read it


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
    write_parquet(path, table)
    sync(path)
    return {"bytes": path.stat().st_size, "sha256": checksum(path)}


def write_parquet(path: Path, table: pyarrow.Table, **options: Any) -> None:
    """Write a table into a file of any name: pyarrow itself opens none that is not UTF-8."""
    from pyarrow import parquet

    with path.open("wb") as file:
        parquet.write_table(table, file, compression="zstd", **options)


def read_table(path: Place, stated: File) -> pyarrow.Table:
    """A table as it was written.

    Raises:
        ForeignFolder: the file is missing, damaged or another.
    """
    from pyarrow import ArrowException, BufferReader

    try:
        content = path.read_bytes()  # once, so that what is held to the checksum is what is read
    except OSError as error:
        raise _unread(path, error) from error
    _check_bytes(path, len(content), stated)
    if hashlib.sha256(content).hexdigest() != stated["sha256"]:
        raise ForeignFolder(f"{path} is damaged: its checksum is not the one in {RECORD}. {ADVICE}")
    try:
        return read_parquet(BufferReader(content), stated["bytes"])
    except (OSError, ArrowException) as error:
        raise ForeignFolder(f"{path} cannot be read: {error}. {ADVICE}") from error


def read_parquet(file: Any, size: int) -> pyarrow.Table:
    """The table in an open file of so many bytes."""
    from pyarrow import parquet

    # Not `parquet.read_table`: it loads pyarrow.dataset first, and threads cost more than they bring in a small file.
    large = size > THREADED
    return parquet.ParquetFile(file, pre_buffer=large).read(use_threads=large)


def as_arrays(table: pyarrow.Table) -> dict[str, np.ndarray]:
    """Its columns."""
    return {column: table[column].to_numpy() for column in table.column_names}


def table_of(types: Mapping[str, str], columns: Mapping[str, Sequence[Any]]) -> pyarrow.Table:
    """A table of these columns; those that are not given are empty.

    types: name -> string, strings (a list of them), int32, int64 or float64.
    """
    import pyarrow

    texts = pyarrow.list_(pyarrow.string())
    kinds = {name: texts if kind == "strings" else pyarrow.type_for_alias(kind) for name, kind in types.items()}
    return pyarrow.table({name: pyarrow.array(columns.get(name, ()), kind) for name, kind in kinds.items()})


def joined(batches: Sequence[pyarrow.RecordBatch], schema: pyarrow.Schema) -> pyarrow.Table:
    """Batches one below the other."""
    import pyarrow

    return pyarrow.Table.from_batches(batches, schema=schema)


def rows_of(table: pyarrow.Table) -> list[dict[str, Any]]:
    """Its rows, name -> value. A name that comes twice is told once more with a number: `weight_2`.

    Whole numbers, texts, times … as Python has them.
    """
    seen: dict[str, int] = {}
    names = []
    for name in table.column_names:
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return table.rename_columns(names).to_pylist()


def write_answer(table: pyarrow.Table, path: Path) -> None:
    """Write a table for others, whole or not at all: as CSV or Parquet, by the file's ending. In CSV lists are JSON.

    Raises:
        CannotWrite: the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as place:
            unfinished = Path(place) / path.name
            if path.suffix.lower() == ".parquet":
                write_parquet(unfinished, table)
            else:
                with open(unfinished, "w", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file)
                    writer.writerow(table.column_names)
                    for batch in table.to_batches(max_chunksize=10_000):
                        columns = [column.to_pylist() for column in batch.columns]
                        writer.writerows([_in_csv(value) for value in row] for row in zip(*columns, strict=True))
            os.replace(unfinished, path)
    except OSError as error:
        raise CannotWrite(f"{path} could not be written: {error.strerror or error}.") from error


def _in_csv(value: Any) -> Any:
    return json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, list | dict) else value


def check_size(path: Place, stated: File) -> None:
    """Whether a table is there and as long as its record says.

    Raises:
        ForeignFolder: it is not.
    """
    try:
        _check_bytes(path, path.stat().st_size, stated)
    except OSError as error:
        raise _unread(path, error) from error


def _check_bytes(path: Place, size: int, stated: File) -> None:
    if size != stated["bytes"]:
        raise ForeignFolder(f"{path} is damaged: it has {size:,} bytes, {RECORD} says {stated['bytes']:,}. {ADVICE}")


def _unread(path: Place, error: OSError) -> ForeignFolder:
    missing = isinstance(error, FileNotFoundError)
    return ForeignFolder(
        f"{path} {'is missing' if missing else f'cannot be read: {error.strerror or error}'}. {ADVICE}"
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
