"""The rows of a run: one number each, with its interval and all that it depends on; a Parquet file of them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from graphs.errors import CannotWrite, ForeignFolder

UNTESTED = "untested"  # the metric of a row that only says why there is no number


@dataclass(frozen=True)
class Row:
    """One number of a run.

    task, model, method, ablation, seed, split: what was measured on what. level: what circuits are made of; "beside
    ours" of rows that hold a peer's numbers to ours.
    ranked: how units were chosen, by "size" of their scores or by "value"; empty where none were.
    size: the share of units that was asked for; nan where the number is of a whole curve. count: the units kept.
    metric, value: the number. low, high: its 95 % interval. seconds, peak_memory: of the whole cell, all splits
    together; bytes. says: why there is no number, or what else a reader must know.
    """

    task: str
    model: str
    method: str
    level: str
    ablation: str
    seed: int
    split: str = ""
    ranked: str = ""
    size: float = math.nan
    count: float = math.nan
    metric: str = UNTESTED
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    seconds: float = math.nan
    peak_memory: float = math.nan
    says: str = ""

    @property
    def place(self) -> tuple[Any, ...]:
        """What tells it from all other rows, in the order in which they are sorted."""
        names = ("task", "model", "level", "method", "ablation", "seed", "split", "metric", "ranked")
        size = -1.0 if math.isnan(self.size) else self.size
        return (*(getattr(self, name) for name in names), size)


TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
SCHEMA = pa.schema([(each.name, TYPES[str(each.type)]) for each in fields(Row)])


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """All rows, sorted: the same file for the same rows; whole or not at all.

    Raises:
        CannotWrite: the disk refuses.
    """
    told = [asdict(row) for row in sorted(rows, key=lambda row: row.place)]
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(pa.Table.from_pylist(told, schema=SCHEMA), beside, compression="zstd")
        os.replace(beside, path)
    except OSError as reason:
        raise CannotWrite(f"{path} could not be written: {reason.strerror or reason}.") from reason
    finally:
        beside.unlink(missing_ok=True)


def read_rows(folder: Path) -> list[Row]:
    """The rows of a run's folder.

    Raises:
        ForeignFolder: it holds no finished run.
    """
    path = folder / "rows.parquet"
    try:
        table = pq.read_table(path, schema=SCHEMA)
        return [Row(**each) for each in table.to_pylist()]
    except (OSError, pa.ArrowException, TypeError, ValueError) as reason:
        raise ForeignFolder(
            f"{folder} holds no rows of a benchmark that can be read ({str(reason).splitlines()[0]:.120}). Name a "
            "folder that `circuits bench -o` has written, and let the run end."
        ) from reason
