"""The folder of a run: its rows, its report, its plots, and how it was made."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.bench.across import compare_cells
from benchmarks.bench.comparing import Comparison, compare
from benchmarks.bench.documents import FIGURES, Figure, file_of, to_markdown, to_page
from benchmarks.bench.plans import Plan
from benchmarks.bench.reporting import write_report
from benchmarks.bench.rows import UNTESTED, Row, read_rows, write_rows
from benchmarks.bench.running import WHOLE, Loader, run_plan
from circuits.attributing import versions
from circuits.errors import BadOption
from graphs.errors import CannotWrite
from graphs.export.picture import to_svg

ROWS, REPORT, PAGE, MADE = "rows.parquet", "report.md", "report.html", "run.json"


def bench(
    plan: Plan,
    folder: Path,
    load: Loader,
    *,
    command: str,
    preset: str,
    tell: Callable[[str], None] = lambda words: None,
) -> list[Row]:
    """Run the plan, or what is left of it, and write the folder. Returns the rows.

    command: how to run it again. load: from a name to a model. tell: called with each finished cell, in words.

    Raises:
        BadOption: nothing at all could be measured; the message has the first reason.
        CircuitError: see `run_plan`.
    """
    found = run_plan(plan, folder, load, tell=tell)
    rows = [row for _, result in found for row in result.rows] + compare_cells(found)
    if all(row.metric == UNTESTED or row.method == WHOLE for row in rows):
        why = next((row.says for row in rows if row.metric == UNTESTED), "the plan has no cells.")
        raise BadOption(f"nothing could be measured: {why} Name other tasks, models or methods.")
    made = {"command": command, "preset": preset, "versions": versions() | {"threads": str(torch.get_num_threads())}}
    write_rows(rows, folder / ROWS)
    write_folder(rows, folder, made)
    return rows


def write_folder(rows: list[Row], folder: Path, made: dict[str, Any]) -> None:
    """The report of some rows, in all its forms.

    Raises:
        CannotWrite: the disk refuses.
    """
    blocks = write_report(rows, made)
    figures = [each for each in blocks if isinstance(each, Figure)]
    texts = {file_of(each): to_svg(each.scene) for each in figures}
    texts |= {REPORT: to_markdown(blocks), PAGE: to_page(blocks), MADE: json.dumps(made, indent=1) + "\n"}
    try:
        (folder / FIGURES).mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            beside = folder / f".{Path(name).name}.{os.getpid()}"
            try:
                beside.write_text(text, encoding="utf-8")
                os.replace(beside, folder / name)
            finally:
                beside.unlink(missing_ok=True)
    except OSError as reason:
        raise CannotWrite(f"{folder} could not be written: {reason.strerror or reason}.") from reason
    finally:
        with suppress(OSError):  # no figure, no folder
            (folder / FIGURES).rmdir()


def compare_folders(old: Path, new: Path) -> Comparison:
    """What changed between two runs.

    Raises:
        ForeignFolder: one of them holds no finished run.
    """
    return compare(read_rows(old), read_rows(new))
