"""The served store: pages, questions to the real model, and everything that a server must refuse."""

from __future__ import annotations

import asyncio
import html
import json
import re
import shutil
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from circuits import attribute, intervene, trace
from circuits.attention import SPLIT, load_heads
from circuits.commands.serve import is_local
from circuits.errors import BadIntervention, WrongGraph
from circuits.interventions import Intervention
from circuits.model import Model
from circuits.serving import guard
from circuits.serving import lab as serving_lab
from circuits.serving import pages as serving
from circuits.serving.app import make_app
from circuits.serving.guard import MOST
from circuits.serving.lab import TRIALS, TRIALS_ONCE, Lab
from circuits.serving.pages import part_around, rows_in, strongest_part
from circuits.transcoders.base import Dictionary
from graphs import Assay, Store, Verdict, prune, scores
from graphs.assays import STEPS, Ablation, Between, Edges, Group, Steps
from graphs.graph import AttributionGraph
from graphs.heads import HEADS, Heads
from tests.circuits.worlds import dictionary_of, model_of
from tests.worlds import layered

PROMPT = "a red fox runs"
HOST = "http://127.0.0.1:8077"
ASKING = {"origin": HOST, "content-type": "application/json"}


@cache
def load(*_: str) -> tuple[Model, Dictionary]:
    model = model_of("llama")
    return model, dictionary_of(model, "per-layer")


@cache
def traced() -> AttributionGraph:
    model, dictionary = load()
    return prune(attribute(model, dictionary, PROMPT, ["red"]), nodes=0.7)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def client(store: Store) -> Iterator[TestClient]:
    with TestClient(make_app(store, load), base_url=HOST) as client:
        yield client


def strongest(graph: AttributionGraph) -> int:
    rows = graph.nodes.where("feature")
    return int(rows[graph.nodes.influence[rows].argmax()])


def test_the_model_answers_as_an_intervention_does_and_the_answer_is_kept(store: Store, client: TestClient):
    graph = traced()
    id = store.save(graph)
    row = strongest(graph)

    said = client.post(f"/graphs/{id}/trials", json={"changes": [{"node": row, "factor": 0.0}]}, headers=ASKING)

    assert said.status_code == 200
    answer = said.json()
    model, dictionary = load()
    nodes = graph.nodes
    change = Intervention(int(nodes.layer[row]), int(nodes.position[row]), int(nodes.feature[row]))
    after = intervene(model, dictionary, trace(model, dictionary, PROMPT), [[change]])[0, -1]
    best = model.probabilities(after).max()
    assert answer["after"][0]["probability"] == pytest.approx(float(best))
    assert answer["after"][0]["token"] == model.texts([int(after.argmax())])[0]
    red = model.token("red")
    assert answer["changed"] == pytest.approx(float(after[red] - after.mean()))
    assert client.get(f"/graphs/{id}/trials").json() == [answer]
    (kept,) = (store.folder / id / TRIALS).iterdir()
    assert json.loads(kept.read_text()) == answer  # with the graph


def test_a_value_many_nodes_and_a_token_are_changed_too_and_what_cannot_be_predicted_is_not(store: Store):
    graph = traced()
    id, lab = store.save(graph), Lab(store, load)
    row = strongest(graph)
    token = int(graph.nodes.where("token")[-1])

    set_to = lab.ask(id, {"changes": [{"node": row, "value": 3}], "attention": "frozen"})
    both = lab.ask(id, {"changes": [{"node": row}, {"node": token, "factor": 0.5}]})
    half = lab.ask(id, {"changes": [{"node": row, "factor": 0.5}]})
    none = lab.ask(id, {"changes": [{"node": row}]})

    assert set_to["changes"][0]["value"] == 3 and set_to["predicted"] is None
    assert both["predicted"] is None and both["changes"][1]["component"] == "input"
    assert half["predicted"] == pytest.approx(none["predicted"] / 2) and none["predicted"] != 0
    assert len(lab.trials(id)) == 4


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([], "wanted"),
        ({"changes": []}, "wanted"),
        ({"changes": [{"node": -1}]}, "nodes 0 to"),
        ({"changes": [{"node": 10**9}]}, "nodes 0 to"),
        ({"changes": [{"node": True}]}, "by its row"),
        ({"changes": [{"node": 0, "factor": "much"}]}, "number"),
        ({"changes": [{"node": 0, "value": "x"}]}, "number"),
        ({"changes": [{"node": 0, "value": float("nan")}]}, "number"),
        ({"changes": [{"node": 0, "factor": float("-inf")}]}, "number"),
        ({"changes": [{"node": 0, "factor": 10**400}]}, "number"),
        ({"changes": [{"node": 10**400}]}, "nodes 0 to"),
        ({"changes": [{"node": 0}] * 501}, "at most 500"),
        ({"changes": [{"node": 0}], "attention": "elsewhere"}, "live or frozen"),
    ],
)
def test_a_question_that_makes_no_sense_is_told_what_was_wanted(store: Store, asked: object, words: str):
    id = store.save(traced())
    with pytest.raises(BadIntervention, match=words):
        Lab(store, load).ask(id, asked)
    assert not (store.folder / id / TRIALS).exists()


