"""Cases held to circuit-tracer in a table, a line each: those that are not run again keep what they had."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.peers.cases import Case
from benchmarks.peers.jobs import INSTALL, installed

DTYPES = ("float64", "float32")
Rows = dict[tuple[str, str], str]  # lines by case and dtype


def table_of(kind: type[Any], cases: Sequence[Case], rows: Rows) -> list[str]:
    """The table in the order of the cases. kind: the dataclass of what was found, case and dtype first."""
    names = [field.name for field in fields(kind)]
    wanted = [(case.name, dtype) for dtype in DTYPES for case in cases]
    lines = [rows.get(key, f"| {' | '.join(key)} | not run yet |") for key in wanted]
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|", *lines]


def read_rows(path: Path) -> Rows:
    """The lines that a table had before."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = [line for line in lines if line.startswith("| ") and "not run yet" not in line]
    return {(cells[1].strip(), cells[2].strip()): line for line in rows for cells in [line.split("|")]}


def run_cases(
    kind: type[Any],
    cases: Sequence[Case],
    compare: Callable[[Case, str], Any],
    path: Path,
    report: Callable[[Rows], str],
    words: Sequence[str],
) -> int:
    """Print and store a line for each case and dtype whose name holds all words; 1 if any is apart, 2 without the peer.

    kind: the dataclass that `compare` gives, with `holds`.
    """
    if not installed():
        print(INSTALL, file=sys.stderr)
        return 2
    print(" | ".join(field.name for field in fields(kind)), flush=True)
    apart = 0
    for case in cases:
        for dtype in DTYPES:
            if all(word in f"{case.name} {dtype}" for word in words):
                found = compare(case, dtype)
                apart += not found.holds
                shown = (getattr(found, field.name) for field in fields(found))
                line = " | ".join(f"{each:.1e}" if isinstance(each, float) else str(each) for each in shown)
                print(line, "" if found.holds else "  <- apart", flush=True)
                row = {(case.name, dtype): f"| {line} |{'' if found.holds else ' apart'}"}
                # At one stroke: two runs of different cases may go on side by side.
                fresh = path.with_suffix(f".{os.getpid()}")
                fresh.write_text(report(read_rows(path) | row), encoding="utf-8")
                fresh.replace(path)
    return 1 if apart else 0
