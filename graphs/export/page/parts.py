"""What every page is made of: its style sheet, colours in every theme, data that cannot become markup, its policy."""

from __future__ import annotations

import hashlib
import json
import math
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any

import numpy as np

from graphs.export.scene.marks import Scene
from graphs.export.scene.themes import THEMES

DIGITS = 7  # of every number in a page
POLICY = "default-src 'none'; img-src blob:; style-src 'unsafe-inline'; script-src 'sha256-{}'"
# Where each theme's colours hold; later ones go before earlier ones.
WHEN = {"light": "{}", "dark": "@media (prefers-color-scheme: dark){{{}}}", "print": "@media print{{{}}}"}


def part(name: str) -> str:
    """A file that stands beside this one."""
    return (files("graphs.export.page") / name).read_text(encoding="utf-8")


def joined(*names: str) -> str:
    """Files that stand beside this one as one script, in this order."""
    return "\n".join(map(part, names))


def fill(template: str, parts: Mapping[str, str]) -> str:
    """The template with each {{name}} replaced by that part."""
    # In one pass, so that what is filled in is never itself searched for places to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template)


def policy_for(script: str, *, served: bool = False) -> str:
    """What a page with this one script may do: nothing is loaded from anywhere, and no other script runs.

    served: it may ask the server it came from.
    """
    only = POLICY.format(b64encode(hashlib.sha256(script.encode()).digest()).decode())
    return f"{only}; connect-src 'self'" if served else only


def in_every_theme(drawn: Sequence[Mapping[str, Scene]]) -> tuple[list[Scene], str]:
    """The scenes with names for colours, and the style sheet that gives each name its colour in each theme.

    drawn: each scene in all THEMES.
    """
    names: dict[tuple[str, ...], str] = {}
    scenes = [_with_names(list(each.values()), names) for each in drawn]
    sheets = []
    for place, (theme, colours) in enumerate(THEMES.items()):
        roles = [f"--{role}:{colour}" for role, colour in colours.items()]
        sheet = f":root{{{';'.join(roles + [f'--{short}:{hue[place]}' for hue, short in names.items()])}}}"
        sheets.append(WHEN[theme].format(sheet))
    return scenes, "\n".join(sheets)


def _with_names(every: Sequence[Scene], names: dict[tuple[str, ...], str]) -> Scene:
    """One scene in place of the same in each theme. names: of colours in all themes; new ones are added."""

    def name(colours: tuple[str, ...]) -> str:
        return f"var(--{names.setdefault(colours, f'k{len(names)}')})"

    def merge(marks: tuple[Any, ...], *fields: str) -> Any:
        found = {field: tuple(getattr(mark, field) for mark in marks) for field in fields}
        return replace(marks[0], **{field: name(hues) for field, hues in found.items() if hues[0] is not None})

    together = {
        kind: tuple(merge(marks, *fields) for marks in zip(*(getattr(scene, kind) for scene in every), strict=True))
        for kind, fields in (
            ("lines", ("colour",)),
            ("curves", ("colour",)),
            ("shapes", ("fill", "outline", "dot")),
            ("texts", ("colour",)),
        )
    }
    paper = {role: f"var(--{role})" for role in every[0].colours}
    return replace(every[0], colours=paper, width_cm=None, **together)


def as_script(record: Any) -> str:
    """JSON that cannot end the script element it stands in, whatever a token says."""
    text = json.dumps(record, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def plain(value: Any) -> Any:
    """Lists, dictionaries, numbers of DIGITS digits, texts; what is no finite number becomes null."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if value is None or isinstance(value, int):
        return value
    # Half a character, which a byte-level tokenizer may leave, stops a browser that writes the page out again.
    return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
