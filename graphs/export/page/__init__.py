"""One self-contained page of a graph: its picture, made to answer questions, and its assay. Needs no network."""

from __future__ import annotations

import hashlib
import json
import math
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from graphs.assays import Assay
from graphs.errors import BadOption
from graphs.export.lettering import readable
from graphs.export.picture import to_svg
from graphs.export.plots import PLOTS, chart_plots, compose_plot
from graphs.export.scene import THEMES, Scene, check_options, compose, first_token, prompt_of
from graphs.graph import AttributionGraph

DIGITS = 7  # of every number in the page
PATHS = 5
POLICY = "default-src 'none'; img-src blob:; style-src 'unsafe-inline'; script-src 'sha256-{}'"
TOLD = "registration ablations statistics verdicts seconds skipped".split()  # of an assay, besides its plots
MOST_SUGGESTED = 400  # units of a graph for which groups are suggested
# Where each theme's colours hold; later ones go before earlier ones.
WHEN = {"light": "{}", "dark": "@media (prefers-color-scheme: dark){{{}}}", "print": "@media print{{{}}}"}


def write_html(graph: AttributionGraph, path: Path, *, assay: Assay | None = None, **options: Any) -> None:
    """A page that opens from disk: hover, click, search and sift the picture of `compose(graph, **options)`.

    Light or dark as the reader's system is. Nothing is loaded from anywhere, and a policy in the page forbids it. Every
    text from the graph is put on the page as text, never as markup.

    Edges too weak to be drawn appear when a node is asked about, and stand in its lists.
    """
    Path(path).write_text(to_html(graph, assay=assay, **options), encoding="utf-8")


def to_html(graph: AttributionGraph, *, assay: Assay | None = None, **options: Any) -> str:
    """The page as one document. Options are those of `compose`, but for the theme: the page has both.

    Raises:
        BadOption: it is asked for something that a page has not. ForeignFolder: the assay is of another graph.
    """
    if "picture" in options:
        raise BadOption(
            "a page holds the graph, its groups and every plot of its assay: leave out which of them to draw, or "
            "draw a .svg."
        )
    # It is light or dark as its reader's system is, and as wide as the window.
    check_options(options, signature(compose), "a page", without=("theme", "width_cm"))
    charts = chart_plots(graph, assay)
    drawn = [
        {theme: compose(graph, assay=assay, theme=theme, bare=True, **options) for theme in THEMES},
        *({theme: compose_plot(PLOTS[name], found, theme) for theme in THEMES} for name, found in charts.items()),
    ]
    (scene, *plots), palette = _in_every_theme(drawn)
    script = _part("page.js")
    prompt = readable(str(graph.provenance.get("prompt") or prompt_of(graph)))
    parts = {
        "policy": POLICY.format(_digest(script)),
        "title": escape(str(options.get("title") or prompt)),
        "palette": palette,
        "style": _part("page.css"),
        "picture": to_svg(scene),
        "plots": "".join(f'<figure style="--wide:{plot.width:.0f}px">{to_svg(plot)}</figure>' for plot in plots),
        "data": _as_script(contents(graph, assay) | {"bos": options.get("bos", "grey")}),
        "script": script,
    }
    # In one pass, so that what is filled in is never itself searched for places to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _part("page.html"))


def contents(graph: AttributionGraph, assay: Assay | None = None) -> dict[str, Any]:
    """What the page knows of a graph: its columns, notes on its features, strongest paths, scores, assay. For JSON."""
    from graphs.paths import signed_share, strongest_paths
    from graphs.scores import scores
    from graphs.wording import name_node

    nodes = graph.nodes
    columns = ("kind", "layer", "position", "feature", "activation", "value", "gross", "influence", "label")
    notes = graph.provenance.get("feature_notes") or {}
    units = {nodes.unit(row) for row in nodes.where("feature", "attention", "neuron").tolist()}
    paths = [
        {"nodes": path.nodes, "shares": path.shares, "influence": path.influence}
        for path in strongest_paths(graph, PATHS)
    ]
    return _plain(
        {
            "prompt": graph.provenance.get("prompt") or prompt_of(graph),
            "tokens": graph.tokens,
            "opening": first_token(graph),
            "nodes": {name: getattr(nodes, name) for name in columns},
            "names": [name_node(graph, row) for row in range(len(nodes))],
            "goal": graph.goal,
            "edges": {
                "source": graph.source,
                "target": graph.target,
                "weight": graph.weight,
                "share": signed_share(graph),
            },
            "notes": {unit: notes[unit] for unit in sorted(units & set(notes))},
            "paths": paths,
            "suggested": _suggested(graph),
            "scores": scores(graph).to_json(),
            "kept": graph.kept,
            "made": {name: graph.provenance[name] for name in graph.provenance if name != "feature_notes"},
            "assay": _told(assay),
        }
    )


def _told(assay: Assay | None) -> dict[str, Any] | None:
    record = {} if assay is None else assay.to_json()
    return {name: record[name] for name in TOLD} if record else None


def _suggested(graph: AttributionGraph) -> dict[str, list[int]]:
    """Groups to begin with; none for a graph that is too large to look at."""
    from graphs.grouping import UNITS, suggest_groups

    return suggest_groups(graph) if len(graph.nodes.where(*UNITS)) <= MOST_SUGGESTED else {}


def _in_every_theme(drawn: Sequence[Mapping[str, Scene]]) -> tuple[list[Scene], str]:
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


def _part(name: str) -> str:
    return (files("graphs.export.page") / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _as_script(record: Any) -> str:
    """JSON that cannot end the script element it stands in, whatever a token says."""
    text = json.dumps(record, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _plain(value: Any) -> Any:
    """Lists, dictionaries, numbers of DIGITS digits, texts; what is no finite number becomes null."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if value is None or isinstance(value, int):
        return value
    # Half a character, which a byte-level tokenizer may leave, stops a browser that writes the page out again.
    return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
