"""A store that several use at once, and one whose writer was killed: a graph is whole, and never lost."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from graphs import Assay, Store, Verdict, catalog
from graphs.errors import CannotWrite, ForeignFolder, UnknownGraph
from graphs.records import read_sheet
from graphs.shelves import LOOKS
from graphs.staging import ATTACHING, SAVING, _exchange, land, recover, staging
from tests.worlds import graph_of

ROOT = Path(__file__).parents[2]


def small(prompt="dallas"):
    return graph_of([(0, 1, 1.0), (1, 2, -1)], "token feature logit", provenance={"prompt": prompt})


def assay(number):
    return Assay({}, 1e-7, [], {}, [], [Verdict("it holds", "supported", number, "above 0", "none")])


def at_once(*jobs):
    """Run the jobs in threads of their own until all are done; returns what they raised."""
    raised = []

    def run(job):
        try:
            job()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@pytest.fixture(params=["exchanged", "two renames"])
def landing(request, monkeypatch):
    """The two ways in which a graph takes another's place: what Linux does, and what is left to other systems."""
    if request.param == "two renames":
        monkeypatch.setattr("graphs.staging._exchange", lambda one, other: False)
    return request.param


def test_two_who_save_the_same_graph_both_succeed_and_readers_see_it_whole(tmp_path, landing):
    store = Store(tmp_path)
    id = store.save(small(), assay(0))
    done = threading.Event()
    numbers = []

    def write(number):
        for _ in range(6):
            Store(tmp_path).save(small(), assay(number))
            Store(tmp_path).attach(id, "graph.svg", b"<svg/>")

    def read():
        while not done.is_set():
            reader = Store(tmp_path)
            assert reader.load(id).tokens == ("dallas",)
            assert [entry.problem for entry in reader.list()] == [""]
            numbers.append(reader.assay("dallas").verdicts[0].number)

    readers = threading.Thread(target=lambda: raised.extend(at_once(read, read)))
    raised: list[BaseException] = []
    readers.start()
    try:
        assert at_once(lambda: write(1), lambda: write(2), lambda: write(3)) == []
    finally:
        done.set()
        readers.join()

    assert raised == []
    assert set(numbers) <= {0, 1, 2, 3}
    assert os.listdir(tmp_path) == [id]
    assert store.assay(id).verdicts[0].number in (1, 2, 3)


@pytest.mark.parametrize("away", range(LOOKS))
def test_a_graph_that_is_away_at_one_look_is_listed(tmp_path, monkeypatch, away):
    store = Store(tmp_path)
    id = store.save(small())
    looked = []

    def stamp(folder, files):
        if Path(folder).name != id:
            return catalog.stamp(folder, files)
        looked.append(folder)
        return [None] * len(files) if len(looked) - 1 == away else catalog.stamp(folder, files)

    monkeypatch.setattr("graphs.shelves.stamp", stamp)
    with staging(tmp_path, SAVING):  # somebody saves, so the store is looked through again and again
        assert [entry.id for entry in store.list()] == [id]
    assert len(looked) >= LOOKS


def test_a_file_lands_beside_a_graph_that_is_replaced_meanwhile(tmp_path):
    store = Store(tmp_path)
    id = store.save(small())

    def draw(path):
        store.save(small(), assay(1))  # another trace of the same prompt, while we draw
        path.write_bytes(b"<svg/>")

    assert store.attach(id, "graph.svg", draw).read_bytes() == b"<svg/>"
    assert store.assay(id).verdicts == assay(1).verdicts


def test_of_what_several_add_at_once_nothing_is_lost_and_each_finds_its_own_in_order(tmp_path):
    id = Store(tmp_path).save(small())

    def add(writer):
        for number in range(8):
            Store(tmp_path).add(id, "trials", f"{writer} {number}".encode(), most=100)

    assert at_once(*(partial(add, writer) for writer in range(4))) == []

    found = [tuple(map(int, each.split())) for each in Store(tmp_path).added(id, "trials")]
    assert sorted(found) == [(writer, number) for writer in range(4) for number in range(8)]
    for writer in range(4):
        assert [each for each in found if each[0] == writer] == [(writer, number) for number in range(8)]
    Store(tmp_path).add(id, "trials", b"last", most=3)
    assert len(Store(tmp_path).added(id, "trials")) == 3 and Store(tmp_path).added(id, "trials")[-1] == b"last"
    assert Store(tmp_path).added(id, "others") == []


def test_what_is_added_lands_beside_a_graph_that_is_replaced_meanwhile(tmp_path, monkeypatch):
    store = Store(tmp_path)
    id = store.save(small())
    store.add(id, "trials", b"first", most=9)
    really, turns = os.replace, []

    def replace(one, other):
        if "trials" in str(other) and not turns:
            turns.append(store.save(small(), assay(1)))  # which has none yet: their folder is gone
        really(one, other)

    monkeypatch.setattr(os, "replace", replace)
    store.add(id, "trials", b"second", most=9)

    assert turns == [id] and store.added(id, "trials") == [b"second"]
    assert store.assay(id).verdicts == assay(1).verdicts


