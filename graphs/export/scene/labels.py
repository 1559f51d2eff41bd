"""Which nodes are called by name on a picture, and the room that is kept for it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from graphs.export.layout import Layout, place_nodes
from graphs.export.lettering import readable, shorten, width_of
from graphs.export.scene.axes import NAMES
from graphs.export.scene.marks import LETTER, MARGIN, SMALL, Text
from graphs.export.scene.names import has_name
from graphs.graph import AttributionGraph

MOST_NUMBERS = 60  # so many units are called by their number; more say nothing
CROWD = 40  # in a crowd like this, no room is kept for numbers
FEWER = (400, 250, 160, 120, 90, 60, 40, 25, 15)  # labels besides logits' that are tried, where not all find room
LINES = 0.6  # rows may come so much closer to each other before labels touch
AREA = 1_250_000.0  # how large the picture of a graph may grow to make room for labels


def make_room(graph: AttributionGraph, names: Sequence[str], widest: float | None = None) -> tuple[list[int], Layout]:
    """For which labels room is kept, as many as the picture's size allows, and the layout that keeps it.

    widest: what the layout may be; where not even the nodes find room, none is kept for labels.
    """
    order = _order_of_labels(graph, names)
    if len(order) > CROWD:
        order = [row for row in order if has_name(graph, row)]
    logits = sum(str(graph.nodes.kind[row]) == "logit" for row in order)
    tokens = [width_of(shorten(readable(token).strip(), 14), 11.0) + 4 for token in graph.tokens]
    narrowest = np.array(tokens) * (sum(tokens) < (1500 if widest is None else widest / 2))
    bare = place_nodes(graph, narrowest=narrowest, widest=widest)
    most = max(AREA, 1.3 * bare.width * bare.height)
    fewer = [logits + count for count in FEWER if logits + count < len(order)]
    counts, tried = [len(order), *fewer], {}

    def lay_out(count: int) -> tuple[Layout, bool]:
        """With room for so many labels, and whether nothing is squeezed too much."""
        if count not in tried:
            room = np.zeros(len(names))
            for row in order[:count]:
                room[row] = width_of(names[row], _label_size(graph, row)) + 9
            layout = place_nodes(graph, room=room, narrowest=narrowest, widest=widest)
            tried[count] = layout, layout.squeezed[0] == 1 and layout.squeezed[1] >= LINES
        return tried[count]

    def serves(count: int) -> bool:
        layout, fits = lay_out(count)
        return fits and layout.width * layout.height <= most

    # The fewer labels, the less room they want: the most that serve are found by halving.
    at = 0 if serves(counts[0]) else bisect_left(counts, True, lo=1, key=serves)
    count = counts[min(at, len(counts) - 1)]
    layout, fits = lay_out(count)
    return (order[:count], layout) if fits else ([], bare)


def place_labels(
    graph: AttributionGraph,
    rows: np.ndarray,
    names: Sequence[str],
    reserved: Sequence[int],
    places: tuple[np.ndarray, np.ndarray, np.ndarray],
    right: float,
    colours: dict[str, str],
) -> list[Text]:
    """A label for each node that has room beside it: kept for it, or left over by the others.

    places: x, y and radius of the nodes.
    """
    x, y, radius = places
    taken = np.stack([x - radius - 2, y - radius - 1, x + radius + 2, y + radius + 1], axis=1)
    sure = set(reserved)
    texts = []
    # What matters little gets no label just because it stands where there is room.
    for row in [*reserved, *(row for row in _order_of_labels(graph, names)[: len(sure) + CROWD] if row not in sure)]:
        size = _label_size(graph, row)
        colour = colours["ink" if has_name(graph, row) else "quiet"]
        wide = width_of(names[row], size)
        for start in (x[row] + radius[row] + 3.5, x[row] - radius[row] - 4.5 - wide):
            text = Text(float(start), float(y[row]), names[row], colour, size=size, plate=True, row=int(rows[row]))
            box = text.box
            hits = (taken[:, 0] < box[2]) & (taken[:, 2] > box[0]) & (taken[:, 1] < box[3]) & (taken[:, 3] > box[1])
            if row in sure or (not hits.any() and box[0] > MARGIN + NAMES and box[2] < right):
                texts.append(text)
                taken = np.vstack([taken, box])
                break
    return texts


def _order_of_labels(graph: AttributionGraph, names: Sequence[str]) -> list[int]:
    """The nodes that have something to say: logits, then what has a name of its own, then numbers; by influence."""
    named = np.array([has_name(graph, row) for row in range(len(names))], dtype=bool)
    order = np.lexsort((-graph.nodes.influence, ~named, graph.nodes.kind != "logit"))
    order = order[[bool(names[row]) for row in order]] if len(order) else order
    return order[np.cumsum(~named[order]) <= MOST_NUMBERS].tolist()


def _label_size(graph: AttributionGraph, row: int) -> float:
    return LETTER if has_name(graph, row) else SMALL
