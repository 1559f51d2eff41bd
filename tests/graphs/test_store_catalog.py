"""A listing that remembers says what one that reads would say, whatever happens in between."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from graphs import Assay, Store, Verdict
from graphs import store as module
from graphs.catalog import CATALOG
from tests.worlds import graph_of

ASSAY = Assay({}, 1e-7, [], {}, [], [Verdict("it holds", "supported", 0.5, "above 0", "none")])


def small(prompt):
    return graph_of([(0, 1, 1.0), (1, 2, -1)], "token feature logit", provenance={"prompt": prompt, "model": "toy"})


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store of three, which is many here, gone through once."""
    monkeypatch.setattr(module, "MANY", 3)
    monkeypatch.setattr(module, "LONG", 1)
    found = Store(tmp_path)
    for prompt in ("one", "two", "three"):
        found.save(small(prompt))
    found.list()
    return found


def count_readings(monkeypatch):
    read = []
    really = module.read_line
    monkeypatch.setattr(module, "read_line", lambda folder: read.append(folder.name) or really(folder))
    return read


def as_read(store):
    """The listing of a store that remembers nothing."""
    catalog = store.folder / CATALOG
    whole = catalog.read_bytes()
    catalog.unlink()
    entries = store.list()
    catalog.write_bytes(whole)
    return entries


def test_what_did_not_change_is_not_read_again(store, monkeypatch):
    expected = as_read(store)
    read = count_readings(monkeypatch)

    assert store.list() == expected and read == []
    assert [entry.prompt for entry in expected] == ["three", "two", "one"]


def test_what_is_saved_where_there_are_many_is_remembered_at_once(store, monkeypatch):
    monkeypatch.setattr(module, "LONG", 10**6)
    read = count_readings(monkeypatch)

    store.save(small("four"), assay=ASSAY)

    latest = store.list()[0]
    assert (latest.prompt, latest.verdicts) == ("four", ("supported",)) and read == []


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.keep_assay("one", ASSAY),
        lambda store: store.save(small("one"), assay=ASSAY),
        lambda store: store.save(small("four")),
        lambda store: shutil.rmtree(store.find("two")),
        lambda store: store.find("two").rename(store.folder / "renamed"),
        lambda store: (store.find("two") / "edges.parquet").write_bytes(b"short"),
        lambda store: (store.find("two") / "nodes.parquet").unlink(),
        lambda store: (store.find("two") / "graph.json").write_text("{"),
    ],
)
def test_what_changed_is_seen(store, change):
    before = store.list()
    change(store)

    assert store.list() == as_read(store) != before


@pytest.mark.parametrize("damage", [b"", b"{}", b"0\n{}", None])
def test_a_damaged_catalog_is_none(store, damage):
    path = store.folder / CATALOG
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"toy"', b'"joy"') if damage is None else damage)

    assert [entry.model for entry in store.list()] == ["toy"] * 3
    assert len(json.loads(path.read_bytes().partition(b"\n")[2])) == 3  # and it is written anew


def test_where_nothing_may_be_written_nothing_is_remembered(store, monkeypatch):
    (store.folder / CATALOG).unlink()

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    assert len(store.list()) == 3
    assert not (store.folder / CATALOG).exists()


def test_a_few_graphs_leave_no_catalog(tmp_path):
    store = Store(tmp_path)
    id = store.save(small("one"))
    store.list()

    assert os.listdir(tmp_path) == [id]
