"""What a page holds of a graph and of the store, and for how long pages are kept."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from circuits.serving import guard
from circuits.serving import pages as serving
from circuits.serving.app import make_app
from circuits.serving.guard import HEADERS, MOST, Guard
from circuits.serving.pages import Pages, comparable, listing, part_around, rows_in
from graphs import Store
from graphs.store import Entry
from tests.circuits.test_serving import ASKING, HOST, load, status_of, traced
from tests.worlds import layered


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_the_pages_that_were_looked_at_last_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch):
    made: list[str] = []

    def note(_: Any, *, served: dict[str, Any], **more: Any) -> str:
        made.append(served["id"][0])
        return "page"

    monkeypatch.setattr(serving, "to_html", note)
    monkeypatch.setattr(serving, "PAGES", 2)
    pages, ids = Pages(store), {name: store.save(traced(), name=name) for name in ("a", "b", "c")}

    for name in "abacab":
        pages.page(ids[name])

    assert "".join(made) == "abcb"


def test_a_page_that_is_kept_does_not_wait_for_one_that_is_made(store: Store, monkeypatch: pytest.MonkeyPatch):
    begun, go_on = threading.Event(), threading.Event()

    def make(_: Any, *, served: dict[str, Any], **more: Any) -> str:
        if served["id"][0] == "b":
            begun.set()
            assert go_on.wait(60)
        return served["id"]

    monkeypatch.setattr(serving, "to_html", make)
    pages, one, other = Pages(store), store.save(traced(), name="a"), store.save(traced(), name="b")
    kept = pages.page(one)
    with ThreadPoolExecutor() as pool:
        made = [pool.submit(pages.page, other) for _ in range(2)]
        try:
            assert begun.wait(60)
            assert pool.submit(pages.page, one).result(60) is kept
        finally:
            go_on.set()
        assert made[0].result() is made[1].result()  # made once for both


def test_nodes_are_found_by_all_the_words_the_most_influential_first(store: Store, monkeypatch: pytest.MonkeyPatch):
    graph = traced()
    client = TestClient(make_app(store, load), base_url=HOST)
    id = store.save(graph)

    def found(words: str) -> list[int]:
        return [each["node"] for each in client.get(f"/graphs/{id}/nodes", params={"find": words}).json()]

    label = str(graph.nodes.label[graph.nodes.where("feature")[0]])
    expected = [row for row, each in enumerate(graph.nodes.label) if label.lower() in str(each).lower()]
    assert sorted(found(f" {label.upper()} ")) == expected
    rows = found("L")
    influence = np.nan_to_num(graph.nodes.influence[rows])
    assert len(rows) > 2 and (np.diff(influence) <= 0).all() and (np.diff(rows) < 0).any()
    assert found(" ") == []
    monkeypatch.setattr(serving, "AROUND", 2)
    assert found("L") == rows[:2]


def test_around_a_node_are_its_strongest_inputs_and_outputs_all_tokens_and_what_is_explained(
    monkeypatch: pytest.MonkeyPatch,
):
    whole = layered(400, layers=4, positions=8)
    monkeypatch.setattr(serving, "AROUND", 3)
    middle = int(np.median(whole.nodes.where("feature")))
    size = np.abs(whole.weight)
    near = {middle}
    for here, beyond in ((whole.target, whole.source), (whole.source, whole.target)):
        edges = sorted(np.flatnonzero(here == middle), key=lambda edge: -size[edge])
        near |= {int(beyond[edge]) for edge in edges[:3]}
    always = {*whole.nodes.where("token").tolist(), *np.flatnonzero(whole.goal).tolist()}

    part = part_around(whole, middle)
    assert len(near) == 7 and set(rows_in(whole, part).tolist()) == near | always

    monkeypatch.setattr(serving, "MOST_EDGES", 5)
    few = part_around(whole, middle)
    assert sorted(np.abs(few.weight)) == sorted(np.abs(part.weight))[-5:] and len(few.nodes) == len(part.nodes)
    with pytest.raises(IndexError, match="nodes 0 to"):
        part_around(whole, len(whole.nodes))


def entry(id: str, **more: Any) -> Entry:
    return Entry(id, Path(id), **more)


def test_other_graphs_to_compare_with_are_whole_and_no_more_than_a_list_takes(monkeypatch: pytest.MonkeyPatch):
    nameless = [entry("one", prompt="a"), entry("two", prompt="b c"), entry("bad", problem="damaged")]

    def others(id: str, words: str = "") -> list[str]:
        return [each["id"] for each in comparable(nameless, id, words)]

    assert others("one") == ["two"] and others("one", " B C ") == ["two"]
    assert others("gone") == others("bad") == []
    nameless += [entry(f"more {i}") for i in range(9)]
    monkeypatch.setattr(serving, "OTHERS", 3)
    assert others("one") == ["two", "more 0", "more 1"]


def test_a_long_list_says_what_it_leaves_out_and_verdicts_are_counted(monkeypatch: pytest.MonkeyPatch):
    entries = [entry(f"graph-{i}", verdicts=("supported", "not supported")) for i in range(3)]
    monkeypatch.setattr(serving, "LINES", 3)
    assert "are shown" not in listing(entries, "") and "1 of 2 supported" in listing(entries, "")
    monkeypatch.setattr(serving, "LINES", 2)
    said = listing(entries, "")
    assert "3 graphs; the latest 2 are shown" in said and said.count("<td>graph-") == 2


def test_rows_in_another_script_or_of_a_thousand_digits_are_none_and_words_are_cut(store: Store):
    client = TestClient(make_app(store, load), base_url=HOST)
    id = store.save(traced())
    for row in ("²", "1" * 5000, "", "+1"):
        assert client.get(f"/graphs/{id}", params={"around": row}).status_code == 400
        assert client.get(f"/graphs/{id}/heads", params={"node": row}).status_code == 400
    assert client.get(f"/graphs/{id}", params={"around": len(traced().nodes)}).status_code == 404
    assert "x" * 200 in (page := client.get("/", params={"find": "x" * 9000}).text) and "x" * 201 not in page


def test_every_answer_says_what_a_browser_may_do_with_it(store: Store):
    client = TestClient(make_app(store, load, hosts=(), token="secret"), base_url=HOST, follow_redirects=False)
    moved = client.get("/?find=&token=secret")
    answers = [moved, client.get("/"), client.get("/graphs/none"), client.get("/none"), client.post("/")]
    client.cookies.clear()
    answers.append(client.get("/"))

    assert [each.status_code for each in answers] == [303, 200, 404, 404, 403, 401]
    for each in answers:
        assert {name: each.headers.get(name) for name in HEADERS} == HEADERS
    assert HEADERS["Cache-Control"] == "no-store" and HEADERS["Referrer-Policy"] == "no-referrer"
    assert HEADERS["X-Content-Type-Options"] == "nosniff" and HEADERS["Cross-Origin-Resource-Policy"] == "same-origin"
    assert moved.headers["location"] == "/?find="
    cookie = {part.strip().lower() for part in moved.headers["set-cookie"].split(";")}
    assert {"httponly", "samesite=lax"} <= cookie  # no script reads it; a link elsewhere may lead here, and no more


@pytest.mark.parametrize(
    ("sizes", "status"), [([MOST], 400), ([MOST + 1], 413), ([MOST // 2] * 3, 413), ([9] * 3, 400)]
)
def test_a_body_is_counted_in_all_its_pieces(store: Store, sizes: list[int], status: int):
    id = store.save(traced())
    pieces = [{"type": "http.request", "body": b"x" * size, "more_body": True} for size in sizes]
    pieces[-1]["more_body"] = False

    async def receive() -> Any:
        return pieces.pop(0)

    asking = {**ASKING, "content-type": "application/json; charset=utf-8"}
    headers = [(name.encode(), value.encode()) for name, value in asking.items()]
    assert status_of(make_app(store, load), "POST", f"/graphs/{id}/trials", headers, receive) == status


@pytest.mark.parametrize("length", [b"\xb2", str(MOST + 1).encode(), b"1_0"])
def test_a_length_that_is_too_much_or_none_is_refused_before_anything_is_read(store: Store, length: bytes):
    async def nothing() -> Any:
        raise AssertionError("read")

    assert status_of(make_app(store, load), "GET", "/", [(b"content-length", length)], nothing) == 413


def test_who_sent_all_of_a_body_may_wait_for_the_answer_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "PATIENCE", 0.01)
    heard: list[str] = []
    coming = [{"type": "http.request", "body": b""}, {"type": "http.disconnect"}]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        heard.extend([(await receive())["type"] for _ in range(2)])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Any:
        if len(coming) == 1:
            await asyncio.sleep(0.05)
        return coming.pop(0)

    assert status_of(Guard(app, hosts=(), token=""), "GET", "/", [], receive) == 200
    assert heard == ["http.request", "http.disconnect"]
