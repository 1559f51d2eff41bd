"""Putting a graph where the user finds it: into the store, with its pictures, its page and its assay beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from graphs.errors import CannotWrite, MissingProgram, UnknownPicture

if TYPE_CHECKING:
    from graphs.addresses import Place
    from graphs.assays import Assay
    from graphs.graph import AttributionGraph
    from graphs.heads import Heads
    from graphs.store import Store

PICTURES = ("graph.svg", "graph.html", "graph.png")


def check_writable(folder: Path) -> None:
    """Before anything is computed for it: the folder takes files, or can be made. Makes nothing yet.

    Raises:
        CannotWrite: it cannot be made, or nothing can be put into it.
    """
    there = folder
    while True:
        try:
            os.stat(there)
            break
        except (FileNotFoundError, NotADirectoryError):
            there = there.parent
        except OSError as reason:  # a name too long, a folder above that nobody may enter
            raise CannotWrite(f"the folder {folder} cannot be made: {reason.strerror}. Choose another.") from reason
    if not there.is_dir():
        wrong = "is no folder" if there == folder else f"cannot be made: {there} is no folder"
        raise CannotWrite(f"{folder} {wrong}. Choose another.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise CannotWrite(f"nothing can be written into {there}: choose another folder, or change its permissions.")


def check_output(path: Path) -> None:
    """Before anything is computed for it: a file can be put there, in a folder that is there or can be made.

    Raises:
        CannotWrite: the path is a folder's, or the file's folder takes none.
    """
    if path.is_dir():
        raise CannotWrite(f"{path} is a folder: name a file in it, {path / PICTURES[0]}.")
    check_writable(path.parent)


def check_export(path: Path) -> None:
    """Before anything is computed for it: `graphs.export` can write that file.

    Raises:
        UnknownPicture: no exporter writes files with that ending. CannotWrite: see `check_output`.
    """
    from graphs.export import EXPORTERS

    if path.suffix.lower() not in EXPORTERS:
        raise UnknownPicture(f"-o {path}: known endings are {', '.join(EXPORTERS)}.")
    check_output(path)


def keep_pictures(
    store: Store,
    id: str | Place,
    graph: AttributionGraph,
    assay: Assay | None,
    note: Callable[[str], None] = lambda what: None,
    heads: Heads | str | None = None,
) -> tuple[list[str], list[str]]:
    """Draw a stored graph beside itself. Returns the names written, and what could not be drawn and why.

    heads: for the page, through which of them its edges came, or why that is not known. note: called with what is
    begun.
    """
    from graphs.export import draw

    written, missing = [], []
    for name in PICTURES:
        note(f"drawing {name}")
        try:
            shown = {"heads": heads} if name.endswith(".html") else {}
            store.attach(id, name, partial(draw, graph, assay=assay, **shown))
            written.append(name)
        except MissingProgram as reason:
            missing.append(f"{name} is left out: {reason}")
    return written, missing