@pytest.mark.parametrize("change", [{"value": 3e38}, {"factor": 1e308}])
def test_an_answer_that_is_no_number_is_told_and_not_kept(store: Store, client: TestClient, change: dict[str, float]):
    graph = traced()
    id = store.save(graph)
    question = {"changes": [{"node": strongest(graph), **change}]}

    said = client.post(f"/graphs/{id}/trials", json=question, headers=ASKING)

    assert said.status_code == 422 and "take a smaller one" in said.text
    assert client.get(f"/graphs/{id}/trials").json() == []


@pytest.mark.parametrize(
    "kept", ["{", "null", '{"a": 1}', "[1, [], null]", '[{"nodes": null}]', '[{"nodes": [NaN]}]', "[" * 10_000]
)
def test_trials_that_cannot_be_read_are_as_if_they_were_not_there(store: Store, client: TestClient, kept: str):
    graph = traced()
    id = store.save(graph)
    (store.folder / id / TRIALS_ONCE).write_text(kept)
    store.add(id, TRIALS, kept.encode(), most=9)
    assert client.get(f"/graphs/{id}/trials").json() == []

    asked = {"changes": [{"node": strongest(graph)}]}
    answer = client.post(f"/graphs/{id}/trials", json=asked, headers=ASKING).json()

    assert client.get(f"/graphs/{id}/trials").json() == [answer]


def test_trials_are_kept_one_by_one_and_those_of_the_one_file_of_before_stand_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    graph = traced()
    id = store.save(graph)
    asked = {"changes": [{"node": strongest(graph)}]}
    one, other = Lab(store, load), Lab(store, load)

    def ask(lab: Lab) -> dict[str, Any]:
        return json.loads(json.dumps(lab.ask(id, asked)))

    first = ask(one)
    (kept,) = (store.folder / id / TRIALS).iterdir()
    kept.rename(store.folder / id / "aside")
    (store.folder / id / TRIALS_ONCE).write_text(json.dumps([{**first, "seconds": 7}]))

    told = [ask(one), ask(other), ask(one)]

    assert one.trials(id) == other.trials(id) == [{**first, "seconds": 7}, *told]
    assert json.loads((store.folder / id / TRIALS_ONCE).read_text()) == [{**first, "seconds": 7}]
    monkeypatch.setattr(serving_lab, "MOST_TRIALS", 2)
    last = ask(other)
    assert one.trials(id) == [told[-1], last] and len(list((store.folder / id / TRIALS).iterdir())) == 2


def test_pages_and_answers_follow_what_is_in_the_store(store: Store, client: TestClient):
    def assay(number: float) -> Assay:
        return Assay({"hash": "one"}, 1e-7, [], {}, [], [Verdict("it holds", "supported", number, "above 0", "none")])

    graph = traced()
    id = store.save(graph, assay(0.125))
    asked = {"changes": [{"node": strongest(graph)}]}
    assert "0.125" in client.get(f"/graphs/{id}").text
    assert client.post(f"/graphs/{id}/trials", json=asked, headers=ASKING).status_code == 200

    store.keep_assay(id, assay(0.375))  # checked again, as it was registered
    page = client.get(f"/graphs/{id}").text
    assert "0.375" in page and "0.125" not in page

    assert store.save(replace(graph, provenance={**graph.provenance, "model_hash": "another"})) == id
    said = client.post(f"/graphs/{id}/trials", json=asked, headers=ASKING)
    assert said.status_code == 422 and "another model" in said.text


def several(store: Store, *sets: str) -> list[str]:
    """Graphs that say they were made with these sets, each of which is loaded by itself."""
    made = {**traced().provenance, "model": "world"}
    return [store.save(replace(traced(), provenance={**made, "transcoders": each}), name=each) for each in sets]


