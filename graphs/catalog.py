"""What a listing said of each graph, remembered in the store for as long as the graph's files are the same.

Two files: all that was known when the store was last gone through, and a line for every graph saved since.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from graphs.addresses import Address, Place
from graphs.staging import SAVING, staging

CATALOG = ".catalog.json"
SINCE = ".catalog.lines"

# What changes when a file does, for each file: on this machine inode, size and time; None of one that is not there. As
# text, because of many graphs there are many, and what Python need not look through for cycles is read much faster.
Stamp = list[str | None]


def stamp(folder: str | Path, files: Sequence[str]) -> Stamp:
    """The stamp of some files in a folder of this machine."""
    found: Stamp = []
    for file in files:
        try:
            state = os.stat(f"{folder}/{file}")
        except OSError:
            found.append(None)
        else:
            found.append(f"{state.st_ino} {state.st_size} {state.st_mtime_ns}")
    return found


def recall(folder: Place, columns: Sequence[str]) -> tuple[dict[str, tuple[Stamp, list[Any]]], int]:
    """What is remembered: id -> stamp, and what was said of the graph, one value a column.

    Second, how long the file of lines was: see `remember`.

    columns: which values are wanted. A catalog of others, or a damaged one, is none, and so is a damaged line.
    """
    rows: dict[str, tuple[Stamp, list[Any]]] = {}
    with suppress(OSError, ValueError):
        checksum, _, content = (folder / CATALOG).read_bytes().partition(b"\n")
        if checksum == _checksum(content, columns):
            rows = {id: (mark, said) for id, mark, said in json.loads(content)}
    if isinstance(folder, Address):
        return rows, 0
    try:
        since = (folder / SINCE).read_bytes()
    except OSError:
        return rows, 0
    for line in since.splitlines():
        checksum, _, content = line.partition(b" ")
        if checksum == _checksum(content, columns):
            id, mark, said = json.loads(content)
            rows[id] = (mark, said)
    return rows, len(since)


def remember(
    folder: Place, columns: Sequence[str], rows: Mapping[str, tuple[Stamp, Sequence[Any]]], since: int = 0
) -> None:
    """Put a catalog in place of the one before. Where the store may not be written to, there is none: it only helps.

    since: so many bytes of lines are in it now; the lines go, unless others were added meanwhile.
    """
    content = _plain([[id, mark, list(values)] for id, (mark, values) in rows.items()])
    whole = _checksum(content, columns) + b"\n" + content
    with suppress(OSError):
        if isinstance(folder, Address):
            (folder / CATALOG).write_bytes(whole)
            return
        with staging(folder, SAVING) as place:
            unfinished = place / CATALOG
            unfinished.write_bytes(whole)
            os.replace(unfinished, folder / CATALOG)
        # Of a line that is added between these two, only its graph's record has to be read again.
        if since and (folder / SINCE).stat().st_size == since:
            (folder / SINCE).unlink()


def add(folder: Path, columns: Sequence[str], id: str, mark: Stamp, values: Sequence[Any]) -> int:
    """Remember one graph more, without reading what is known of the others. Returns how long the lines are now.

    Several may do so at once.
    """
    content = _plain([id, mark, list(values)])
    line = b"\n" + _checksum(content, columns) + b" " + content + b"\n"  # the one before may have been cut short
    with suppress(OSError):
        handle = os.open(folder / SINCE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(handle, line)  # in one piece: where a full disk cuts it short, the checksum says so
            return os.fstat(handle).st_size
        finally:
            os.close(handle)
    return 0


def _plain(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _checksum(content: bytes, columns: Sequence[str]) -> bytes:
    return hashlib.sha256(_plain(list(columns)) + content).hexdigest().encode()
