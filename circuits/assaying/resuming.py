"""Finished experiments on disk, so that an interrupted assay goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from circuits.assaying.ladder import EXPERIMENTS
from graphs.errors import CannotWrite, ForeignFolder
from graphs.reading import read


class Unfinished:
    """One file of finished experiments, valid for one registration.

    path: None keeps nothing. registered: the hash; what a file holds for another is left unread, and is written over.
    """

    def __init__(self, path: Path | None, registered: str) -> None:
        self._path, self._registered = path, registered
        self._done: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            self._done = _read(path, registered)

    def find(self, name: str) -> tuple[list[Any], float] | None:
        """An experiment's records and the seconds it took, None when it is yet to be run."""
        if name not in self._done:
            return None
        try:
            records = read(self._done[name]["records"], list[EXPERIMENTS[name].record], name)
            return records, float(self._done[name]["seconds"])
        except (ForeignFolder, KeyError, TypeError, ValueError):
            return None  # written by another version: run it again

    def keep(self, name: str, records: Sequence[Any], seconds: float) -> None:
        """Write an experiment down, whole or not at all.

        Raises:
            CannotWrite: the disk refuses.
        """
        self._done[name] = {"records": [asdict(each) for each in records], "seconds": seconds}
        if self._path is None:
            return
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            beside.write_text(json.dumps({"registration": self._registered, "done": self._done}), encoding="utf-8")
            os.replace(beside, self._path)
        except OSError as reason:
            beside.unlink(missing_ok=True)
            raise CannotWrite(f"{self._path} could not be written: {reason.strerror or reason}.") from reason


def _read(path: Path, registered: str) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return dict(found["done"]) if found["registration"] == registered else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
