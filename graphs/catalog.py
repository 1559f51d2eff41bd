"""What a listing said of each graph, remembered in the store for as long as the graph's files are the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from graphs.staging import SAVING, staging

CATALOG = ".catalog.json"

# What changes when a file does: inode, size and time of each; None of one that is not there.
Stamp = list[list[int] | None]


def stamp(folder: str | Path, files: Sequence[str]) -> Stamp:
    """The stamp of some files in a folder."""
    found: Stamp = []
    for file in files:
        try:
            state = os.stat(f"{folder}/{file}")
        except OSError:
            found.append(None)
        else:
            found.append([state.st_ino, state.st_size, state.st_mtime_ns])
    return found


def recall(folder: Path, columns: Sequence[str]) -> dict[str, tuple[Stamp, list[Any]]]:
    """What is remembered: id -> stamp, and what was said of the graph, one value a column.

    columns: which values are wanted. A catalog of others, or a damaged one, is none.
    """
    try:
        checksum, _, content = (folder / CATALOG).read_bytes().partition(b"\n")
        if checksum.decode() != hashlib.sha256(content).hexdigest():
            return {}
        found = json.loads(content)
    except (OSError, ValueError):
        return {}
    return {id: (mark, said) for id, mark, said in found["rows"]} if found["columns"] == list(columns) else {}


def remember(folder: Path, columns: Sequence[str], rows: Mapping[str, tuple[Stamp, Sequence[Any]]]) -> None:
    """Put a catalog in place of the one before. Where the store may not be written to, there is none: it only helps."""
    said = {"columns": list(columns), "rows": [[id, mark, list(values)] for id, (mark, values) in rows.items()]}
    content = json.dumps(said, separators=(",", ":")).encode()
    with suppress(OSError), staging(folder, SAVING) as place:
        unfinished = place / CATALOG
        unfinished.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        os.replace(unfinished, folder / CATALOG)
