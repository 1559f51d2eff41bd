"""Two graphs in one picture, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphs.comparing import Comparison
from graphs.errors import UnknownPicture
from graphs.export.comparison.composing import compose_comparison
from graphs.export.picture import SUFFIXES, render
from graphs.export.whole_files import write_whole
from graphs.graph import AttributionGraph


def draw_comparison(
    a: AttributionGraph, b: AttributionGraph, path: str | Path, *, found: Comparison | None = None, **look: Any
) -> Path:
    """Write the picture of both graphs; its suffix says which kind. Returns the path.

    The file is written whole or not at all, and replaces one of that name. The same graphs give the same bytes.

    found, look: see `compose_comparison`.

    Raises:
        UnknownPicture: no picture of this kind has that suffix.
        BadOption: a choice makes no sense, or the graphs are not to be compared.
        CannotWrite: the folder is not there, or may not be written to.
        MissingProgram: the kind needs Graphviz, and it is not installed.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UnknownPicture(f"two graphs are drawn as {', '.join(SUFFIXES)}; found {str(path)!r}.")
    scene = compose_comparison(a, b, found=found, **look)
    return write_whole(path, lambda unfinished: unfinished.write_bytes(render(scene, path.suffix.lower())))
