"""A disk that is full, and a writer that is killed: what was there is there, and nothing is there half."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from graphs import Assay, Store, Verdict, draw
from graphs.errors import CannotWrite
from graphs.staging import is_staged
from tests.worlds import graph_of

resource = pytest.importorskip("resource", reason="only POSIX limits the size of files")
ROOT = Path(__file__).parents[2]


def small(prompt="dallas"):
    return graph_of([(0, 1, 1.0), (1, 2, -1)], "token feature logit", provenance={"prompt": prompt})


def assay(number):
    return Assay({}, 1e-7, [], {}, [], [Verdict("it holds", "supported", number, "above 0", "none")])


@contextmanager
def room(size):
    """Lets files grow to so many bytes, after which a write fails in the middle, as on a full disk.

    Within the test: what pytest says of it goes to a file too, perhaps.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 300, 1500])  # no byte; half a table; the tables, and half the record
def test_a_save_that_the_disk_has_no_room_for_is_told_and_leaves_what_was_there(tmp_path, size):
    store = Store(tmp_path)
    id = store.save(small(), assay(1))
    sizes = {path.name: path.stat().st_size for path in (tmp_path / id).iterdir()}
    assert size < max(sizes.values())

    with room(size):
        for prompt in ("dallas", "austin"):
            with pytest.raises(CannotWrite, match=r"could not be stored in .* --store, or free some space"):
                store.save(small(prompt), assay(2))
        with pytest.raises(CannotWrite, match=r"x\.svg could not be written"):
            store.attach(id, "x.svg", b"x" * 2000)

    assert os.listdir(tmp_path) == [id]
    assert store.assay(id).verdicts == assay(1).verdicts
    assert {path.name: path.stat().st_size for path in (tmp_path / id).iterdir()} == sizes


def test_what_finds_no_room_beside_a_graph_is_called_by_its_own_name(tmp_path):
    store = Store(tmp_path)
    id = store.save(small())

    for name, put in (
        ("graph.svg", lambda: store.attach(id, "graph.svg", lambda path: draw(small(), path))),
        ("assay.json", lambda: store.keep_assay(id, assay(1))),
    ):
        with room(300), pytest.raises(CannotWrite) as said:
            put()
        assert str(said.value).startswith(f"{tmp_path / id / name} could not be written: File too large. The graph")
        assert ".attaching" not in str(said.value) and "is stored" in str(said.value)
    assert store.load(id).tokens == ("dallas",)


def test_what_helps_listings_and_questions_may_find_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr("graphs.store.MANY", 1)
    store = Store(tmp_path)
    ids = {store.save(small("dallas")), store.save(small("austin"))}
    (tmp_path / ".catalog.lines").unlink()

    for size in (20, 10_000):
        with room(size):
            assert {entry.id for entry in store.list()} == ids
            assert len(store.query("from nodes")) == 6


@pytest.mark.parametrize(
    "step",
    [
        "graphs.store.write_table",  # one table is there
        "graphs.store.write_bytes",  # everything is written and nothing in place
        "graphs.staging._exchange",  # it has taken the place of the graph of before
        "pathlib.Path.rename",  # the graph of before is moved away, where the system cannot exchange the two
        "graphs.shelves._sync_folder",
        "graphs.catalog.add",
    ],
)
def test_a_writer_that_is_killed_loses_nothing(tmp_path, step):
    store = Store(tmp_path)
    id = store.save(small(), assay(1))
    words = f"""
import os, importlib, unittest.mock
from graphs import Store
import graphs.store, graphs.shelves, graphs.staging, graphs.catalog, pathlib
from tests.graphs.test_store_full_disk import assay, small
owner, _, name = {step!r}.rpartition(".")
owner = pathlib.Path if owner == "pathlib.Path" else importlib.import_module(owner)
really = getattr(owner, name)
def killed(*each, **named):
    really(*each, **named)
    os.kill(os.getpid(), 9)
graphs.store.MANY = 1
if name == "rename":
    graphs.staging._exchange = lambda one, other: False
setattr(owner, name, killed)
Store({str(tmp_path)!r}).save(small(), assay(2))
"""
    done = subprocess.run([sys.executable, "-c", words], cwd=ROOT, check=False)

    assert done.returncode == -signal.SIGKILL
    entries = Store(tmp_path).list()
    assert all(not entry.problem for entry in entries) and id in {entry.id for entry in entries}
    assert store.assay(id).verdicts[0].number in (1, 2)
    for entry in entries:
        assert store.load(entry.id).tokens == ("dallas",)
    assert store.load(store.save(small(), assay(3))).tokens == ("dallas",)
    assert not [name for name in os.listdir(tmp_path) if is_staged(name)]
