"""`circuits list`, `show` and `draw`, on a store with two small graphs."""

from __future__ import annotations

import json
import os

import pytest

from circuits.__main__ import main
from graphs import Assay, Store, Verdict, prune
from tests.worlds import graph_of

#   token 0 --3--> feature 1 --(-1)--> logit 3 <--1-- error 2
GRAPH = graph_of([(0, 1, 3), (1, 3, -1), (2, 3, 1)], "token feature error logit", provenance={"model": "toy"})
ASSAY = Assay({}, 1e-7, [], {}, [], [Verdict("the texas feature is needed", "supported", 0.5, "above 0.2", "none")])


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = Store("circuits-store")
    found.save(prune(GRAPH, nodes=1, edges=1), name="one", assay=ASSAY)
    found.save(GRAPH, name="two")
    return found


def ids(store):
    return sorted(entry.id for entry in store.list())


def test_list_has_a_line_for_each_graph(store, capsys):
    assert main(["list"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines) == ids(store)
    assert all("4 nodes" in line and "3 edges" in line and "toy" in line for line in lines)


def test_list_is_read_by_machines(store, capsys):
    main(["list", "--json"])

    assert sorted(each["id"] for each in json.loads(capsys.readouterr().out)) == ids(store)


def test_list_of_an_empty_store_says_what_to_do(tmp_path, capsys):
    assert main(["list", "--store", str(tmp_path)]) == 0
    assert "trace a prompt first" in capsys.readouterr().out


def test_show_says_what_the_graph_holds(store, capsys):
    assert main(["show", "one"]) == 0

    out = capsys.readouterr().out
    assert "kept 4 of 4 nodes and 3 of 3 edges, carrying 100% of the influence" in out
    assert "replacement 0.50" in out
    assert "50.0%  token 0 (+1.00)> feature 1 L1 @dallas (-0.50)> logit 3" in out
    assert "supported: the texas feature is needed" in out


def test_show_is_read_by_machines(store, capsys):
    main(["show", "two", "--json"])

    record = json.loads(capsys.readouterr().out)
    assert record["prompt"] == "dallas" and record["scores"]["replacement"] == 0.5


def test_a_graph_is_found_by_its_folder_too(store, capsys):
    for text in (f"circuits-store/{ids(store)[0]}", str(store.folder.resolve() / ids(store)[0])):
        assert main(["show", text, "--store", "elsewhere"]) == 0
    assert main(["show", "three"]) == 2
    assert "three" in capsys.readouterr().err


def test_draw_writes_the_file_that_is_named(store, tmp_path, capsys):
    assert main(["draw", "one", "-o", "x.csv"]) == 0
    assert capsys.readouterr().out == "wrote x.csv, 0 kB\n"
    assert (tmp_path / "x.csv").read_text().count("\n") == 4

    assert main(["draw", "one", "-o", "y.csv", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_draw_of_several_graphs_fills_a_folder(store, tmp_path, capsys):
    assert main(["draw", "one", "two", "-o", "out/", "--as", "csv", "--json"]) == 0

    expected = [f"{id}.csv" for id in ids(store)]
    assert sorted(os.listdir(tmp_path / "out")) == expected
    assert json.loads(capsys.readouterr().out) == [f"out/{name}" for name in expected]
    assert main(["draw", "one", "two", "-o", "x.csv"]) == 2


def test_draw_without_a_place_puts_the_picture_beside_the_graph(store):
    assert main(["draw", "one", "--as", ".graphml"]) == 0

    assert (store.find("one") / "graph.graphml").exists()


@pytest.mark.parametrize("words", [["one", "-o", "x.jpeg"], ["one", "-o", "nowhere/x.csv"], ["nobody", "-o", "x.csv"]])
def test_what_cannot_be_drawn_is_code_2(store, capsys, words):
    assert main(["draw", *words]) == 2
    assert capsys.readouterr().err.startswith("circuits: ")
