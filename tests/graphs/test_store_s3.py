"""A store on S3, for real: a server of our own, its requests counted. Skipped without s3fs and moto."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from graphs import Assay, Store, Verdict
from graphs.errors import CannotWrite, ForeignFolder, UnreachableStore
from graphs.query import opened
from graphs.questions import holding
from graphs.records import RECORD, TABLES
from tests.worlds import graph_of

s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: nothing was stored on S3 (pip install s3fs)")
moto = pytest.importorskip("moto.server", reason="moto is not installed: S3 was not tried (pip install 'moto[server]')")

ROOT = Path(__file__).parents[2]
WRITER = """
import sys
from tests.graphs.test_store_s3 import assay, small
from graphs import Store

store = Store(sys.argv[1])
print("ready", flush=True)
for number in range(1000):
    id = store.save(small(), assay(number))
    store.add(id, "trials", b"%d" % number, most=5)
    print("saved", flush=True)
"""


def small(prompt="dallas", weight=1.0):
    return graph_of([(0, 1, weight), (1, 2, -1)], "token feature logit", provenance={"prompt": prompt})


def assay(number):
    return Assay({}, 1e-7, [], {}, [], [Verdict("it holds", "supported", number, "above 0", "none")])


@pytest.fixture(scope="module")
def server():
    """A server with one bucket, found as any other: by environment variables."""
    with pytest.MonkeyPatch.context() as patch:
        serving = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        serving.start()
        host, port = serving.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "anybody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("no_proxy", "*")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("bucket")
        yield serving
        serving.stop()
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def store(server, request):
    return Store(f"s3://bucket/{request.node.name}")


@pytest.fixture
def asked(monkeypatch):
    """Requests by kind, and how many."""
    from aiobotocore.endpoint import AioEndpoint

    found = Counter()
    really = AioEndpoint.make_request

    async def make_request(self, model, data):
        found[model.name] += 1
        return await really(self, model, data)

    monkeypatch.setattr(AioEndpoint, "make_request", make_request)
    return found


def test_what_goes_in_comes_out(store):
    assert store.list() == []
    id, other = store.save(small(), assay(1)), store.save(small("austin", 2.0))
    store.keep_assay(id, assay(2))
    store.attach(id, "graph.svg", lambda path: path.write_bytes(b"<svg/>"))
    for number in range(3):
        store.add(id, "trials", b"%d" % number, most=2)

    assert {entry.id: entry.verdicts for entry in store.list()} == {id: ("supported",), other: ()}
    assert store.load("dal").weight.tolist() == [1, -1] and store.assay(id).verdicts == assay(2).verdicts
    assert store.added(id, "trials") == [b"1", b"2"]
    assert (store.find(id) / "graph.svg").read_bytes() == b"<svg/>"
    assert store.query("select sum(weight) as all from edges")["all"].to_pylist() == [1]
    nodes = store.load(id).nodes
    with opened(store) as base:
        assert set(holding(base, nodes.unit(1))["graph"].to_pylist()) == {id, other}
    store.save(small(), assay(3))
    assert sorted(store.find(id).sizes()) == sorted([RECORD, *TABLES]) and store.assay(id).verdicts == assay(3).verdicts


@pytest.mark.parametrize("file", [*TABLES, RECORD])
def test_a_file_that_is_cut_short_is_named(store, file):
    folder = store.find(store.save(small()))
    (folder / file).write_bytes((folder / file).read_bytes()[:-9])

    with pytest.raises(ForeignFolder, match=file):
        store.load("dallas")
    assert str(folder) in store.list()[0].problem
    assert store.query("from nodes").num_rows == 0


def test_many_graphs_are_listed_and_looked_up_in_a_few_requests(store, asked):
    for number in range(8):
        store.save(small(f"number {number}"))
    store.query("from nodes")
    asked.clear()

    assert len(store.list()) == 8
    assert asked["ListObjectsV2"] == 1 and asked.total() <= 3, asked
    assert store.query("from nodes").num_rows == 24
    assert asked.total() <= 40, asked  # whatever is in the files of the index


def test_two_who_write_at_once_and_are_killed_leave_a_graph_that_is_whole(store):
    writers = []
    try:
        for _ in range(2):
            command = [sys.executable, "-c", WRITER, str(store.folder)]
            writers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ))
        for writer in writers:
            assert [writer.stdout.readline() for _ in range(2)] == ["ready\n", "saved\n"]
        for _ in range(5):
            (entry,) = store.list()
            assert entry.problem == "" and store.load(entry.id).tokens == ("dallas",)
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()

    (entry,) = store.list()
    assert store.load(entry.id).weight.tolist() == [1, -1] and store.assay(entry.id).verdicts[0].number >= 0
    store.save(small(), assay(-1))
    assert store.assay(entry.id).verdicts[0].number == -1 and store.added(entry.id, "trials") == []


def test_trials_of_several_at_once_are_all_kept(store):
    id = store.save(small())
    threads = [
        threading.Thread(target=lambda: [Store(str(store.folder)).add(id, "trials", b"{}", most=99) for _ in range(4)])
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(store.added(id, "trials")) == 12


def test_it_is_served(store):
    from starlette.testclient import TestClient

    from circuits.serving.app import make_app

    id = store.save(small(), assay(0.125))
    client = TestClient(make_app(store, lambda *_: pytest.fail("no model is wanted")), base_url="http://127.0.0.1")

    assert id in client.get("/").text and "0.125" in client.get(f"/graphs/{id}").text
    store.keep_assay(id, assay(0.375))
    assert "0.375" in client.get(f"/graphs/{id}").text
    assert client.get(f"/graphs/{id}/trials").json() == []


def test_what_keeps_it_from_being_reached_is_told(server, monkeypatch):
    with pytest.raises(CannotWrite, match="bucket does not exist"):
        Store("s3://no-bucket/x").save(small())
    s3fs.S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    with pytest.raises(UnreachableStore, match="cannot be reached: Unable to locate credentials"):
        Store("s3://bucket/x").list()
    s3fs.S3FileSystem.clear_instance_cache()
