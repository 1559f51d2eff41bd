"""One self-contained page of what patching did: hover, click and switch its heat maps and paths. Needs no network."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.export.heatmap import HeatMap, compose_heatmap
from graphs.export.lettering import readable
from graphs.export.page.parts import as_script, fill, in_every_theme, joined, part, plain, policy_for
from graphs.export.patching.paths import compose_paths
from graphs.export.picture import to_svg
from graphs.export.scene.themes import THEMES

if TYPE_CHECKING:
    from graphs.export.patching import Patching


def to_html(found: Patching) -> str:
    """The page as one document: every map and diagram as it is drawn elsewhere, light or dark as the reader's system.

    Nothing is loaded from anywhere, and a policy in the page forbids it. Every text from the model or the prompt is put
    on the page as text, never as markup.
    """
    views = ["map", *(["paths"] if found.paths is not None else [])]
    drawn = [(view, each) for each in found.maps for view in views]
    scenes, palette = in_every_theme([_in_themes(found, view, each) for view, each in drawn])
    own = (files("graphs.export.patching.page") / "page.js").read_text(encoding="utf-8")
    script = joined("fault.js", "elements.js", "cells.js") + own
    figures = [
        f'<figure data-direction="{escape(each.direction)}" data-view="{view}" style="--wide:{scene.width:.0f}px">'
        f"{to_svg(scene)}</figure>"
        for (view, each), scene in zip(drawn, scenes, strict=True)
    ]
    parts = {
        "policy": policy_for(script),
        "title": escape(readable(found.prompt)),
        "other": escape(readable(found.corrupted)),
        "palette": palette,
        "style": part("page.css"),
        "own": (files("graphs.export.patching.page") / "page.css").read_text(encoding="utf-8"),
        "figures": _apart("".join(figures)),
        "data": as_script(_contents(found)),
        "script": script,
    }
    return fill((files("graphs.export.patching.page") / "page.html").read_text(encoding="utf-8"), parts)


def _in_themes(found: Patching, view: str, each: HeatMap) -> dict[str, Any]:
    if view == "paths" and found.paths is not None:
        return {theme: compose_paths(found.paths, each, theme=theme) for theme in THEMES}
    return {theme: compose_heatmap(each, theme=theme) for theme in THEMES}


def _apart(figures: str) -> str:
    """Names of marks as data: two directions have the same. A quote in a text is written otherwise."""
    return figures.replace(' id="', ' data-name="')


def _contents(found: Patching) -> dict[str, Any]:
    paths = found.paths
    maps = [
        {
            "direction": each.direction,
            "unit": each.unit,
            "places": [readable(place) for row in each.places for place in row],
            "share": np.asarray(each.share).ravel(),
            "effect": np.asarray(each.effect).ravel(),
        }
        for each in found.maps
    ]
    # Of each path its name in the diagram, by its square.
    named = {}
    if paths is not None:
        for (row, column), at in np.ndenumerate(paths.at):
            if at >= 0:
                named[str(int(at))] = f"e{row}-{len(paths.senders) + column}"
    return plain({"maps": maps, "paths": named})
