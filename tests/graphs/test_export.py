"""Exports: the right writer for each ending, whole files or none, and graphs that other programs read as ours."""

from __future__ import annotations

import csv
import os
import re
from importlib import import_module
from pathlib import Path

import networkx
import pytest
from hypothesis import given

from graphs import draw, export
from graphs.errors import CannotWrite, UnknownPicture
from graphs.export import EXPORTERS, PICTURES, network
from graphs.export.network import to_networkx
from tests.worlds import graph_of, graphs

#   token 0 --1--> feature 1 --(-3)--> logit 3 <--1-- bias 2;  token 0 --1--> logit 3
GRAPH = graph_of([(0, 1, 1), (1, 3, -3), (2, 3, 1), (0, 3, 1)], "token feature bias logit")


@pytest.mark.parametrize("place", sorted(set(EXPORTERS.values())))
def test_every_line_of_the_table_names_a_writer(place):
    module, function = place.split(":")

    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize(("number", "remedy"), [(28, "free some space"), (30, "change its permissions")])
def test_what_to_do_depends_on_why_a_file_cannot_be_written(tmp_path, monkeypatch, number, remedy):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CannotWrite, match=rf"{os.strerror(number)}. Choose another folder \(.*\), or {remedy}"):
        export(GRAPH, tmp_path / "x.csv")
    assert not list(tmp_path.iterdir())


def test_on_a_disk_that_may_only_be_read_the_file_that_was_wanted_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(network, "write_csv", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)  # as such a disk does, whether the file is there or not
    with pytest.raises(CannotWrite, match=f"^{re.escape(str(tmp_path / 'x.csv'))} could not be written"):
        export(GRAPH, tmp_path / "x.csv")


@pytest.mark.parametrize("suffix", [".graphml", ".gexf", ".csv"])
def test_an_export_is_written_whole_and_alone(tmp_path, suffix):
    path = tmp_path / f"x{suffix.upper()}"
    path.write_text("what was there before")

    assert export(GRAPH, path) == path

    assert os.listdir(tmp_path) == [path.name]
    assert "token" in path.read_text()


def test_a_writer_that_is_cut_short_leaves_what_was_there(tmp_path, monkeypatch):
    def half(graph, path, *, assay):
        path.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(network, "write_csv", half)
    (tmp_path / "x.csv").write_text("before")

    with pytest.raises(KeyboardInterrupt):
        export(GRAPH, tmp_path / "x.csv")

    assert os.listdir(tmp_path) == ["x.csv"]
    assert (tmp_path / "x.csv").read_text() == "before"


def test_an_ending_that_nobody_writes_is_refused_with_those_that_somebody_does(tmp_path):
    with pytest.raises(UnknownPicture, match=r"'\.jpeg'; known endings are \.svg, \.png"):
        draw(GRAPH, tmp_path / "x.jpeg")
    with pytest.raises(UnknownPicture, match="no ending"):
        draw(GRAPH, tmp_path / "x")
    with pytest.raises(UnknownPicture, match="for export"):
        draw(GRAPH, tmp_path / "x.csv")
    assert set(PICTURES) < set(EXPORTERS)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()

    with pytest.raises(CannotWrite, match="no folder"):
        export(GRAPH, tmp_path / "nowhere" / "x.csv")
    with pytest.raises(CannotWrite, match="it is a folder"):
        export(GRAPH, tmp_path / "folder.csv")
    with pytest.raises(CannotWrite, match="file is no folder"):
        export(GRAPH, tmp_path / "file" / "x.csv")


@given(graphs())
def test_the_network_has_our_nodes_and_edges(graph):
    found = to_networkx(graph)

    assert networkx.is_directed_acyclic_graph(found)
    assert {(s, t): data["weight"] for s, t, data in found.edges(data=True)} == {
        (s, t): w for s, t, w in zip(graph.source.tolist(), graph.target.tolist(), graph.weight.tolist(), strict=True)
    }
    assert [found.nodes[row]["kind"] for row in range(len(graph.nodes))] == graph.nodes.kind.tolist()


@pytest.mark.parametrize(("suffix", "read"), [(".graphml", networkx.read_graphml), (".gexf", networkx.read_gexf)])
def test_what_a_network_program_reads_is_what_was_written(tmp_path, suffix, read):
    found = read(export(GRAPH, tmp_path / f"x{suffix}"))

    assert found.edges["1", "3"]["weight"] == -3.0
    assert found.edges["1", "3"]["share"] == -0.75
    assert found.edges["2", "3"]["share"] == 0.0  # a bias
    assert found.nodes["0"]["kind"] == "token"
    assert "value" not in found.nodes["0"]  # nan in ours


def test_a_spreadsheet_has_a_line_an_edge_with_its_ends_spelled_out(tmp_path):
    path = export(GRAPH, tmp_path / "x.csv")
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    assert [(row["source_label"], row["target_kind"], float(row["weight"])) for row in rows] == [
        ("token 0", "feature", 1.0),
        ("token 0", "logit", 1.0),
        ("feature 1", "logit", -3.0),
        ("bias 2", "logit", 1.0),
    ]