def test_a_graph_that_is_removed_meanwhile_does_not_come_back_empty(tmp_path):
    store = Store(tmp_path)
    folder = store.find(store.save(small()))

    with pytest.raises(UnknownGraph):
        store.attach(folder, "graph.svg", lambda path: (path.write_bytes(b"<svg/>"), shutil.rmtree(folder)))

    assert os.listdir(tmp_path) == []


def kill_between_the_renames(folder, final):
    """What is on disk when a writer is killed after it moved the graph of before away."""
    place = folder / f"{SAVING}killed"
    (place / "new").mkdir(parents=True)
    (place / "new" / "nodes.parquet").write_bytes(b"half")
    final.rename(place / "old")


@pytest.mark.parametrize("use", [Store.list, lambda store: store.find("dallas"), lambda store: store.save(small("b"))])
def test_what_a_killed_writer_had_moved_away_comes_back(tmp_path, use):
    store = Store(tmp_path)
    id = store.save(small(), assay(1))
    kill_between_the_renames(tmp_path, tmp_path / id)

    use(Store(tmp_path))

    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
    assert store.assay(id).verdicts == assay(1).verdicts


def test_a_path_to_what_a_killed_writer_had_moved_away_leads_there_again(tmp_path):
    id = Store(tmp_path).save(small())
    kill_between_the_renames(tmp_path, tmp_path / id)

    assert Store("elsewhere").load(tmp_path / id).tokens == ("dallas",)


def test_a_graph_that_landed_later_is_not_replaced_by_what_a_killed_writer_left(tmp_path):
    store = Store(tmp_path)
    id = store.save(small(), assay(1))
    kill_between_the_renames(tmp_path, tmp_path / id)
    (tmp_path / f"{SAVING}killed").rename(tmp_path / "aside")
    store.save(small(), assay(2))
    (tmp_path / "aside").rename(tmp_path / f"{SAVING}killed")

    assert store.assay(id).verdicts == assay(2).verdicts
    store.list()
    assert os.listdir(tmp_path) == [id]
    assert store.assay(id).verdicts == assay(2).verdicts


@pytest.mark.parametrize("left", [{"id": "../out"}, {"id": None}, {}, None])
def test_what_nobody_can_name_is_not_thrown_away(tmp_path, left):
    old = tmp_path / f"{SAVING}killed" / "old"
    old.mkdir(parents=True)
    (old / "graph.json").write_text("{" if left is None else str(left).replace("'", '"').replace("None", "null"))

    assert Store(tmp_path).list() == []
    assert (old / "graph.json").exists()


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_holds_is_not(tmp_path):
    words = "from graphs.staging import *; from pathlib import Path; import os\n"
    words += f"with staging(Path({str(tmp_path)!r}), ATTACHING): os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", words], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)

    with staging(tmp_path, SAVING) as place:
        (place / "new").mkdir()
        recover(tmp_path)
        assert os.listdir(tmp_path) == [place.name] and left != place.name
        assert (place / "new").exists()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("of", ["a writer", "who swept behind it"])
def test_what_is_left_of_a_removal_that_was_cut_short_is_swept(tmp_path, monkeypatch, of):
    store = Store(tmp_path)
    id = store.save(small())

    def cut_short(place, **_):
        for record in Path(place).rglob("graph.json"):
            record.unlink()

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", cut_short)
        if of == "a writer":
            patched.setattr("graphs.staging._exchange", lambda *_: False)
            store.save(small())
        else:
            shutil.copytree(tmp_path / id, tmp_path / f"{SAVING}killed" / "old-0")
            store.list()
    (left,) = set(os.listdir(tmp_path)) - {id}
    assert any((tmp_path / left).rglob("nodes.parquet"))

    assert [entry.id for entry in store.list()] == os.listdir(tmp_path) == [id]


def test_a_file_that_was_to_be_attached_is_swept_whatever_its_name(tmp_path):
    left = tmp_path / f"{ATTACHING}killed"
    left.mkdir()
    (left / "older.svg").write_text("half")

    recover(tmp_path)

    assert os.listdir(tmp_path) == []


def test_a_graph_that_its_writer_had_no_time_to_put_back_is_not_removed_with_the_rest(tmp_path):
    store = Store(tmp_path)
    id = store.save(small(), assay(1))

    with pytest.raises(KeyboardInterrupt), staging(tmp_path, SAVING) as place:
        (tmp_path / id).rename(place / "old-0")
        raise KeyboardInterrupt

    assert os.listdir(tmp_path) == [id]
    assert store.assay(id).verdicts == assay(1).verdicts


def test_a_graph_whose_folder_cannot_be_moved_is_replaced_file_by_file(tmp_path, monkeypatch):
    #   As on overlayfs, where the folder is of a layer below: rename(2) says EXDEV.
    store = Store(tmp_path)
    id = store.save(small(), assay(1))
    store.attach(id, "note.txt", b"of the first")
    store.add(id, "trials", b"{}", most=5)
    rename = Path.rename

    def refuse(self, target):
        if self == tmp_path / id:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr("graphs.staging._exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", refuse)
    store.save(small(), assay(2))

    assert store.assay(id).verdicts == assay(2).verdicts
    assert sorted(os.listdir(tmp_path / id)) == ["edges.parquet", "graph.json", "nodes.parquet"]
    assert os.listdir(tmp_path) == [id]


