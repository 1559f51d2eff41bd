"""Nodes by name: a row, a unit and where it fires, or a label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphs.errors import BadOption
from graphs.graph import AttributionGraph


def find_nodes(graph: AttributionGraph, nodes: Sequence[int | str]) -> list[int]:
    """The rows that are meant: rows themselves; `L2/544@3` by layer, unit and position; `L2/544` at every position;
    or a label, every node that has it.

    Raises:
        BadOption: there is no such node.
    """
    rows: set[int] = set()
    for each in nodes:
        if isinstance(each, str):
            known = [
                row
                for row in range(len(graph.nodes))
                if each in (name_of(graph, row), name_of(graph, row).split("@")[0])
            ]
            known = known or np.flatnonzero(graph.nodes.label == each).tolist()
            if not known:
                raise BadOption(
                    f"the graph has no node {each!r}: name a row, a unit such as L2/544 or L2/544@3, or a label."
                )
            rows.update(known)
        elif 0 <= each < len(graph.nodes):
            rows.add(int(each))
        else:
            raise BadOption(f"the graph has nodes 0..{len(graph.nodes) - 1}, found {each}.")
    return sorted(rows)


def name_of(graph: AttributionGraph, row: int) -> str:
    """`L2/544@3`: layer, unit and position, which name a unit in any graph of the same model and prompt."""
    nodes = graph.nodes
    return f"L{nodes.unit(row)}@{nodes.position[row]}"
