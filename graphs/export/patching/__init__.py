"""What patching did, as a file: pictures of it, a page, tables; one line each in a plain table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from graphs.errors import BadOption, UnknownPicture
from graphs.export.heatmap import HeatMap, compose_heatmap, stack
from graphs.export.patching.paths import Paths, compose_paths
from graphs.export.picture import SUFFIXES, render
from graphs.export.scene.marks import Scene, Text
from graphs.export.scene.options import check_look
from graphs.export.scene.themes import THEMES
from graphs.export.whole_files import write_whole

BLANK = Scene(1.0, 1.0, THEMES["light"], (), (), (), (Text(0.0, 0.0, "", "#000000"),))
COLUMNS = ("direction", "row", "column", "place", "effect", "share")


@dataclass(frozen=True, eq=False)
class Patching:
    """One sweep, in one direction or both.

    prompt, corrupted: the texts. maps: one for each direction. paths: where squares are paths, between what.
    record: the whole as JSON.
    """

    prompt: str
    corrupted: str
    maps: Sequence[HeatMap]
    record: Mapping[str, Any]
    paths: Paths | None = None


def write_patching(found: Patching, path: str | Path, *, diagram: bool = False, **look: Any) -> Path:
    """Write a picture, a page or a table; the suffix says which (WRITERS). Returns the path.

    The file is written whole or not at all, and replaces one of that name. The same sweep gives the same bytes.

    diagram: the picture is that of the paths, not the heat map. look: theme, font, width_cm, title, legend, as
        `graphs.export.heatmap.compose_heatmap` takes them; for pictures.

    Raises:
        UnknownPicture: nothing is written under that ending.
        BadOption: a choice makes no sense, or is not for this kind of file.
        CannotWrite: the folder is not there, or may not be written to.
        MissingProgram: the kind needs a program that is not installed.
    """
    path = Path(path)
    check_choices(path, paths=found.paths is not None, diagram=diagram, **look)
    write = WRITERS[path.suffix.lower()]
    return write_whole(path, lambda unfinished: unfinished.write_bytes(write(found, diagram, look)))


def check_choices(path: Path, *, paths: bool, diagram: bool, **look: Any) -> None:
    """That there is such a kind of file and it takes these choices; before anything is computed for it.

    Raises:
        UnknownPicture, BadOption, MissingProgram: as `write_patching`.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise UnknownPicture(f"what was patched is written as {', '.join(WRITERS)}; found {str(path)!r}.")
    if diagram and not paths:
        raise BadOption("a diagram is of paths: patch over paths, or leave it out.")
    if suffix in SUFFIXES:
        defaults = {"theme": "light", "font": "sans", "width_cm": None}
        check_look(**{name: default if look.get(name) is None else look[name] for name, default in defaults.items()})
        render(BLANK, suffix)  # a program that is missing is better told now than after an hour of patching
    asked = [name for name, value in {"diagram": diagram, **look}.items() if value not in (None, False)]
    if asked and suffix not in SUFFIXES:
        raise BadOption(f"{path.name} is no picture, and takes no choice of its {asked[0]}; {', '.join(SUFFIXES)} do.")


def compose_all(found: Patching, *, diagram: bool = False, **look: Any) -> Scene:
    """The map of every direction, or its diagram of paths, one below the other; below all of them the prompts."""
    look = {name: value for name, value in look.items() if value is not None}
    compose = compose_heatmap
    if diagram and found.paths is not None:
        compose = partial(compose_paths, found.paths)
    prompts = {"clean": found.prompt, "corrupted": found.corrupted}
    *others, last = found.maps
    told = "; ".join(filter(None, (last.note, *(f"{name}: {words}" for name, words in prompts.items() if words))))
    return stack([compose(each, **look) for each in (*others, replace(last, note=told))])


def _picture(suffix: str, found: Patching, diagram: bool, look: Mapping[str, Any]) -> bytes:
    return render(compose_all(found, diagram=diagram, **look), suffix)


def _page(found: Patching, diagram: bool, look: Mapping[str, Any]) -> bytes:
    from graphs.export.patching.page import to_html

    return to_html(found).encode()


def _record(found: Patching, diagram: bool, look: Mapping[str, Any]) -> bytes:
    return (json.dumps(found.record, indent=1, allow_nan=False) + "\n").encode()


def _table(found: Patching, diagram: bool, look: Mapping[str, Any]) -> bytes:
    """One line for every place that was measured."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for each in found.maps:
        for row, column in zip(*np.nonzero(np.isfinite(each.effect)), strict=True):
            share = float(each.share[row, column])
            names = (each.direction, each.rows[row], each.columns[column], each.places[row][column])
            lines.writerow((*names, float(each.effect[row, column]), share if np.isfinite(share) else ""))
    return text.getvalue().encode()


# A writer takes (what was found, whether its paths are to be drawn, how it should look) and gives the file.
WRITERS: dict[str, Callable[[Patching, bool, Mapping[str, Any]], bytes]] = {
    **{suffix: partial(_picture, suffix) for suffix in SUFFIXES},
    ".html": _page,
    ".json": _record,
    ".csv": _table,
}
