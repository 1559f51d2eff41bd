"""The cells of a run on disk: one file each, written when it is done, so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from benchmarks.bench.rows import Row
from graphs.errors import CannotWrite

FOLDER = "cells"


@dataclass(frozen=True)
class Cell:
    """One method at work: on which task, in which model, under which ablation, with which seed."""

    task: str
    model: str
    method: str
    ablation: str
    seed: int


def row_of(cell: Cell, level: str, *, says: str = "") -> Row:
    """A row of a cell without a number. level: what its circuits are made of. says: why there is none."""
    return Row(cell.task, cell.model, cell.method, level, cell.ablation, cell.seed, says=says)


@dataclass(frozen=True, eq=False)
class Result:
    """What a cell came to. arrays: by name, what numbers over several cells are made of."""

    rows: list[Row]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


def path_of(folder: Path, cell: Cell, question: Mapping[str, Any]) -> Path:
    """The file of a cell. question: all else that its numbers depend on; another question has another file."""
    asked = json.dumps([asdict(cell), dict(question)], sort_keys=True, default=str)
    name = re.sub(r"[^\w.]+", "-", "--".join(str(each) for each in asdict(cell).values()))[-100:]
    return folder / FOLDER / f"{name}-{hashlib.sha256(asked.encode()).hexdigest()[:12]}.npz"


def keep(path: Path, result: Result) -> None:
    """Write a finished cell, whole or not at all, whatever ends the process.

    Raises:
        CannotWrite: the disk refuses.
    """
    rows = json.dumps([asdict(row) for row in result.rows])
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, rows=np.array(rows), **result.arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as reason:
        raise CannotWrite(f"{path} could not be written: {reason.strerror or reason}.") from reason
    finally:
        beside.unlink(missing_ok=True)


def recall_cell(path: Path) -> Result | None:
    """A cell that was finished before; None where there is none, or its file cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files if name != "rows"}
            return Result([Row(**each) for each in json.loads(str(found["rows"]))], arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        return None