def test_of_the_models_the_last_two_that_were_asked_are_kept(store: Store):
    loaded: list[Any] = []

    def note(_: str, named: str, __: str) -> tuple[Model, Dictionary]:
        model, _ = load()
        dictionary = dictionary_of(model, "per-layer")
        vars(dictionary)["itself"] = dictionary  # as a model is known to its hooks
        loaded.append((named, weakref.ref(dictionary)))
        return model, dictionary

    one, two, three = several(store, "one", "two", "three")
    lab = Lab(store, note)

    for id in (one, two, one, three, one):
        lab.ask(id, {"changes": [{"node": 0}]})

    assert [(named, kept() is None) for named, kept in loaded] == [("one", False), ("two", True), ("three", False)]


def test_where_the_memory_is_full_the_other_model_goes_and_then_it_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(RuntimeError) as full:
        torch.empty(10**15)
    loaded: list[str] = []
    failures = {"two": 1, "three": 2}

    def narrow(_: str, named: str, __: str) -> tuple[Model, Dictionary]:
        loaded.append(named)
        fail(named)
        return load()

    def fail(what: str) -> None:
        if failures.get(what):
            failures[what] -= 1
            raise full.value

    def answer(opened: Any, asked: Any) -> dict[str, Any]:
        fail("question")
        return serving_lab.measure(opened, [], "live")

    monkeypatch.setattr(serving_lab, "try_out", answer)
    monkeypatch.setattr(serving_lab.gc, "collect", int)  # it takes a while, and nothing here is large
    one, two, three = several(store, "one", "two", "three")
    client = TestClient(make_app(store, narrow), base_url=HOST)

    def ask(id: str) -> Any:
        return client.post(f"/graphs/{id}/trials", json={"changes": [{"node": 0}]}, headers=ASKING)

    assert [ask(id).status_code for id in (one, two, one)] == [200] * 3
    assert loaded == ["one", "two", "two", "one"]  # where the second fitted, the first was let go
    failures["question"] = 1
    assert [ask(id).status_code for id in (one, two)] == [200] * 2
    assert loaded[4:] == ["two"]  # its own model stayed
    said = ask(three)
    assert said.status_code == 503 and re.match(r"the memory does not suffice: .+\. End other programs", said.text)
    assert ask(three).status_code == 200 and loaded[5:] == ["three"] * 3
    failures["question"] = 9
    assert ask(three).status_code == 503 and failures["question"] == 8  # no other is there to be let go


def test_a_model_that_may_be_another_by_now_is_read_again(store: Store):
    hashes = ["old", "old", "random"]  # of the dictionary on disk, each time

    def note(*_: str) -> tuple[Model, Dictionary]:
        model, dictionary = load()
        return model, replace(cast(Any, dictionary), content_hash=hashes.pop(0))

    (id,) = several(store, "one")
    lab = Lab(store, note)

    with pytest.raises(WrongGraph, match="another transcoders"):
        lab.ask(id, {"changes": [{"node": 0}]})
    assert len(hashes) == 2  # it had just been read
    with pytest.raises(WrongGraph, match="another transcoders"):
        lab.ask(id, {"changes": [{"node": 0}]})
    for _ in range(2):
        lab.ask(id, {"changes": [{"node": 0}]})
    assert not hashes


def test_who_only_looks_starts_no_download_and_a_graph_of_another_program_is_told_apart(store: Store):
    loaded: list[tuple[str, ...]] = []

    def note(*names: str) -> tuple[Model, Dictionary]:
        loaded.append(names)
        return load()

    graph = traced()
    made = {**graph.provenance, "model": "an-author/a-model", "transcoders": "neurons"}
    away = store.save(replace(graph, provenance=made), name="away")
    here = store.save(replace(graph, provenance={**made, "model": "world", "transcoders": "neurons@L0"}), name="here")
    hashes = {"model_hash", "transcoders_hash"}
    read_in = store.save(replace(graph, provenance={name: made[name] for name in made.keys() - hashes}), name="read in")
    client = TestClient(make_app(store, note), base_url=HOST)

    pages = [client.get(f"/graphs/{id}") for id in (away, read_in, here)]

    assert [page.status_code for page in pages] == [200] * 3
    assert [names[0] for names in loaded] == ["world"]
    assert ["silent" in page.text.split('id="graph"')[1].split("</script>")[0] for page in pages] == [
        False,
        True,
        False,
    ]
    said = client.post(f"/graphs/{read_in}/trials", json={"changes": [{"node": 0}]}, headers=ASKING)
    assert said.status_code == 422 and "trace its prompt here" in said.text
    assert len(loaded) == 1
    assert client.post(f"/graphs/{away}/trials", json={"changes": [{"node": 0}]}, headers=ASKING).status_code == 200
    assert loaded[1][0] == "an-author/a-model"  # asked for: now it may be fetched


