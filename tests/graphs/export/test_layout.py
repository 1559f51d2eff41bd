"""Layout: every node has a place of its own, in its token's column and its layer's band."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given, strategies

from graphs.export.layout import ROW, STEP, place_nodes
from tests.worlds import graph_of, graphs


@strategies.composite
def scattered(draw):
    """Any small graph, its nodes thrown over columns and layers, with room for labels of any width."""
    graph = draw(graphs(most_inner=30))
    columns = draw(strategies.integers(1, 6))
    rng = np.random.default_rng(draw(strategies.integers(0, 2**32 - 1)))
    count = len(graph.nodes)
    middle = ~np.isin(graph.nodes.kind, ("token", "logit"))
    nodes = graph.nodes.with_columns(
        position=rng.integers(-1, columns, count),
        layer=np.where(middle, rng.integers(0, 4, count), np.where(graph.nodes.kind == "token", -1, 7)),
        influence=rng.random(count),
    )
    graph = replace(graph, nodes=nodes, token_ids=tuple(range(columns)), tokens=("word",) * columns)
    return graph, rng.integers(0, 2) * rng.random(count) * 150


@given(scattered())
def test_no_node_or_its_room_lies_on_another(world):
    graph, room = world

    layout = place_nodes(graph, room=room)

    left, right = layout.x - STEP / 2, layout.x + STEP / 2 + room
    apart = (left[:, None] >= right[None] - 1e-6) | (left[None] >= right[:, None] - 1e-6)
    above = np.abs(layout.y[:, None] - layout.y[None]) >= ROW - 1e-6
    assert (apart | above | np.eye(len(room), dtype=bool)).all()
    assert left.min() >= -1e-6 and right.max() <= layout.width + 1e-6
    assert layout.y.min() >= ROW / 2 and layout.y.max() <= layout.height - ROW / 2


@given(scattered())
def test_tokens_are_columns_from_left_to_right_and_layers_are_bands_from_bottom_to_top(world):
    graph, room = world

    layout = place_nodes(graph, room=room)

    ends = layout.column_x + layout.column_width / 2
    begins = layout.column_x - layout.column_width / 2
    assert (begins[1:] >= ends[:-1]).all()
    for row, (layer, position) in enumerate(zip(graph.nodes.layer.tolist(), graph.nodes.position, strict=True)):
        assert abs(layout.y[row] - layout.layer_y[layer]) <= layout.layer_height[layer] / 2
        if position < 0:
            assert layout.x[row] < begins[0]
        else:
            assert begins[position] <= layout.x[row] <= ends[position]
    layers = sorted(layout.layer_y)
    assert layers == list(range(min(layers), max(layers) + 1))
    for low, high in pairwise(layers):
        gap = layout.layer_y[low] - layout.layer_y[high]
        assert np.isclose(gap, (layout.layer_height[low] + layout.layer_height[high]) / 2)


def test_in_a_cell_the_most_influential_stands_first():
    graph = graph_of([(0, 4, 1), (1, 4, 1), (2, 4, 1), (3, 4, 1)], "token feature feature feature logit")
    nodes = graph.nodes.with_columns(layer=np.array([-1, 0, 0, 0, 1]), influence=np.array([1.0, 0.2, 0.7, 0.5, 0.0]))

    layout = place_nodes(replace(graph, nodes=nodes))

    assert layout.x[2] < layout.x[3] < layout.x[1]
    assert layout.y[1] == layout.y[2] == layout.y[3]


def test_a_crowd_in_one_cell_goes_on_in_further_rows():
    count = 200
    kinds = ["token", *["feature"] * count, "logit"]
    graph = graph_of([(0, i, 1.0) for i in range(1, count + 2)], kinds)
    layer = np.array([-1, *[0] * count, 1])

    layout = place_nodes(replace(graph, nodes=graph.nodes.with_columns(layer=layer)))

    assert layout.width < count * STEP / 2
    assert len(np.unique(layout.y[1:-1])) > 3


def test_a_token_without_nodes_has_a_column_all_the_same():
    graph = replace(graph_of([(0, 1, 1)], "token logit"), token_ids=(1, 2, 3), tokens=("a", "b", "c"))

    layout = place_nodes(graph, narrowest=np.array([0.0, 90.0, 0.0]))

    assert len(layout.column_x) == 3
    assert layout.column_width[1] == 90 > layout.column_width[2] > 0
