"""Files for network programs and spreadsheets: read by other programs, nothing of the graph is missing."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import networkx
import numpy as np
import pytest

from graphs import export
from graphs.export.network import COLUMNS, to_networkx
from tests.worlds import graph_of

#   token 0 --0.1--> feature 1 --(-3)--> logit 3 <--1-- bias 2;  error 4 stands alone
PLAIN = graph_of([(0, 1, 0.1), (1, 3, -3), (2, 3, 1e-300)], "token feature bias logit error")
LABELS = np.array(["<b>", 'comma, "quote"', "new\nline", " é→", ""], dtype=object)
GRAPH = replace(PLAIN, nodes=PLAIN.nodes.with_columns(label=LABELS, feature=np.array([7, 2**40, -1, 3, -1])))


def node_of(row) -> dict[str, Any]:
    values = {name: getattr(GRAPH.nodes, name)[row] for name in COLUMNS}
    return {name: value for name, value in values.items() if value == value} | {"goal": GRAPH.goal[row]}


def test_tables_of_nodes_and_of_edges_are_the_whole_graph(tmp_path):
    with open(export(GRAPH, tmp_path / "x.nodes.csv"), newline="", encoding="utf-8") as file:
        nodes = list(csv.DictReader(file))
    with open(export(GRAPH, tmp_path / "x.csv"), newline="", encoding="utf-8") as file:
        edges = list(csv.DictReader(file))

    assert len(nodes) == 5
    for row, found in enumerate(nodes):
        assert int(found["row"]) == row
        for name, value in node_of(row).items():
            assert type(value)(found[name]) == value, name
    assert nodes[0]["value"] == ""  # not known of a source
    assert [(int(e["source"]), int(e["target"]), float(e["weight"])) for e in edges] == list(
        zip(GRAPH.source.tolist(), GRAPH.target.tolist(), GRAPH.weight.tolist(), strict=True)
    )


def test_a_spreadsheet_program_reads_them_too(tmp_path):
    pandas = pytest.importorskip("pandas")
    nodes = pandas.read_csv(export(GRAPH, tmp_path / "x.NODES.csv"), keep_default_na=False, na_values={"value": [""]})

    assert nodes["label"].tolist() == LABELS.tolist()
    assert nodes["feature"].tolist() == GRAPH.nodes.feature.tolist()
    assert np.array_equal(nodes["value"], GRAPH.nodes.value, equal_nan=True)


@pytest.mark.parametrize(("suffix", "read"), [(".graphml", networkx.read_graphml), (".gexf", networkx.read_gexf)])
def test_network_files_hold_every_column_of_every_node_and_edge(tmp_path, suffix, read):
    found = read(export(GRAPH, tmp_path / f"x{suffix}"))

    assert found.number_of_nodes() == 5
    for row in range(5):
        for name, value in node_of(row).items():
            read_back = found.nodes[str(row)][name]
            assert read_back == value, name
    expected = {(str(s), str(t)): data for s, t, data in to_networkx(GRAPH).edges(data=True)}
    assert {(s, t): {k: data[k] for k in ("weight", "share")} for s, t, data in found.edges(data=True)} == expected


def test_text_that_xml_has_no_word_for_is_replaced(tmp_path):
    label = "a\x00\x1f\r\ufffe\uffff\ud800é\n\t\u2028😀<&]]>"
    graph = replace(GRAPH, nodes=GRAPH.nodes.with_columns(label=np.array([label] * 5, dtype=object)), tokens=(label,))
    plain = "a" + "\ufffd" * 6 + "é\n\t\u2028😀<&]]>"

    assert networkx.read_graphml(export(graph, tmp_path / "x.graphml")).nodes["0"]["label"] == plain
    assert networkx.read_gexf(export(graph, tmp_path / "x.gexf")).nodes["0"]["label"] == plain
    with open(export(graph, tmp_path / "x.nodes.csv"), newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["label"] == plain


def test_a_gexf_file_has_no_word_that_its_schema_forbids(tmp_path):
    # Of the published schema of GEXF 1.2: a graph may have these attributes, and no name.
    root = ElementTree.parse(export(GRAPH, tmp_path / "x.gexf")).getroot()
    (graph,) = root.iter("{http://www.gexf.net/1.2draft}graph")

    assert graph.attrib == {"defaultedgetype": "directed", "mode": "static"}
    assert root.get("version") == "1.2"


def test_any_reader_of_xml_finds_the_edges_of_a_graphml_file(tmp_path):
    root = ElementTree.parse(export(GRAPH, tmp_path / "x.graphml")).getroot()
    space = "{http://graphml.graphdrawing.org/xmlns}"
    keys = {key.get("id"): key.get("attr.name") for key in root.iter(f"{space}key")}
    edges = {
        (int(edge.get("source", "")), int(edge.get("target", ""))): float(data.text or "")
        for edge in root.iter(f"{space}edge")
        for data in edge.iter(f"{space}data")
        if keys[data.get("key")] == "weight"
    }

    assert edges == dict(
        zip(zip(GRAPH.source.tolist(), GRAPH.target.tolist(), strict=True), GRAPH.weight.tolist(), strict=True)
    )