def test_logits_are_not_changed_and_another_model_is_not_asked(store: Store):
    graph = traced()
    logit = int(graph.nodes.where("logit")[0])
    with pytest.raises(BadIntervention, match="is a logit"):
        Lab(store, load).ask(store.save(graph), {"changes": [{"node": logit}]})
    foreign = replace(graph, provenance={**graph.provenance, "model_hash": "another"})
    with pytest.raises(WrongGraph, match="another model"):
        Lab(store, load).ask(store.save(foreign, name="foreign"), {"changes": [{"node": 0}]})


def test_only_its_own_pages_may_change_anything(store: Store, client: TestClient):
    id = store.save(traced())
    question = {"changes": [{"node": 0}]}
    elsewhere = {"origin": "https://elsewhere.example"}
    address = f"/graphs/{id}/trials"

    assert client.get("/", headers={"host": "elsewhere.example"}).status_code == 421  # a name made to point here
    assert client.post(address, json=question, headers={**ASKING, **elsewhere}).status_code == 403
    assert client.post(address, json=question).status_code == 403  # no origin: no browser's page
    assert client.post(address, json=question, headers={**ASKING, "sec-fetch-site": "cross-site"}).status_code == 403
    assert client.post(address, content="{}", headers={**ASKING, "content-type": "text/plain"}).status_code == 415
    assert client.post(address, content="x" * (MOST + 1), headers=ASKING).status_code == 413
    assert client.post(address, content=iter([b"x" * MOST, b"x"]), headers=ASKING).status_code == 413  # length unsaid
    assert client.post(address, content="{", headers=ASKING).status_code == 400
    assert client.get("/").headers["x-frame-options"] == "DENY"
    assert not (store.folder / id / TRIALS).exists()


@pytest.mark.parametrize("body", ['{"changes": [{"node": 0, "value": NaN}]}', "[" * 9999, "1" * 9999, b"\xff", ""])
def test_what_is_no_json_is_told(store: Store, client: TestClient, body: str | bytes):
    id = store.save(traced())
    assert client.post(f"/graphs/{id}/trials", content=body, headers=ASKING).status_code == 400


@pytest.mark.parametrize("length", ["1" * 5000, "-1", "1e3", "", "١"])
def test_a_length_that_is_none_is_refused(store: Store, length: str):
    async def nothing() -> Any:
        await asyncio.sleep(60)

    headers = [(b"content-length", length.encode())]
    assert status_of(make_app(store, load), "GET", "/", headers, nothing) == 413


def test_a_body_that_trickles_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard, "PATIENCE", 0.05)
    id = store.save(traced())

    async def trickle() -> Any:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b" ", "more_body": True}

    headers = [(name.encode(), value.encode()) for name, value in ASKING.items()]
    assert status_of(make_app(store, load), "POST", f"/graphs/{id}/trials", headers, trickle) == 408


def test_a_question_that_is_broken_off_is_no_fault_of_the_server(store: Store):
    id = store.save(traced())

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    headers = [(name.encode(), value.encode()) for name, value in ASKING.items()]
    assert status_of(make_app(store, load), "POST", f"/graphs/{id}/trials", headers, gone) == 400


def status_of(app: Any, method: str, path: str, headers: list[tuple[bytes, bytes]], receive: Any) -> int:
    """What a server of this application says, which receives what `receive` gives."""
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"host", HOST.removeprefix("http://").encode()), *headers]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
    asyncio.run(app(scope, receive, send))
    return said[0]["status"]


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("cross-site", "no-cors", 403),
        ("same-site", "cors", 403),
        ("cross-site", "navigate", 200),
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
    ],
)
def test_other_pages_may_link_here_and_nothing_more(client: TestClient, site: str, mode: str, status: int):
    assert client.get("/", headers={"sec-fetch-site": site, "sec-fetch-mode": mode}).status_code == status


def test_what_no_page_asks_for_is_refused(store: Store, client: TestClient):
    address = f"/graphs/{store.save(traced())}"
    assert client.head(address).status_code == 200 and client.head(address).content == b""
    for how in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        for headers in (ASKING, {}):
            assert client.request(how, address, headers=headers).status_code in (403, 405)
    assert client.post(address, json={}, headers=ASKING).status_code == 405
    assert client.post(f"{address}/trials", json={}, headers={**ASKING, "origin": "null"}).status_code == 403
    assert (
        client.post(f"{address}/trials", json={}, headers={**ASKING, "sec-fetch-site": "same-site"}).status_code == 403
    )


