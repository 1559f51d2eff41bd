"""Commands on a store that is no folder of this machine."""

from __future__ import annotations

import json

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from circuits.__main__ import main
from graphs import Store
from tests.worlds import graph_of

STORE = ["--store", "memory://commands/store"]


@pytest.fixture
def id(tmp_path, monkeypatch):
    """One graph in memory, and nothing in the current folder."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    monkeypatch.chdir(tmp_path)
    made = {"prompt": "dallas", "model": "toy"}
    yield Store(STORE[1]).save(graph_of([(0, 1, 1.0), (1, 2, 2.0)], "token feature logit", provenance=made))
    assert list(tmp_path.iterdir()) == []


def test_it_is_listed_shown_drawn_and_asked_of(id, capsys):
    assert main(["list", *STORE]) == 0
    assert id in capsys.readouterr().out

    assert main(["draw", "dal", *STORE]) == 0
    assert f"wrote memory://commands/store/{id}/graph.svg, " in capsys.readouterr().out
    assert (Store(STORE[1]).find(id) / "graph.svg").read_bytes().endswith(b"</svg>\n")

    assert main(["show", "dal", *STORE]) == 0
    said = capsys.readouterr().out
    assert f"{id}, in memory://commands/store/{id}" in said and "graph.json, graph.svg" in said

    assert main(["query", "select id from graphs", "--json", *STORE]) == 0
    assert json.loads(capsys.readouterr().out) == [{"id": id}]


def test_what_is_not_there_is_said(id, capsys):
    assert main(["show", "austin", *STORE]) == 2
    assert f"no graph in memory://commands/store begins with 'austin'. There are: {id}" in capsys.readouterr().err
    assert main(["list", "--store", "memory://nothing/here"]) == 0
    assert "there is no store memory://nothing/here yet" in capsys.readouterr().out


def test_circuits_of_components_are_found_into_it_and_nothing_is_left_here(id, tmp_path_factory):
    pairs = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    clean, corrupted = ("the capital of the state containing " + city + " is" for city in ("dallas", "oakland"))
    line = {"clean": clean, "corrupted": corrupted, "right": "austin", "wrong": "sacramento"}
    pairs.write_text(json.dumps(line))

    assert main(["find", str(pairs), "--method", "eap", "--edges", "9", "--quiet", *STORE]) == 0

    assert [entry.id for entry in Store(STORE[1]).list() if entry.id.startswith("pairs-")]
