"""Putting a graph where the user finds it: into the store, with its pictures, its page and its assay beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from graphs.errors import CannotWrite, MissingProgram

if TYPE_CHECKING:
    from graphs.assays import Assay
    from graphs.graph import AttributionGraph
    from graphs.store import Store

PICTURES = ("graph.svg", "graph.html", "graph.png")


def check_writable(folder: Path) -> None:
    """Make the folder if need be, before anything is computed for it.

    Raises:
        CannotWrite: it cannot be made, or nothing can be put into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise CannotWrite(f"the folder {folder} cannot be made: {reason.strerror}. Choose another.") from reason
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CannotWrite(f"nothing can be written into {folder}: choose another folder, or change its permissions.")


def keep_pictures(
    store: Store, id: str | Path, graph: AttributionGraph, assay: Assay | None
) -> tuple[list[str], list[str]]:
    """Draw a stored graph beside itself. Returns the names written, and what could not be drawn and why."""
    from graphs.export import draw

    written, missing = [], []
    for name in PICTURES:
        try:
            store.attach(id, name, lambda path: draw(graph, path, assay))
            written.append(name)
        except MissingProgram as reason:
            missing.append(f"{name} is left out: {reason}")
    return written, missing