@pytest.mark.parametrize(
    "path",
    [
        "..%2F..%2Fetc%2Fpasswd",
        "%2e%2e",
        "..",
        ".",
        "%00",
        "a%2f..%2fb",
        "~root",
        "C:%5C",
        "..%5c..%5cetc",
        "%252e%252e",
        "%252e%252e%252fgraph.json",
        "%c0%ae%c0%ae",
        ".saving-x",
        "%ff",
        "a" * 5000,
        "*",
        "%2f%2fgraph.json",
    ],
)
def test_nothing_outside_of_the_store_is_served(store: Store, client: TestClient, path: str):
    store.save(traced())
    (store.folder.parent / "graph.json").write_text("{}")
    for ending in ("", "/trials", "/nodes?find=a", "/heads?node=0"):
        said = client.get(f"/graphs/{path}{ending}")
        assert said.status_code == 404 or said.url.path == "/", said.text
    said = client.post(f"/graphs/{path}/trials", json={"changes": [{"node": 0}]}, headers=ASKING)
    assert said.status_code in (404, 405), said.text


def test_what_a_link_in_the_store_leads_to_elsewhere_is_not_served(store: Store, client: TestClient, tmp_path: Path):
    graph = traced()
    prompt = {**graph.provenance, "prompt": "somebody elses"}
    other = Store(tmp_path / "other")
    outside = Path(str(other.folder)) / other.save(replace(graph, provenance=prompt))
    id = store.save(graph)
    (store.folder / "linked").symlink_to(outside)
    (store.folder / "alias").symlink_to(store.folder / id)

    assert client.get("/graphs/linked").status_code == client.get("/graphs/linked/nodes?find=red").status_code == 404
    assert client.get("/graphs/alias").status_code == 200  # it stays within
    assert "somebody elses" not in client.get("/").text
    for file in ("graph.json", "nodes.parquet", HEADS, TRIALS, TRIALS_ONCE):
        inside = Path(shutil.copytree(outside, store.folder / f"copy-of-{file}"))
        (inside / file).unlink(missing_ok=True)
        (inside / file).symlink_to(outside / file)  # heads, or trials, may come to lie there later
        (inside / "assay.json").symlink_to(store.folder / id / "graph.json")  # this one stays within
        assert client.get(f"/graphs/{inside.name}").status_code == 404
        assert inside.name not in client.get("/").text
    store.add(id, TRIALS, b"[]", most=9)
    assert client.get(f"/graphs/{id}/trials").status_code == 200
    (store.folder / id / TRIALS / "one.json").symlink_to(outside / "graph.json")
    assert client.get(f"/graphs/{id}/trials").status_code == 404


def test_who_waits_for_the_model_keeps_no_page_from_the_others(store: Store):
    graph = traced()
    id = store.save(graph)
    loading, go_on = threading.Event(), threading.Event()

    def slow(*_: str) -> tuple[Model, Dictionary]:
        loading.set()
        assert go_on.wait(60)
        return load()

    with TestClient(make_app(store, slow), base_url=HOST) as client, ThreadPoolExecutor(101) as pool:
        asked = {"changes": [{"node": strongest(graph)}]}
        said = [pool.submit(client.post, f"/graphs/{id}/trials", json=asked, headers=ASKING) for _ in range(50)]
        said += [pool.submit(client.get, f"/graphs/{id}/heads?node=0") for _ in range(50)]
        try:
            assert loading.wait(60)
            for address in ("/", f"/graphs/{id}"):
                assert pool.submit(client.get, address).result(60).status_code == 200
        finally:
            go_on.set()
        assert [each.result().status_code for each in said] == [200] * 100
        assert len(client.get(f"/graphs/{id}/trials").json()) == 50


def test_where_others_can_connect_a_token_is_wanted(store: Store):
    client = TestClient(make_app(store, load, hosts=(), token="secret"), base_url="http://10.0.0.7:8077")

    assert client.get("/").status_code == 401
    assert client.get("/?token=wrong").status_code == 401
    assert client.get("/?token=secret", follow_redirects=False).headers["location"] == "/"  # not left in the address
    assert client.get("/?token=secret").status_code == 200
    assert client.get("/").status_code == 200  # the cookie
    other = TestClient(make_app(store, load, hosts=(), token="secret"), base_url="http://10.0.0.7:8078")
    other.cookies = client.cookies
    assert other.get("/").status_code == 401  # of a server beside it, to which the browser shows the same cookies
    moved = other.get(f"{other.base_url}//elsewhere.example/?find=a%20b&token=secret", follow_redirects=False)
    assert moved.headers["location"] == "/elsewhere.example/?find=a+b" and moved.headers["referrer-policy"]
    assert TestClient(other.app, base_url="http://10.0.0.7").get("/?token=%ff%00é").status_code == 401
    assert is_local("127.0.0.1") and is_local("::1") and is_local("localhost")
    assert not is_local("0.0.0.0") and not is_local("10.0.0.7") and not is_local("a.example")


