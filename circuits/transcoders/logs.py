"""The log of a training, `training.csv`: one line for the means of some steps."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from circuits.transcoders.checkpoints import GO_ON, replace_file
from graphs.errors import CannotWrite

Numbers = dict[str, float]


class Log:
    """Lines for a training that goes on from a step; those that came after it are taken out."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        kept = [line for line in read_log(path) if line["step"] <= step]
        if kept:
            replace_file(path, lambda new: _write(new, kept))
        else:
            path.unlink(missing_ok=True)

    def write(self, numbers: Mapping[str, float]) -> None:
        """One line more. Raises CannotWrite."""
        try:
            new = not self._path.is_file()
            with self._path.open("a", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, list(numbers))
                if new:
                    table.writeheader()
                table.writerow(numbers)
        except OSError as reason:
            raise CannotWrite(f"{self._path} could not be written: {reason.strerror}. {GO_ON}") from reason


def read_log(path: Path) -> list[Numbers]:
    """The lines of a log, each by the names of its columns; none where there is no log. One cut short is left out."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    whole = [line for line in lines if None not in line and None not in line.values() and "" not in line.values()]
    return [{name: float(value) for name, value in line.items()} for line in whole]


def _write(path: Path, lines: Sequence[Mapping[str, float]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(lines[0]))
        table.writeheader()
        for line in lines:
            table.writerow({name: int(value) if name in ("step", "tokens") else value for name, value in line.items()})
