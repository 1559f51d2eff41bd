"""What stands around the nodes of a picture: the prompt below its columns, the layers and their names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphs.export.layout import Layout
from graphs.export.lettering import readable, shorten
from graphs.export.scene.marks import LETTER, MARGIN, Line, Text
from graphs.graph import AttributionGraph

NAMES = 46.0  # for the layers' names, at the left


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
    """The prompt below its columns, in as many rows as keep the words apart, and how high they are together."""
    nodes = graph.nodes
    middle = {int(nodes.position[row]): float(layout.x[row]) for row in nodes.where("token")}
    base = top + (layout.layer_y[-1] + 19 if -1 in layout.layer_y else layout.height + 2)
    ends: list[float] = []
    texts = []
    for position, token in enumerate(graph.tokens):
        words = shorten(readable(token).strip(), 14) or "␣"
        colour = colours["ink"] if position in middle else colours["faint"]
        x = left + middle.get(position, float(layout.column_x[position]))
        if x < left + layout.column_x[position] - 1:  # below the node and inside the column
            text = Text(x - 7, base, words, colour, size=11.0)
        else:
            text = Text(x, base, words, colour, size=11.0, anchor="middle")
        begins, _, stops, _ = text.box
        row = next((i for i, end in enumerate(ends) if end + 5 < begins), len(ends))
        ends[row : row + 1] = [stops]
        texts.append(replace(text, y=base + row * 14))
    return texts, base + 14.0 * max(len(ends), 1) - top - layout.height


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
