"""What stands around the nodes of a picture: the prompt below its columns, the layers and their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graphs.export.layout import Layout
from graphs.export.lettering import readable, shorten
from graphs.export.scene.marks import LETTER, MARGIN, Line, Text
from graphs.graph import AttributionGraph

NAMES = 46.0  # for the layers' names, at the left
MOST_ROWS = 8  # of tokens


def beside_tokens(graph: AttributionGraph) -> AttributionGraph:
    """The graph as it is laid out: where nothing but answers stands at a token, as components do, without columns."""
    nodes = graph.nodes
    if (nodes.position[nodes.kind != "logit"] >= 0).any():
        return graph
    nowhere = nodes.with_columns(position=np.full(len(nodes), -1))
    return replace(graph, nodes=nowhere, tokens=(), token_ids=())


def token_texts(
    graph: AttributionGraph, layout: Layout, left: float, top: float, colours: dict[str, str]
) -> tuple[list[Text], float]:
    """The prompt below its columns, in rows that keep the words apart, and how high they are together. [pos]

    Where MOST_ROWS are not enough, the tokens that carry least are not named: their words are empty.
    """
    nodes = graph.nodes
    at = nodes.where("token")
    middle = dict(zip(nodes.position[at].tolist(), layout.x[at].tolist(), strict=True))
    base = top + (layout.layer_y[-1] + 19 if -1 in layout.layer_y else layout.height + 2)
    texts = []
    for position, token in enumerate(graph.tokens):
        words = shorten(readable(token).strip(), 14) or "␣"
        colour = colours["ink" if position in middle else "quiet"]
        x = left + middle.get(position, float(layout.column_x[position]))
        if x < left + layout.column_x[position] - 1:  # below the node and inside the column
            text = Text(x - 7, base, words, colour, size=11.0)
        else:
            text = Text(x, base, words, colour, size=11.0, anchor="middle")
        over = text.box[2] - (left + layout.width + MARGIN - 2)  # what would lie beside the paper
        texts.append(replace(text, x=text.x - max(over, 0.0)))
    spans = [(text.box[0], text.box[2]) for text in texts]
    rows = _in_rows(spans, list(range(len(spans))))
    if -1 in rows:
        carries = dict(zip(nodes.position[at].tolist(), nodes.influence[at].tolist(), strict=True))
        rows = _in_rows(spans, sorted(range(len(spans)), key=lambda position: -carries.get(position, -1.0)))
    texts = [
        replace(text, y=base + row * 14) if row >= 0 else replace(text, words="")
        for text, row in zip(texts, rows, strict=True)
    ]
    return texts, base + 14.0 * (max(rows, default=0) + 1) - top - layout.height


def _in_rows(spans: Sequence[tuple[float, float]], order: Sequence[int]) -> list[int]:
    """In which row each word is clear of others, the first in the order first; -1 where none of MOST_ROWS has room."""
    taken: list[list[tuple[float, float]]] = [[] for _ in range(MOST_ROWS)]
    found = [-1] * len(spans)
    for word in order:
        begins, stops = spans[word]
        for row, others in enumerate(taken):
            if all(end + 5 < begins or stops + 5 < start for start, end in others):
                others.append(spans[word])
                found[word] = row
                break
    return found


def unnamed_in_words(texts: Sequence[Text]) -> list[str]:
    """How many tokens found no room for their words, where some did not."""
    named = sum(bool(text.words) for text in texts)
    return [f"{named} of {len(texts)} tokens are named; for the others there is no room"] if named < len(texts) else []


def layer_lines(layout: Layout, left: float, top: float, width: float, colours: dict[str, str]) -> list[Line]:
    """What parts a layer that has nodes from the next."""
    busy = [layer for layer, high in layout.layer_height.items() if high > 10]
    return [
        Line(MARGIN, edge, width - MARGIN, edge, colours["line"])
        for layer in busy[:-1]
        for edge in [top + layout.layer_y[layer] + layout.layer_height[layer] / 2]
    ]


def layer_names(graph: AttributionGraph, layout: Layout, top: float, colours: dict[str, str]) -> list[Text]:
    """The layers' names at the left, of those that have nodes, where there is room."""
    kinds: dict[int, set[str]] = {}
    for layer, kind in zip(graph.nodes.layer.tolist(), graph.nodes.kind.tolist(), strict=True):
        kinds.setdefault(layer, set()).add(kind)
    texts = []
    last = float("inf")
    for layer, found in sorted(kinds.items()):
        if last - layout.layer_y[layer] < LETTER:
            continue
        last = layout.layer_y[layer]
        name = "logits" if "logit" in found else "tokens" if "token" in found else f"L{layer}"
        texts.append(Text(MARGIN, top + layout.layer_y[layer], name, colours["quiet"]))
    return texts
