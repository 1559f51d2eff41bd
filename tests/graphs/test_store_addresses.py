"""A store that is no folder of this machine: what it does is the same, and a graph is there whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from graphs import Assay, Store, Verdict
from graphs import store as module
from graphs.addresses import Address
from graphs.errors import BadQuery, CannotWrite, ForeignFolder, UnknownGraph, UnknownStore, UnreachableStore
from graphs.index import INDEX
from graphs.query import opened
from graphs.records import RECORD, TABLES
from graphs.shelves import kept_tables
from graphs.shelves import names_in as names
from tests.worlds import graph_of


def small(prompt="dallas", weight=1.0):
    return graph_of([(0, 1, weight), (1, 2, -1)], "token feature logit", provenance={"prompt": prompt})


def assay(number):
    return Assay({}, 1e-7, [], {}, [], [Verdict("it holds", "supported", number, "above 0", "none")])


@pytest.fixture(params=["folder", "file://folder", "memory://folder"])
def store(request, tmp_path):
    """A store on this machine, by its path and by its address, and one in memory."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    return Store(
        request.param.replace(
            "folder", str(tmp_path / "store").lstrip("/") if "memory" in request.param else str(tmp_path / "store")
        )
    )


@pytest.fixture
def far(tmp_path):
    """A store in memory."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    return Store("memory://far/store")


def names_in(store):
    """The files of the only graph there."""
    (entry,) = store.list()
    files = (
        entry.folder.sizes() if isinstance(entry.folder, Address) else [each.name for each in entry.folder.iterdir()]
    )
    return sorted(files)


def test_what_goes_in_comes_out_wherever_the_store_lies(store):
    assert store.list() == []
    with pytest.raises(UnknownGraph, match="empty"):
        store.load("dallas")

    id, other = store.save(small(), assay(1)), store.save(small("austin", 2.0))

    assert {entry.id for entry in store.list()} == {id, other}
    assert store.load(id).weight.tolist() == store.load("dal").weight.tolist() == [1, -1]
    assert store.load(store.find(other)).weight.tolist() == [2, -1]
    assert store.assay(id).verdicts == assay(1).verdicts and store.assay(other) is None
    assert str(store.find(id)) == f"{store.folder}/{id}"
    assert store.query("select id, nodes from graphs order by id").to_pylist() == [
        {"id": other, "nodes": 3},
        {"id": id, "nodes": 3},
    ]
    assert store.query("select sum(weight) as all from edges")["all"].to_pylist() == [1]
    for name in ("../dallas", "", ".", "nowhere", f"{id}/", f"/{id}"):
        with pytest.raises(UnknownGraph):
            store.load(name)


def test_what_is_attached_goes_when_the_graph_is_saved_again(store):
    id = store.save(small(), assay(1))

    store.attach(id, "graph.svg", lambda path: path.write_bytes(b"<svg/>"))
    path = store.attach(id, "note.txt", b"seen")
    store.keep_assay(id, assay(2))

    assert path.read_bytes() == b"seen"
    assert names_in(store) == sorted([RECORD, *TABLES, "assay.json", "graph.svg", "note.txt"])
    assert store.assay(id).verdicts == assay(2).verdicts
    with pytest.raises(CannotWrite, match="plain name"):
        store.attach(id, "../out", b"")

    assert store.save(small(), assay(3)) == id
    assert names_in(store) == sorted([RECORD, *TABLES])
    assert store.assay(id).verdicts == assay(3).verdicts


def test_what_is_added_one_by_one_comes_back_in_order_and_is_no_graph(store):
    id = store.save(small())

    for number in range(4):
        place = store.add(id, "trials", b"%d" % number, most=3)

    assert place.read_bytes() == b"3" and place.suffix == ".json"
    assert store.added(id, "trials") == [b"1", b"2", b"3"] and store.added(id, "others") == []
    (entry,) = store.list()
    assert entry.id == id and "trials" in {each.name for each in entry.folder.iterdir()}
    store.save(small(), assay(1))
    assert store.added(id, "trials") == []


@pytest.mark.parametrize("file", [*TABLES, RECORD])
def test_damage_is_named_wherever_the_store_lies(store, file):
    folder = store.find(store.save(small()))
    (folder / file).write_bytes((folder / file).read_bytes()[:-9])

    with pytest.raises(ForeignFolder, match=file):
        store.load("dallas")
    assert str(folder) in store.list()[0].problem


class Lost(Exception):
    """The connection, or the process."""


def fail_at(monkeypatch, step):
    """The step-th file that is sent fails."""
    sent = []
    really = Address.put

    def put(self, file: Path):
        sent.append(self.name)
        if len(sent) == step:
            raise Lost
        really(self, file)

    monkeypatch.setattr(Address, "put", put)
    return sent


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_graph_that_was_not_sent_whole_is_none(far, monkeypatch, step):
    with monkeypatch.context() as patch:
        fail_at(patch, step)
        with pytest.raises(Lost):
            far.save(small())

    assert far.list() == []
    with pytest.raises(UnknownGraph):
        far.load("dallas")
    assert far.query("from nodes").num_rows == 0
    assert far.load(far.save(small())).tokens == ("dallas",)


def test_of_a_graph_that_is_there_only_the_record_is_sent_and_until_then_it_is_as_it_was(far, monkeypatch):
    id = far.save(small(), assay(1))
    far.attach(id, "note.txt", b"seen")

    with monkeypatch.context() as patch:
        sent = fail_at(patch, 1)
        with pytest.raises(Lost):
            far.save(small(), assay(2))
        assert sent == [RECORD]

    assert far.assay(id).verdicts == assay(1).verdicts and "note.txt" in names_in(far)
    far.save(small(), assay(2))
    assert far.assay(id).verdicts == assay(2).verdicts


def test_tables_that_are_damaged_are_sent_again(far):
    folder = far.find(far.save(small()))
    content = far.record(folder)["content"]
    assert kept_tables(folder, content) and kept_tables(folder, "other") is None
    (folder / "nodes.parquet").write_bytes(b"short")

    assert kept_tables(folder, content) is None
    assert far.load(far.save(small())).tokens == ("dallas",)


def test_two_who_send_the_same_graph_leave_one_that_is_whole(far):
    raised = []

    def write(number):
        try:
            for _ in range(5):
                Store("memory://far/store").save(small(), assay(number))
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert raised == []
    (entry,) = far.list()
    assert far.load(entry.id).tokens == ("dallas",)
    assert far.assay(entry.id).verdicts[0].number in (1, 2, 3)


def test_a_writer_whose_tables_were_overwritten_sends_them_again(far, monkeypatch):
    really = Address.put
    sent = []

    def put(self, file):
        really(self, file)
        sent.append(self.name)
        if sent == [*TABLES, RECORD]:  # another program version writes the same graph, in other bytes
            (self.parent / "nodes.parquet").write_bytes(b"other bytes")

    monkeypatch.setattr(Address, "put", put)

    assert far.load(far.save(small())).tokens == ("dallas",)
    assert sent == [*TABLES, RECORD, *TABLES]


def test_what_is_added_while_the_graph_is_saved_again_stays(far, monkeypatch):
    id = far.save(small())
    far.add(id, "trials", b"before", most=9)
    really = Address.put

    def put(self, file):
        really(self, file)
        if self.name == RECORD:
            monkeypatch.setattr(Address, "put", really)
            far.add(id, "trials", b"meanwhile", most=9)

    monkeypatch.setattr(Address, "put", put)
    far.save(small(), assay(1))

    assert far.added(id, "trials") == [b"meanwhile"] and far.assay(id).verdicts == assay(1).verdicts


def test_a_disk_that_refuses_is_told(far, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Address, "put", refuse)
    with pytest.raises(CannotWrite, match="memory://far/store: Permission denied"):
        far.save(small())


def test_an_address_that_nobody_knows_is_refused():
    with pytest.raises(UnknownStore, match="nowhere://x cannot be opened: Protocol not known: nowhere"):
        Store("nowhere://x")


def test_many_graphs_far_away_are_remembered_there(far, monkeypatch):
    monkeypatch.setattr("graphs.store.MANY", 2)
    ids = {far.save(small()), far.save(small("austin"))}
    assert {entry.id for entry in far.list()} == ids

    read = []
    monkeypatch.setattr("graphs.store.read_line", read.append)
    assert {entry.id for entry in far.list()} == ids and read == []


def test_far_away_files_of_the_index_stay_while_a_question_may_be_at_them(far, monkeypatch):
    index = far.folder / INDEX
    for number in range(3):
        far.save(small(f"number {number}"))
        assert far.query("from nodes").num_rows == 3 * (number + 1)
    before = set(index.sizes())
    assert len(before) > 1 and far.query("from nodes").num_rows == 9 and set(index.sizes()) == before

    monkeypatch.setattr("graphs.index.IN_USE", -1.0)
    assert far.query("from nodes").num_rows == 9 and len(index.sizes()) < len(before)
    assert far.query("from nodes").num_rows == 9


def test_the_edges_of_what_is_gone_by_now_are_none(far):
    id, other = far.save(small()), far.save(small("austin", 2.0))
    with opened(far) as base:
        for name in far.find(id).sizes():
            (far.folder / id / name).unlink()
        assert set(base.ask("from edges")["graph"].to_pylist()) == {other}
        assert base.ask("select sum(weight) from edges", among=[id]).to_pylist()[0].popitem()[1] is None


@pytest.mark.parametrize("table", ["nodes", "edges"])
def test_questions_read_nothing_beside_the_graphs_there_either(far, table):
    far.save(small())
    (far.folder / "notes.csv").write_bytes(b"said\nsecret\n")
    for file in (f"{far.folder}/notes.csv", "memory://far/*", "/etc/hostname"):
        with pytest.raises(BadQuery, match="no files"):
            far.query(f"select * from read_csv('{file}'), {table}")


@pytest.mark.parametrize(
    "fault", [RuntimeError("Unable to locate credentials."), ConnectionResetError(), TimeoutError()]
)
def test_an_address_that_does_not_answer_is_told_and_is_no_damage(far, monkeypatch, fault):
    id = far.save(small())

    def fail(*_, **__):
        raise fault

    for ask in ("cat_file", "info", "find", "put_file"):
        with monkeypatch.context() as patch:
            patch.setattr(MemoryFileSystem, ask, fail)
            with pytest.raises(UnreachableStore, match=r"memory://far/store.* cannot be reached: .*docs/store\.md"):
                far.load(id), far.list(), far.save(small("other"))


@pytest.mark.parametrize("url", ["memory://", "memory:///"])
def test_an_address_of_no_folder_is_refused(url):
    with pytest.raises(UnknownStore, match="names no folder"):
        Store(url)


def test_far_away_even_one_graph_is_remembered_and_several_are_read_at_once(far, monkeypatch):
    far.save(small())
    far.list()
    monkeypatch.setattr("graphs.store.read_line", None)
    assert [entry.prompt for entry in far.list()] == ["dallas"]
    monkeypatch.undo()

    together = threading.Barrier(3, timeout=20)
    really = module.read_line
    monkeypatch.setattr(module, "read_line", lambda folder: together.wait() >= 0 and really(folder))
    for number in range(3):
        far.save(small(f"number {number}"))
    assert [entry.problem for entry in far.list()] == [""] * 4


def test_what_lies_deeper_is_no_graph_and_what_is_gone_by_now_is_passed_over(far, monkeypatch):
    id = far.save(small())
    (far.folder / "other" / "project" / RECORD).write_bytes(b"{}")
    assert [entry.id for entry in far.list()] == [id]

    far.add(id, "trials", b"there", most=9)
    monkeypatch.setattr(module, "names_in", lambda folder: ["gone.json", *names(folder)])
    assert far.added(id, "trials") == [b"there"]
