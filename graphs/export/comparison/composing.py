"""Two graphs in one picture: every node of either at its aligned place, what only one of them has marked as such."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from graphs.comparing import Comparison, compare, counts_in_words
from graphs.export.comparison.union import Union, padded, unite
from graphs.export.layout import Layout
from graphs.export.lettering import readable, wrap
from graphs.export.scene.axes import NAMES, beside_tokens, layer_lines, layer_names, token_texts, unnamed_in_words
from graphs.export.scene.captions import heading, lay_out_caption
from graphs.export.scene.edges import draw_edges
from graphs.export.scene.frame import frame_of
from graphs.export.scene.labels import make_room, place_labels
from graphs.export.scene.legend import lay_out_legend
from graphs.export.scene.marks import MARGIN, Curve, Scene, Shape, Text
from graphs.export.scene.names import label_of, prompt_in_words
from graphs.export.scene.nodes import draw_nodes, radii_of
from graphs.export.scene.options import check_edges, check_look, widest_of
from graphs.export.scene.themes import THEMES
from graphs.graph import AttributionGraph
from graphs.wording import name_node

A, B = "raise", "lower"  # a blue and a vermilion that stay two to every kind of colour-blind eye
ALPHABET = {A: "A", B: "B"}


def compose_comparison(
    a: AttributionGraph,
    b: AttributionGraph,
    *,
    found: Comparison | None = None,
    theme: str = "light",
    font: str = "sans",
    width_cm: float | None = None,
    most_edges: int = 300,
    title: str | None = None,
) -> Scene:
    """The picture of two graphs, made of marks: places counted from the end of the prompt, so that ends stand together.

    Nodes in both are filled; those only in A hollow with a dot, those only in B hollow. Edges in both are grey and
    solid, those only in A solid, those only in B dashed. Colours say the same once more. Biases are not drawn.

    found: `compare(a, b)`, if it is known already.
    most_edges: of each graph only so many are drawn, those that carry most.
    title: a line above both prompts.
    theme, font, width_cm: as `graphs.export.scene.compose` takes them.

    Raises:
        BadOption: there is no such theme or font, a number makes no sense, or the graphs are not to be compared.
    """
    check_look(theme, font, width_cm)
    check_edges(most_edges=most_edges)
    found = compare(a, b) if found is None else found
    colours, widest = THEMES[theme], widest_of(width_cm)
    union = unite(a, b, found)
    names = [_label(a, b, *rows) for rows in zip(union.row_a.tolist(), union.row_b.tolist(), strict=True)]
    placed = beside_tokens(union.graph)
    reserved, layout = make_room(placed, names, None if widest is None else widest - NAMES - 2 * MARGIN)

    top_lines = _headings(a, b, title, max(110, int(layout.width / 9)), colours, widest)
    at = frame_of(layout, top_lines, widest)
    radius = radii_of(union.graph) * at.scale
    places = (at.x, at.y, radius)

    words, depth = _token_texts(placed, (a, b), layout, at.left, at.top, colours)
    everything = np.arange(len(union.graph.nodes))
    labelled = place_labels(placed, everything, names, reserved, places, at.width - MARGIN, colours)
    curves, counts = _draw_both(a, b, found, union, places, most_edges, colours, at.scale)
    said = [*_caption(found, counts), *unnamed_in_words(words)]
    caption, height = lay_out_caption(said, None, at.width, at.top + layout.height + depth + 16, colours)
    key, height = _legend(at.width, height + 4, colours)
    return Scene(
        width=at.width,
        height=height + MARGIN * 0.6,
        colours=colours,
        lines=(*layer_lines(layout, at.left, at.top, at.width, colours), *key["lines"]),
        curves=(*curves, *key["curves"]),
        shapes=(*_shapes(a, b, union, places, colours), *key["shapes"]),
        texts=(
            *top_lines,
            *layer_names(placed, layout, at.top, colours),
            *labelled,
            *(each for each in words if each.words),
            *caption,
            *key["texts"],
        ),
        font=font,
        width_cm=width_cm,
    )


def _label(a: AttributionGraph, b: AttributionGraph, row: int, twin: int) -> str:
    """What stands beside a node; where that is a probability, first A's, then B's."""
    told = [label_of(graph, at) for graph, at in ((a, row), (b, twin)) if at >= 0]
    return " | ".join(dict.fromkeys(told)) if a.nodes.kind[row] == "logit" or row < 0 else told[0]


def _headings(
    a: AttributionGraph,
    b: AttributionGraph,
    title: str | None,
    most: int,
    colours: dict[str, str],
    widest: float | None,
) -> list[Text]:
    wide = (widest or float("inf")) - 2 * MARGIN
    titles = [] if title is None else wrap(readable(title), wide, 16.0)
    lines = [
        Text(MARGIN, MARGIN + 6 + 19.0 * at, line, colours["ink"], 15.0, bold=True) for at, line in enumerate(titles)
    ]
    for colour, graph in ((A, a), (B, b)):
        below = lines[-1].y + 26 - MARGIN - 6 if lines else 0.0
        told = heading(graph, f"{ALPHABET[colour]}: {prompt_in_words(graph)}", most, colours, widest)
        lines += [
            replace(text, y=text.y + below, colour=colours[colour] if text.bold else text.colour) for text in told
        ]
    return lines


def _token_texts(
    placed: AttributionGraph,
    graphs: tuple[AttributionGraph, AttributionGraph],
    layout: Layout,
    left: float,
    top: float,
    colours: dict[str, str],
) -> tuple[list[Text], float]:
    """Both prompts below the columns: a word that both have once, others one below the other."""
    if not placed.tokens:
        return token_texts(placed, layout, left, top, colours)
    first, second = padded(*graphs, "")
    texts, depth = [], 0.0
    for colour, words, others in ((A, first, second), (B, second, first)):
        same = [one == other for one, other in zip(words, others, strict=True)]
        shown = [at for at, word in enumerate(words) if word and not (same[at] and colour == B)]
        told, high = token_texts(replace(placed, tokens=tuple(words)), layout, left, top, colours)
        below = 0.0 if not texts else max(text.y for text in texts) + 14.0 - min(text.y for text in told)
        texts += [
            replace(told[at], y=told[at].y + below, colour=told[at].colour if same[at] else colours[colour])
            for at in shown
        ]
        depth = high + below if shown else depth
    return texts, depth


def _draw_both(
    a: AttributionGraph,
    b: AttributionGraph,
    found: Comparison,
    union: Union,
    places: tuple[Float[np.ndarray, "node"], Float[np.ndarray, "node"], Float[np.ndarray, "node"]],
    most: int,
    colours: dict[str, str],
    scale: float,
) -> tuple[list[Curve], list[dict[str, Any]]]:
    """The edges of both, an edge that is in both once, as strong as in the graph where it is stronger."""
    drawn: dict[tuple[int, int], Curve] = {}
    counts = []
    shared = {(int(a.source[at]), int(a.target[at])) for at in found.edges[:, 0]}
    shared_b = {(int(b.source[at]), int(b.target[at])) for at in found.edges[:, 1]}
    for graph, colour, rows_of, common in ((a, A, union.row_a, shared), (b, B, union.row_b, shared_b)):
        here = np.flatnonzero(rows_of >= 0)
        here = here[np.argsort(rows_of[here], kind="stable")]
        rows = rows_of[here]
        place = dict(zip(rows.tolist(), here.tolist(), strict=True))
        x, y, radius = (column[here] for column in places)
        curves, counted = draw_edges(graph, rows, x, y, radius, (most, 0.0), "draw", colours, scale)
        counts.append(counted)
        for curve in curves:
            if curve.ends is None:
                continue
            ends = (place[curve.ends[0]], place[curve.ends[1]])
            in_both = curve.ends in common
            look = replace(
                curve,
                ends=ends,
                colour=colours["quiet" if in_both else colour],
                opacity=max(curve.opacity, 0.25),
                dashed=colour == B and not in_both,
            )
            if ends not in drawn or drawn[ends].opacity < look.opacity:
                drawn[ends] = look
    # What both have lies below what tells them apart.
    return sorted(drawn.values(), key=lambda curve: (curve.colour != colours["quiet"], curve.opacity)), counts


def _shapes(
    a: AttributionGraph,
    b: AttributionGraph,
    union: Union,
    places: tuple[Float[np.ndarray, "node"], Float[np.ndarray, "node"], Float[np.ndarray, "node"]],
    colours: dict[str, str],
) -> list[Shape]:
    everything = np.arange(len(union.graph.nodes))
    nowhere = np.zeros(len(everything), dtype=bool)
    shapes = draw_nodes(union.graph, everything, *places, None, nowhere, colours)
    rows = zip(shapes, union.row_a.tolist(), union.row_b.tolist(), strict=True)
    return [_marked(a, b, shape, row, twin, colours) for shape, row, twin in rows]


def _marked(
    a: AttributionGraph, b: AttributionGraph, shape: Shape, row: int, twin: int, colours: dict[str, str]
) -> Shape:
    told = [
        f"{letter} {name_node(graph, at)}, {graph.nodes.influence[at]:.1%} of the influence"
        for letter, graph, at in (("A:", a, row), ("B:", b, twin))
        if at >= 0
    ]
    tip = readable("; ".join(told))
    if row >= 0 and twin >= 0:
        return replace(shape, fill=colours["high"], outline=colours["high"], tip=tip)
    only = colours[A if row >= 0 else B]
    return replace(shape, fill=colours["paper"], outline=only, dot=only if row >= 0 else None, tip=tip)


def _caption(found: Comparison, counts: list[dict[str, Any]]) -> list[str | None]:
    overlap = "undefined" if found.overlap != found.overlap else f"{found.overlap:.2f}"
    drawn = [
        f"{count['drawn']:,} of {letter}'s {count['edges']:,} edges that come from no bias, {count['share']:.0%} of "
        "what they carry"
        for letter, count in zip("AB", counts, strict=True)
    ]
    return [
        counts_in_words(found),
        f"overlap of influence {overlap}; how much two wordings of one question differ anyway, this does not say",
        f"drawn: {'; '.join(drawn)}; biases are not drawn",
    ]


def _legend(width: float, top: float, colours: dict[str, str]) -> tuple[dict[str, list], float]:
    """The marks that a picture of one graph has not, then some that it has."""
    samples = [
        ("circle", "in both"),
        ("dot", "only in A"),
        ("circle", "only in B"),
        ("measured", "edge in both"),
        ("raise", "only in A"),
        ("unmeasured", "only in B"),
        ("size", "larger: more influence, of both the larger"),
        ("square", "token, logit"),
    ]
    key, height = lay_out_legend(samples, width, top, colours)
    both, only_a, only_b, *others = key["shapes"]
    of_both, of_a, of_b, *more = key["curves"]
    key["shapes"] = [
        replace(both, fill=colours["high"], outline=colours["high"]),
        replace(only_a, fill=colours["paper"], outline=colours[A], dot=colours[A]),
        replace(only_b, fill=colours["paper"], outline=colours[B]),
        *others,
    ]
    key["curves"] = [replace(of_both, colour=colours["quiet"]), of_a, replace(of_b, colour=colours[B]), *more]
    return key, height
