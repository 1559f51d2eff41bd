"""Where every node of a graph stands on paper: tokens from left to right, layers from bottom to top."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from graphs.graph import AttributionGraph

STEP = 18.0  # from one node to the next in its row; nodes are drawn smaller than that
ROW = 20.0  # from one row of a cell to the next
GAPS = (10.0, 40.0)  # between layers, for edges to be seen: the least of a deep model, the most of a shallow one
TALL = 300.0  # what all gaps together may take before they shrink
EMPTY = 7.0  # the height of a layer without nodes
BETWEEN = 14.0  # between columns
NARROWEST = 26.0  # a column without nodes
LONG = 1400.0  # columns without nodes take no more than that together
LIST = 3  # so many nodes in a row are not yet a crowd
ASPECT = 1.7  # the width over the height that is aimed at
CAPACITIES = (90, 130, 180, 240, 320, 430, 600, 900, 1600)  # how wide a row may get before a cell starts another
TALLEST, PAGE = 1.5, 600.0  # the height over the width where that is limited, and at most
NARROW = (18, 40, 60)  # besides, where the width is limited


@dataclass(frozen=True, eq=False)
class Layout:
    """Places in user units, x to the right, y downwards, everything within 0..width and 0..height.

    x, y: the middle of each node. [node]
    width, height: of the whole.
    column_x, column_width: the middle and the width of each token's column. [pos]
    layer_y: the middle of each layer's band, empty layers between others included.
    layer_height: the height of that band.
    squeezed: how much closer to each other than they should nodes stand, to the side and upwards.
    """

    x: Float[np.ndarray, "node"]
    y: Float[np.ndarray, "node"]
    width: float
    height: float
    column_x: Float[np.ndarray, "pos"]
    column_width: Float[np.ndarray, "pos"]
    layer_y: Mapping[int, float]
    layer_height: Mapping[int, float]
    squeezed: tuple[float, float] = (1.0, 1.0)


def place_nodes(
    graph: AttributionGraph,
    *,
    room: Float[np.ndarray, "node"] | None = None,
    narrowest: Float[np.ndarray, "pos"] | None = None,
    widest: float | None = None,
) -> Layout:
    """A place for every node, none on top of another.

    Token positions are columns, each as wide as its busiest layer needs; what belongs to no position stands left of
    them. A layer is a band. Where a column and a band cross, nodes stand side by side, the most influential first, and
    go on in a further row when they would make the picture too wide for its height.

    room: space kept free to the right of each node, for its label. [node]
    narrowest: the least width of each column. [pos]
    widest: what the whole may be wide, its height then not much more; any width if none.
    """
    room = np.zeros(len(graph.nodes)) if room is None else room
    between = NARROWEST + BETWEEN
    close = min(1.0, (LONG if widest is None else widest / 2) / max(len(graph.tokens) * between, 1))
    least = np.maximum(0.0 if narrowest is None else narrowest, np.full(len(graph.tokens), NARROWEST * close))
    cells = _cells(graph)
    capacities = CAPACITIES if widest is None else (*NARROW, *CAPACITIES)
    plans = [_Plan.of(graph, cells, room + STEP, least, capacity, BETWEEN * close) for capacity in capacities]
    # The least squeezed; of several, the one whose width is as it should be to its height.
    best = min(
        plans,
        key=lambda plan: (
            -min(_squeeze(plan, widest)),
            abs(np.log(max(plan.width, 1) / max(plan.height, 1) / ASPECT)),
        ),
    )
    return _squeezed(best.place(len(graph.nodes), room + STEP), *_squeeze(best, widest))


def _squeeze(plan: _Plan, widest: float | None) -> tuple[float, float]:
    if widest is None:
        return 1.0, 1.0
    return min(1.0, widest / max(plan.width, 1)), min(1.0, min(TALLEST * widest, PAGE) / max(plan.height, 1))


def _squeezed(layout: Layout, across: float, upwards: float) -> Layout:
    return replace(
        layout,
        x=layout.x * across,
        y=layout.y * upwards,
        width=layout.width * across,
        height=layout.height * upwards,
        column_x=layout.column_x * across,
        column_width=layout.column_width * across,
        layer_y={layer: y * upwards for layer, y in layout.layer_y.items()},
        layer_height={layer: high * upwards for layer, high in layout.layer_height.items()},
        squeezed=(across, upwards),
    )


def _cells(graph: AttributionGraph) -> dict[tuple[int, int], list[int]]:
    """The rows of the node table in each (layer, position), the most influential first."""
    nodes = graph.nodes
    matters = np.where(nodes.kind == "logit", graph.goal, nodes.influence)
    cells: dict[tuple[int, int], list[int]] = {}
    for row in np.argsort(-matters, kind="stable").tolist():
        cells.setdefault((int(nodes.layer[row]), int(nodes.position[row])), []).append(row)
    return cells


@dataclass(frozen=True)
class _Plan:
    """Every cell broken into rows, and how much space columns and layers take for it."""

    rows: dict[tuple[int, int], list[list[int]]]
    columns: np.ndarray  # widths, the one for what has no position first. [1 + pos]
    layers: dict[int, float]  # heights, from the top layer down
    between: float  # columns

    @classmethod
    def of(
        cls, graph: AttributionGraph, cells: dict, size: np.ndarray, least: np.ndarray, capacity: float, between: float
    ) -> _Plan:
        columns = np.concatenate([[0.0], least])
        rows = {}
        answers = max((layer for layer, _ in cells), default=0)
        for layer, position in sorted(cells):
            members = cells[layer, position]
            # What is on top stays within its column, so that not everything fans out to reach it.
            if layer == answers:
                capacity = min(capacity, max(float(columns[position + 1]), float(size[members].max()), 240.0))
            broken = [[members[0]]]
            used = float(size[members[0]])
            for node in members[1:]:
                if used + size[node] > capacity:
                    broken.append([])
                    used = 0.0
                broken[-1].append(node)
                used += size[node]
            rows[layer, position] = broken
            widest = max(float(size[row].sum()) for row in broken)
            columns[position + 1] = max(columns[position + 1], widest)
        busiest: dict[int, int] = {}
        for (layer, _), broken in rows.items():
            busiest[layer] = max(busiest.get(layer, 0), len(broken))
        top, bottom = max(busiest, default=0), min(busiest, default=0)
        gap = float(np.clip(TALL / max(len(busiest), 1), *GAPS))
        layers = {
            layer: busiest[layer] * ROW + gap if layer in busiest else EMPTY for layer in range(top, bottom - 1, -1)
        }
        return cls(rows, columns, layers, between)

    @property
    def width(self) -> float:
        return float((self.columns + self.gaps).sum())

    @property
    def gaps(self) -> np.ndarray:
        gaps = np.full(len(self.columns), self.between)
        gaps[0] *= self.columns[0] > 0
        return gaps

    @property
    def height(self) -> float:
        return sum(self.layers.values())

    def place(self, count: int, size: np.ndarray) -> Layout:
        slots = self.columns + self.gaps
        left = np.cumsum(slots) - slots + self.gaps / 2
        tops = dict(zip(self.layers, np.cumsum([0.0, *self.layers.values()]), strict=False))
        x, y = np.zeros(count), np.zeros(count)
        # A few nodes with labels to their right read like a list when they begin on one line; a crowd stands centred.
        longest = max((len(row) for broken in self.rows.values() for row in broken), default=0)
        indent = 0.0 if longest <= LIST and size.max(initial=STEP) > STEP else 0.5
        for (layer, position), broken in self.rows.items():
            column = position + 1
            for place, row in enumerate(broken):
                begins = left[column] + (self.columns[column] - size[row].sum()) * indent
                x[row] = begins + np.cumsum(size[row]) - size[row] + STEP / 2
                used = len(broken) * ROW
                y[row] = tops[layer] + (self.layers[layer] - used) / 2 + (place + 0.5) * ROW
        return Layout(
            x=x,
            y=y,
            width=self.width,
            height=self.height,
            column_x=left[1:] + self.columns[1:] / 2,
            column_width=self.columns[1:],
            layer_y={layer: float(tops[layer] + high / 2) for layer, high in self.layers.items()},
            layer_height=dict(self.layers),
        )