def test_labels_prompts_and_words_looked_for_are_text(store: Store, client: TestClient):
    nasty = "<script>alert(1)</script>"
    graph = traced()
    labels = graph.nodes.label.copy()
    labels[:] = nasty
    nodes = graph.nodes.with_columns(label=labels)
    id = store.save(replace(graph, nodes=nodes, provenance={**graph.provenance, "prompt": nasty}))

    for address in ("/", f"/?find={nasty}", f"/graphs/{id}"):
        page = client.get(address)
        assert page.status_code == 200 and nasty not in page.text
    assert "connect-src 'self'" in client.get(f"/graphs/{id}").text
    found = client.get(f"/graphs/{id}/nodes", params={"find": "ALERT"})
    assert found.headers["content-type"] == "application/json" and len(found.json()) > 3


def test_a_graph_may_be_called_anything(store: Store, client: TestClient):
    graph = traced()
    for name in ("<!--<script>", "a?b#c&d", "x' onmouseover='alert(1)", 'y" z', "<img src=x>"):
        store.find(store.save(replace(graph, provenance={**graph.provenance, "prompt": name}))).rename(
            store.folder / name
        )

    page = client.get("/").text

    links = re.findall(r'href="([^"]*)"', page)
    assert len(links) == 5 and "<script>" not in page and "<img" not in page and "onmouseover='" not in page
    for link in links:
        served = client.get(html.unescape(link))
        assert served.status_code == 200 and "<!--<script>" not in served.text and "<img src=x>" not in served.text
    assert client.get("/graphs/<script>").text == "there is no such graph in this store\n"


def test_the_store_is_listed_and_searched(store: Store, client: TestClient):
    assert "none yet" in client.get("/").text  # nor is the store's folder there
    graph = traced()
    store.save(graph)
    store.save(replace(graph, provenance={**graph.provenance, "prompt": "another"}), name="other")
    broken = store.folder / store.save(graph, name="broken")
    (broken / "edges.parquet").unlink()

    page = client.get("/").text
    assert "3 graphs" in page and "cannot be read" in page and PROMPT in page
    assert "1 of 3 graphs" in client.get("/?find=ANOTHER").text
    nothing = client.get("/?find=zebra").text
    assert "0 of 3 graphs" in nothing and "none with these words" in nothing and "none yet" not in nothing


def test_a_graph_is_compared_with_others_of_its_model_and_set(store: Store, client: TestClient):
    graph = traced()
    made = graph.provenance
    id = store.save(graph)
    same = store.save(replace(graph, provenance={**made, "prompt": "<i>another</i>"}), name="same")
    store.save(replace(graph, provenance={**made, "model": "elsewhere/else"}), name="another model")
    store.save(replace(graph, provenance={**made, "transcoders": "elsewhere/else"}), name="another set")
    (store.folder / store.save(graph, name="broken") / "edges.parquet").unlink()

    (found,) = client.get(f"/graphs/{id}/others").json()

    assert found["id"] == same and found["prompt"] == "<i>another</i>" and found["targets"] and found["saved"]
    assert client.get(f"/graphs/{id}/others?find=ANOTHER").json() == [found]
    assert client.get(f"/graphs/{id}/others?find=zebra").json() == []
    assert client.get("/graphs/zebra/others").status_code == 404


def test_in_the_list_a_column_is_named_and_graphs_are_told_apart(store: Store, client: TestClient):
    graph = traced()
    inner = {**graph.provenance, "method": "eap-ig"}
    ids = [store.save(graph), store.save(replace(graph, provenance=inner), name="other")]

    page = client.get("/").text

    heads = re.findall(r'<th scope="col">([^<]*)</th>', page)
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in re.findall(r"<tr><td.*</tr>", page)]
    assert heads[0] == "prompt" and {len(row) for row in rows} == {len(heads)}
    told = [dict(zip(heads, row, strict=True)) for row in rows]
    assert {(row["id"], row["by"]) for row in told} == {(ids[0], "direct"), (ids[1], "eap-ig")}
    assert "1 of 2 graphs" in client.get("/?find=eap-ig").text


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> AttributionGraph:
    """A graph of which a page has room for a part only."""
    monkeypatch.setattr(serving, "MOST_NODES", 60)
    monkeypatch.setattr(serving, "MOST_EDGES", 300)
    return layered(400, layers=4, positions=8)