@pytest.mark.parametrize("what", ["a file", "a link to a folder", "a link to nowhere"])
def test_what_stands_where_a_graph_is_to_go_and_is_no_folder_is_named(tmp_path, what):
    store = Store(tmp_path / "store")
    place = store.find(store.save(small()))
    place.rename(tmp_path / "moved")
    if what == "a file":
        place.write_text("mine")
    else:
        place.symlink_to(tmp_path / ("moved" if what == "a link to a folder" else "nowhere"))

    with pytest.raises(CannotWrite, match=f"{place.name} is a file or a link"):
        store.save(small())

    assert os.listdir(tmp_path / "store") == [place.name]
    assert place.is_symlink() or place.read_text() == "mine"


def test_where_the_disk_knows_no_locks_age_decides(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    store = Store(tmp_path)
    id = store.save(small())
    with staging(tmp_path, SAVING) as young:
        (tmp_path / f"{SAVING}old").mkdir()
        os.utime(tmp_path / f"{SAVING}old", (0, 0))
        store.list()
        assert sorted(os.listdir(tmp_path)) == sorted([id, young.name])
    assert store.load(id).tokens == ("dallas",)


def test_a_writer_that_was_held_up_between_its_renames_still_lands(tmp_path):
    store = Store(tmp_path)
    id = store.save(small(), assay(1))
    with staging(tmp_path, SAVING) as place:
        (tmp_path / id).rename(place / "old")
        new = place / "new"
        new.mkdir()
        (new / "graph.json").write_text("later")

        assert store.assay(id).verdicts == assay(1).verdicts  # brought back after a second, for whoever reads
        land(new, tmp_path / id)

    assert (tmp_path / id / "graph.json").read_text() == "later"


def test_a_graph_that_is_replaced_is_never_away(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    if not _exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this system cannot exchange two folders in one step, so a graph is away for a moment")
    store = Store(tmp_path / "store")
    id = store.save(small(), assay(0))
    done, missed = threading.Event(), []

    def look():
        while not done.is_set():
            if not (tmp_path / "store" / id / "graph.json").exists():
                missed.append(id)

    looker = threading.Thread(target=look)
    looker.start()
    for number in range(20):
        store.save(small(), assay(number))
    done.set()
    looker.join()

    assert missed == []
    assert os.listdir(tmp_path / "store") == [id] and store.assay(id).verdicts == assay(19).verdicts


def test_folders_that_cannot_be_exchanged_stay_as_they_are(tmp_path):
    (tmp_path / "new").mkdir()

    assert not _exchange(tmp_path / "new", tmp_path / "gone")
    assert os.listdir(tmp_path) == ["new"]


def test_a_disk_that_refuses_is_told_and_what_was_there_stays(tmp_path, monkeypatch):
    store = Store(tmp_path)
    id = store.save(small(), assay(1))
    rename = Path.rename

    def refuse_the_new(self, target):
        if self.name == "new" and not Path(target).exists():
            raise OSError(5, "Input/output error")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr("graphs.staging._exchange", lambda one, other: False)
        patch.setattr(Path, "rename", refuse_the_new)
        with pytest.raises(CannotWrite, match="Input/output error"):
            store.save(small(), assay(2))

    assert store.assay(id).verdicts == assay(1).verdicts
    assert os.listdir(tmp_path) == [id]


def test_what_was_replaced_while_it_was_read_is_read_again_and_what_is_damaged_is_not(tmp_path, monkeypatch):
    store = Store(tmp_path)
    id = store.save(small(), assay(0))
    turns = []

    def replaced_meanwhile(folder):
        turns.append(folder)
        if len(turns) == 1:
            Store(tmp_path).save(small(), assay(1))
            raise ForeignFolder("half of the one, half of the other")
        return read_sheet(folder)

    monkeypatch.setattr("graphs.store.read_sheet", replaced_meanwhile)
    found = store.assay(id)
    assert found is not None and found.verdicts[0].number == 1 and len(turns) == 2

    (tmp_path / id / "graph.json").write_text("{}")
    with pytest.raises(ForeignFolder, match="no record of ours"):
        store.assay(id)
    assert len(turns) == 3


def test_a_graph_that_was_away_all_the_while_it_was_read_is_looked_for_again(tmp_path, monkeypatch):
    store = Store(tmp_path)
    id = store.save(small(), assay(1))
    really, turns = Store.find, []

    def find(self, graph):
        if turns:
            (tmp_path / "away").rename(tmp_path / id)
        folder = really(self, graph)
        turns.append(folder)
        if len(turns) == 1:
            folder.rename(tmp_path / "away")  # as another writer does, between its two renames
        return folder

    monkeypatch.setattr(Store, "find", find)
    found = store.assay(id)

    assert found is not None and found.verdicts == assay(1).verdicts and len(turns) == 2
