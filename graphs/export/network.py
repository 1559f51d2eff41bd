"""The graph for network programs: a networkx graph, and the files that Gephi, Cytoscape and spreadsheets read."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx
import numpy as np
from networkx.readwrite.gexf import GEXFWriter

from graphs.graph import AttributionGraph

if TYPE_CHECKING:
    from graphs.assays import Assay

NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")  # control characters, halves, what is none
COLUMNS = ("kind", "layer", "position", "feature", "activation", "value", "gross", "influence", "label")


def to_networkx(graph: AttributionGraph) -> networkx.DiGraph:
    """The same graph as a `networkx.DiGraph`: nodes are rows, with the columns of the node table and `goal`.

    Edges run source -> target, with `weight` (signed) and `share` (signed, of all that the target received; 0 from a
    bias). The graph itself carries its `tokens`, in one text. Values that are nan are left out: GraphML and GEXF have
    no word for them.
    """
    network = networkx.DiGraph(tokens=_plain(" ".join(graph.tokens)))
    for row in range(len(graph.nodes)):
        values = {name: _plain(getattr(graph.nodes, name)[row]) for name in COLUMNS}
        values["goal"] = float(graph.goal[row])
        network.add_node(row, **{name: value for name, value in values.items() if value == value})
    for source, target, weight, share in _edges(graph):
        network.add_edge(source, target, weight=weight, share=share)
    return network


def write_graphml(graph: AttributionGraph, path: Path, *, assay: Assay | None = None) -> None:
    """A GraphML file of `to_networkx(graph)`. Text that XML cannot hold (control characters) is replaced."""
    networkx.write_graphml_xml(to_networkx(graph), path)


def write_gexf(graph: AttributionGraph, path: Path, *, assay: Assay | None = None) -> None:
    """A GEXF file of `to_networkx(graph)`, for Gephi."""
    network = to_networkx(graph)
    network.graph.clear()  # GEXF has no place for a graph's own properties
    writer = GEXFWriter(encoding="utf-8", prettyprint=True)
    writer.add_graph(network)
    for element in writer.xml:
        element.attrib.pop("name", None)  # nor, says its schema, for the name that networkx gives it
    with open(path, "wb") as file:
        writer.write(file)


def write_csv(graph: AttributionGraph, path: Path, *, assay: Assay | None = None) -> None:
    """One line per edge, ends spelled out: source and target each with row, kind, layer, position, feature, label."""
    shown = ("kind", "layer", "position", "feature", "label")
    ends = [[end, *(f"{end}_{name}" for name in shown)] for end in ("source", "target")]
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow([*ends[0], *ends[1], "weight", "share"])
        for source, target, weight, share in _edges(graph):
            cells = [[row, *(_plain(getattr(graph.nodes, name)[row]) for name in shown)] for row in (source, target)]
            table.writerow([*cells[0], *cells[1], repr(weight), repr(share)])


def write_nodes_csv(graph: AttributionGraph, path: Path, *, assay: Assay | None = None) -> None:
    """One line per node: its row, which the table of edges names it by, the columns of the node table, and `goal`."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["row", *COLUMNS, "goal"])
        for row in range(len(graph.nodes)):
            values = [_plain(getattr(graph.nodes, name)[row]) for name in COLUMNS]
            cells = [("" if each != each else repr(each)) if isinstance(each, float) else each for each in values]
            table.writerow([row, *cells, repr(float(graph.goal[row]))])


def _edges(graph: AttributionGraph) -> list[tuple[int, int, float, float]]:
    gross = graph.nodes.gross[graph.target]
    counts = (gross > 0) & (graph.nodes.kind[graph.source] != "bias")
    share = np.divide(graph.weight, gross, out=np.zeros(len(gross)), where=counts)
    columns = (graph.source, graph.target, graph.weight, share)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _plain(value: Any) -> Any:
    """A Python value in place of a numpy one, without the characters that XML forbids."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return NO_TEXT.sub("\ufffd", value)
    return value