def test_of_a_large_graph_the_strongest_part_is_sent_and_its_rows_are_those_of_the_whole(
    store: Store, whole: AttributionGraph
):
    small = strongest_part(whole)

    assert len(small.source) <= 300 and len(small.nodes) < 100
    rows = rows_in(whole, small)
    for name in ("kind", "layer", "position", "feature"):
        np.testing.assert_array_equal(getattr(whole.nodes, name)[rows], getattr(small.nodes, name))
    assert scores(small).replacement < scores(whole).replacement  # what is left out counts as error
    client = TestClient(make_app(store, load), base_url=HOST)
    id = store.save(whole)
    page = client.get(f"/graphs/{id}").text
    assert f'"whole":[{len(whole.nodes)},{len(whole.source)}]' in page
    row = strongest(whole)
    around = part_around(whole, row)
    assert row in rows_in(whole, around)
    assert f'"around":{row}' in client.get(f"/graphs/{id}?around={row}").text
    assert client.get(f"/graphs/{id}?around=999999").status_code == 404
    assert client.get(f"/graphs/{id}?around=-1").status_code == 400


def test_of_the_part_of_a_large_graph_the_assay_is_told_by_its_rows_there(
    store: Store, client: TestClient, whole: AttributionGraph
):
    small = strongest_part(whole)
    rows = rows_in(whole, small).tolist()
    at = next(place for place, row in enumerate(rows) if row != place)  # another row here than in the whole
    away = next(row for row in range(len(whole.nodes) - 1, 0, -1) if row not in rows)
    both, numbers = [rows[at], away], [0.25, 0.75]
    edge = Edges(9, 0, 0.5, int(rows[small.source[-1]]), int(rows[small.target[-1]]))
    ablations = [
        Ablation(row, 0.1, number, number, 0.0, number, 0.0) for row, number in zip(both, numbers, strict=True)
    ]
    steps = Steps(both, **dict.fromkeys(STEPS, numbers))
    group = Group("late", both, *[0.1] * 6, numbers, [0.1], [0.1], "layer", 1.0, "", [])
    pairs = Between(both, [rows[at]] * 2, [1, 1], *[numbers] * 5, 0)
    assay = Assay(
        {"hash": "one"}, 1e-7, ablations, {}, [], [], edges=[edge], steps=[steps], groups=[group], between=[pairs]
    )

    page = client.get(f"/graphs/{store.save(whole, assay=assay)}").text

    said = json.loads(re.findall(r'<script[^>]*id="graph"[^>]*>(.*?)</script>', page, re.DOTALL)[0])["assay"]
    assert [(each["node"], each["measured"]) for each in said["ablations"]] == [(at, 0.25)]
    assert said["edges"] == [
        {"tested": 9, "left_out": 0, "largest": 0.5, "source": small.source[-1], "target": small.target[-1]}
    ]
    assert said["between"][0]["source"] == said["between"][0]["target"] == [at]
    assert said["between"][0]["measured"] == [0.25]
    assert "Where the prediction is lost" in page


def test_of_what_lies_outside_of_a_part_its_assay_says_nothing(
    store: Store, client: TestClient, whole: AttributionGraph
):
    last = len(whole.nodes) - 1
    away = next(row for row in range(last, 0, -1) if row not in rows_in(whole, strongest_part(whole)))
    steps = Steps([away], **{name: [0.5] for name in STEPS})
    edge = Edges(9, 0, 0.5, away, last)  # in the part another edge, or none

    assay = Assay({"hash": "one"}, 1e-7, [], {}, [], [], steps=[steps], edges=[edge])
    page = client.get(f"/graphs/{store.save(whole, assay=assay)}")

    assert page.status_code == 200 and "Where the prediction is lost" not in page.text
    assert '"edges":[{"tested":9,"left_out":0,"largest":0.5,"source":-1,"target":-1}]' in page.text


def test_the_part_of_a_large_graph_shows_the_heads_that_are_kept_by_its_own_rows(
    store: Store, client: TestClient, whole: AttributionGraph
):
    small = strongest_part(whole)
    rows = rows_in(whole, small).tolist()
    source, target = int(small.source[0]), int(small.target[0])
    id = store.save(whole)
    assert '"heads":{},"split":null' in client.get(f"/graphs/{id}").text

    missed = next(row for row in range(len(whole.nodes)) if row not in rows)
    carried = [[(1, 2, 0.5)], [(0, 0, 1.0)]]
    store.keep_heads(id, Heads([rows[source], missed], [rows[target], len(whole.nodes) - 1], carried, 2, 9))

    page = client.get(f"/graphs/{id}").text
    assert f'"heads":{{"{source}-{target}":[[1,2,0.5]]}},"split":{{"edges":2,"of":9}}' in page


