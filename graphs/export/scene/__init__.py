"""What there is to be seen of a graph: marks at their places."""

from __future__ import annotations

import numpy as np

from graphs.assays import Assay
from graphs.export.scene.axes import NAMES, beside_tokens, layer_lines, layer_names, token_texts, unnamed_in_words
from graphs.export.scene.captions import caption_lines, failure_in_words, heading, lay_out_caption
from graphs.export.scene.edges import draw_edges
from graphs.export.scene.frame import frame_of
from graphs.export.scene.labels import make_room, place_labels
from graphs.export.scene.legend import lay_out_legend, samples_of
from graphs.export.scene.marks import MARGIN, Scene
from graphs.export.scene.names import label_of
from graphs.export.scene.nodes import draw_nodes, radii_of
from graphs.export.scene.options import check_edges, check_look, widest_of
from graphs.export.scene.tested import as_tried, moved_the_other_way
from graphs.export.scene.themes import THEMES
from graphs.graph import AttributionGraph
from graphs.wording import circuit_in_words


def compose(
    graph: AttributionGraph,
    *,
    assay: Assay | None = None,
    theme: str = "light",
    most_edges: int = 700,
    least_share: float = 0.0,
    biases: bool = False,
    bos: str = "grey",
    errors: str = "grey",
    labels: bool = True,
    legend: bool = True,
    title: str | None = None,
    font: str = "sans",
    width_cm: float | None = None,
    bare: bool = False,
) -> Scene:
    """The picture of a graph, made of marks. What it leaves out, the caption says with its figures.

    assay: what was measured; marks the nodes that were ablated, and adds the verdicts to the caption.
    theme: "light", "dark" or "print".
    most_edges: only so many edges are drawn, those that carry most; the caption says how many.
    least_share: nor are those drawn that are a smaller share of their target's input.
    biases: draw the constants too, which have no share of their targets' input: lines as wide as if they had.
    bos: what comes from the mark that opens the prompt: "grey", "draw" it like anything else, or "hide" it.
    errors: nodes for what the features miss: "grey", or "hide" them and what comes from them.
    labels: say what nodes are, where there is room. Without, only logits are called by name.
    legend: say below what the marks mean.
    title: instead of the prompt.
    font: "sans" or "serif".
    width_cm: the width on paper, in centimetres; a PNG then has 300 dots to the inch. The narrower, the fewer labels
        and the closer the nodes, so that letters stay readable.
    bare: leave heading and caption to the page around the picture, which then must say the same.

    Raises:
        BadOption: there is no such theme, font or choice, or a number makes no sense.
    """
    check_look(theme, font, width_cm, bos, errors)
    check_edges(most_edges=most_edges, least_share=least_share)
    colours = THEMES[theme]
    hidden = [kind for kind, away in (("bias", not biases), ("error", errors == "hide")) if away]
    rows = np.flatnonzero(~np.isin(graph.nodes.kind, hidden))
    shown = graph.select(rows)
    names = [label_of(shown, row) if labels or shown.nodes.kind[row] == "logit" else "" for row in range(len(rows))]
    placed, widest = beside_tokens(shown), widest_of(width_cm)
    reserved, layout = make_room(placed, names, None if widest is None else widest - NAMES - 2 * MARGIN)
    tested = None if assay is None else np.isin(rows, [each.node for each in assay.ablations])
    wrong = np.isin(rows, [] if assay is None else moved_the_other_way(assay))

    top_lines = [] if bare else heading(graph, title, max(110, int(layout.width / 9)), colours, widest)
    at = frame_of(layout, top_lines, widest)

    tokens, depth = token_texts(placed, layout, at.left, at.top, colours)
    radius = radii_of(shown) * at.scale
    labelled = place_labels(shown, rows, names, reserved, (at.x, at.y, radius), at.width - MARGIN, colours)
    curves, counts = draw_edges(graph, rows, at.x, at.y, radius, (most_edges, least_share), bos, colours, at.scale)
    curves = [as_tried(graph, curve, assay, colours) for curve in curves]
    bottom = at.top + layout.height + depth
    said: list[str | None] = []
    if not bare:
        measured = circuit_in_words(graph)
        said = [*caption_lines(graph, counts), *failure_in_words(graph, assay), *measured]
        said += [] if measured and assay is None else [None]
    said = [*unnamed_in_words(tokens), *said]
    caption, height = lay_out_caption(said, assay, at.width, bottom + 16, colours)
    samples = samples_of(shown, assay, curves) if legend else []
    key, height = lay_out_legend(samples, at.width, height + 4, colours)
    return Scene(
        width=at.width,
        height=height + MARGIN * 0.6,
        colours=colours,
        lines=(*layer_lines(layout, at.left, at.top, at.width, colours), *key["lines"]),
        curves=(*curves, *key["curves"]),
        shapes=(*draw_nodes(shown, rows, at.x, at.y, radius, tested, wrong, colours), *key["shapes"]),
        texts=(
            *top_lines,
            *layer_names(shown, layout, at.top, colours),
            *labelled,
            *(text for text in tokens if text.words),
            *caption,
            *key["texts"],
        ),
        font=font,
        width_cm=width_cm,
    )
