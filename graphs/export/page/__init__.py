"""One self-contained page of a graph: its picture, made to answer questions, and its assay. Needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from graphs.assays import STAGES, Assay
from graphs.errors import BadOption
from graphs.export.page.parts import as_script, fill, in_every_theme, joined, part, plain, policy_for
from graphs.export.picture import to_svg
from graphs.export.plots import PLOTS, chart_plots, compose_plot
from graphs.export.scene import compose
from graphs.export.scene.names import answer_of, first_token, prompt_in_words, spoken
from graphs.export.scene.options import check_options
from graphs.export.scene.tested import failed_edge, moved_the_other_way, untried
from graphs.export.scene.themes import THEMES
from graphs.graph import AttributionGraph
from graphs.heads import Heads

PATHS = 5
# One job each. They run as one script, in this order: what is worked out at once needs what stands above it.
SCRIPTS = (
    "fault.js elements.js graph.js address.js words.js picture.js pointing.js replacement.js sifting.js moving.js "
    "lighting.js search.js cells.js tables.js panel.js node.js edge.js card.js lists.js measured.js facts.js groups.js "
    "hulls.js dragging.js diagram.js saving.js beside.js assay.js keys.js tools.js start.js"
).split()
SERVED = ("live.js", "stored.js")  # after them
TOLD = "registration edges ablations statistics verdicts seconds skipped".split()  # of an assay, besides its plots
MOST_SUGGESTED = 400  # units of a graph for which groups are suggested


def write_html(graph: AttributionGraph, path: Path, *, assay: Assay | None = None, **options: Any) -> None:
    """A page that opens from disk: hover, click, search and sift the picture of `compose(graph, **options)`.

    Light or dark as the reader's system is. Nothing is loaded from anywhere, and a policy in the page forbids it. Every
    text from the graph is put on the page as text, never as markup.

    Edges too weak to be drawn appear when a node is asked about, and stand in its lists.
    """
    Path(path).write_text(to_html(graph, assay=assay, **options), encoding="utf-8")


def to_html(
    graph: AttributionGraph,
    *,
    assay: Assay | None = None,
    heads: Heads | str | None = None,
    served: Mapping[str, Any] | None = None,
    **options: Any,
) -> str:
    """The page as one document. Options are those of `compose`, but for the theme: the page has both.

    heads: through which attention heads edges came, where that is known; or why it cannot be told.
    served: None for a page that opens from disk. Else it may ask the server it came from, and knows the graph's `id`,
        `rows` of its nodes in the `whole` graph of [nodes, edges] (None: it is the whole), and `around` which it is.
        `silent` says why no model can be asked about it, where that is so.

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
    (scene, *plots), palette = in_every_theme(drawn)
    script = joined(*SCRIPTS, *(SERVED if served else ()))
    beside = {"bos": options.get("bos", "grey"), "served": plain(served), **_carried(heads)}
    parts = {
        "policy": policy_for(script, served=bool(served)),
        "title": escape(str(options.get("title") or prompt_in_words(graph))),
        "palette": palette,
        "style": part("page.css"),
        "picture": to_svg(scene),
        "plots": "".join(f'<figure style="--wide:{plot.width:.0f}px">{to_svg(plot)}</figure>' for plot in plots),
        "data": as_script({**contents(graph, assay), **beside}),
        "script": script,
    }
    return fill(part("page.html"), parts)


def contents(graph: AttributionGraph, assay: Assay | None = None) -> dict[str, Any]:
    """What the page knows of a graph: its columns, notes on its features, strongest paths, scores, assay. For JSON."""
    from graphs.paths import signed_share, strongest_paths
    from graphs.scores import scores
    from graphs.wording import held_against, kept_in_words, name_node

    nodes = graph.nodes
    columns = ("kind", "layer", "position", "feature", "activation", "value", "gross", "influence", "label")
    notes = graph.provenance.get("feature_notes") or {}
    units = {nodes.unit(row) for row in nodes.where("feature", "attention", "neuron").tolist()}
    asked = np.flatnonzero((nodes.kind == "logit") | (graph.goal != 0))
    paths = [
        {"nodes": path.nodes, "shares": path.shares, "influence": path.influence}
        for path in strongest_paths(graph, PATHS)
    ]
    return plain(
        {
            "prompt": prompt_in_words(graph),
            "size": kept_in_words(graph),
            "tokens": graph.tokens,
            "opening": first_token(graph),
            "nodes": {name: getattr(nodes, name) for name in columns},
            "names": [spoken(name_node(graph, row)) for row in range(len(nodes))],
            "answers": {row: answer_of(graph, row) for row in asked.tolist()},
            "against": held_against(graph),
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
            "assay": None if assay is None else _told(graph, assay),
        }
    )


def _told(graph: AttributionGraph, assay: Assay) -> dict[str, Any]:
    """What an assay says, and what follows from it for single nodes and edges.

    verdicts: with their `figure` in words. opposed: nodes that moved the target against a prediction large enough to
    count, attention live and held. failed: the ends of the edge that did not hold. untried: by edge, why it was not
    tried.
    """
    from graphs.wording import figure_in_words

    record = assay.to_json()
    figures = ["" if each.number != each.number else figure_in_words(each) for each in assay.verdicts]
    ends = enumerate(zip(graph.source.tolist(), graph.target.tolist(), strict=True))
    why = {edge: untried(graph, *pair) for edge, pair in ends} if assay.edges else {}
    return {
        **{name: record[name] for name in TOLD},
        "verdicts": [{**each, "figure": words} for each, words in zip(record["verdicts"], figures, strict=True)],
        "between": [_along_edges(each) for each in record["between"]],
        "opposed": {"live": moved_the_other_way(assay), "held": moved_the_other_way(assay, held=True)},
        "failed": failed_edge(assay),
        "untried": {edge: words for edge, words in why.items() if words},
        "stages": STAGES,
    }


def _along_edges(between: Mapping[str, Any]) -> dict[str, Any]:
    """Of what ablating nodes did further on, the pairs that an edge joins."""
    joined = [at for at, hops in enumerate(between["hops"]) if hops == 1]
    return {name: [column[at] for at in joined] for name, column in between.items() if isinstance(column, list)}


def _carried(heads: Heads | str | None) -> dict[str, Any]:
    """By edge the heads that carried it, [layer, head, load]; and of how many edges it is known, or why of none."""
    if not isinstance(heads, Heads):
        return {"heads": {}, "split": None, **({"headless": heads} if heads else {})}
    by_edge = {
        f"{source}-{target}": [[layer, head, float(f"{load:.6g}")] for layer, head, load in carried]
        for (source, target), carried in heads.by_edge().items()
    }
    return {"heads": by_edge, "split": {"edges": heads.split, "of": heads.of}}


def _suggested(graph: AttributionGraph) -> dict[str, list[int]]:
    """Groups to begin with; none for a graph that is too large to look at."""
    from graphs.suggesting import UNITS, suggest_groups

    if len(graph.nodes.where(*UNITS)) > MOST_SUGGESTED:
        return {}
    # Constants are in no picture and no diagram of the page: to group them would show nothing.
    found = suggest_groups(graph).items()
    return {name: rows for name, rows in found if not (graph.nodes.kind[rows] == "bias").all()}