def test_a_graph_whose_heads_cannot_be_read_is_shown_without_them_and_the_page_says_so(
    store: Store, client: TestClient
):
    graph = traced()
    id = store.save(graph)
    (store.folder / id / HEADS).write_text("{")
    damaged = client.get(f"/graphs/{id}")

    store.keep_heads(id, Heads([0], [len(graph.nodes) - 1], [[(1, 2, 0.5)]], 1, 1))
    mended = client.get(f"/graphs/{id}")

    assert damaged.status_code == mended.status_code == 200
    assert '"headless":"heads.json cannot be read' in damaged.text and '"headless"' not in mended.text
    assert '"heads":{"0-' in mended.text


def test_a_page_is_sent_packed_to_who_can_unpack_it(store: Store, client: TestClient):
    address = f"/graphs/{store.save(traced())}"

    packed, plain = (client.get(address, headers={"accept-encoding": how}) for how in ("br, gzip", "identity"))

    assert packed.headers["content-encoding"] == "gzip" and "content-encoding" not in plain.headers
    assert packed.text == plain.text and "</html>" in plain.text
    assert 3 * int(packed.headers["content-length"]) < len(plain.content)
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"


def test_what_nobody_foresaw_is_told_and_the_next_question_is_answered(store: Store):
    graph = traced()
    id = store.save(graph)
    faults: list[Exception] = [ZeroDivisionError("<b>"), ConnectionError("no route")]

    def loading(*_: str) -> tuple[Model, Dictionary]:
        if faults:
            raise faults.pop(0)
        return load()

    client = TestClient(make_app(store, loading), base_url=HOST, raise_server_exceptions=False)
    asked = {"changes": [{"node": strongest(graph)}]}
    said = [client.post(f"/graphs/{id}/trials", json=asked, headers=ASKING) for _ in range(3)]

    assert [each.status_code for each in said] == [500, 500, 200]
    assert "fault of this server, not of what was asked: ZeroDivisionError: <b>" in said[0].text
    assert said[0].headers["content-type"].startswith("text/plain")
    assert said[0].headers["x-content-type-options"] == "nosniff"
    assert said[1].text == "a file could not be read: no route\n"


def test_a_page_that_is_fetched_to_be_compared_loads_no_model(store: Store):
    loaded: list[str] = []

    def note(*_: str) -> tuple[Model, Dictionary]:
        loaded.append("")
        return load()

    made = {**traced().provenance, "model": "world", "transcoders": "neurons"}
    id = store.save(replace(traced(), provenance=made))
    client = TestClient(make_app(store, note), base_url=HOST)

    fetched = client.get(f"/graphs/{id}", headers={"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"})
    assert fetched.status_code == 200 and not loaded
    opened = client.get(f"/graphs/{id}", headers={"sec-fetch-site": "none", "sec-fetch-mode": "navigate"})
    assert opened.text == fetched.text and len(loaded) == 1


def test_a_prompt_of_a_book_is_short_in_lists_and_found_by_its_end(store: Store, client: TestClient):
    graph = traced()
    ids = [
        store.save(replace(graph, provenance={**graph.provenance, "prompt": prompt}), name=name)
        for name, prompt in (("book", "once " * 10_000 + "never after"), ("none", ""))
    ]

    page, (other,) = client.get("/?find=never").text, client.get(f"/graphs/{ids[1]}/others?find=never").json()

    assert ids[0] in page and len(page) < 20_000 and "once once" in page
    assert other["prompt"].startswith("once once") and other["prompt"].endswith("…") and len(other["prompt"]) < 300


def test_heads_are_named_for_a_nodes_inputs(store: Store, client: TestClient):
    graph = traced()
    id = store.save(graph)
    logit = int(graph.nodes.where("logit")[0])

    found = client.get(f"/graphs/{id}/heads?node={logit}").json()

    model, dictionary = load()
    run = trace(model, dictionary, PROMPT)
    crossing = [each for each in found if each["heads"]]  # a unit of the last layer meets no head on its way
    assert crossing
    for each in crossing[:5]:
        (edge,) = np.flatnonzero((graph.source == each["source"]) & (graph.target == logit))
        ((layer, head, carried), *_) = each["heads"]
        assert load_heads(run, dictionary, graph, np.array([edge])).load[0, layer, head] == pytest.approx(carried)
    assert len(found) == np.isin(graph.nodes.kind[graph.source[graph.target == logit]], SPLIT).sum()
    assert client.get(f"/graphs/{id}/heads?node=99999").status_code == 404
    assert client.get(f"/graphs/{id}/heads?node=x").status_code == 400
