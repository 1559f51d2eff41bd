"""What the lab keeps, what it takes for a question, and by which names it loads a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from circuits import attribute, intervene
from circuits.errors import BadIntervention, NoRoom
from circuits.model import Model
from circuits.serving import lab as serving_lab
from circuits.serving.app import make_app
from circuits.serving.lab import TRIALS, Lab, is_here, load_by_name, open_graph, read_question, split_inputs, try_out
from circuits.targets import Feature
from circuits.transcoders.base import Dictionary
from graphs import Store
from tests.circuits.test_serving import ASKING, HOST, PROMPT, load, strongest, traced

ANY = {"changes": [{"node": 0}]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_the_clean_runs_of_the_last_graphs_that_were_asked_about_are_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    made: list[str] = []

    def note(graph: Any, *loaded: Any) -> Any:
        made.append(graph.provenance["prompt"])
        return open_graph(graph, *loaded)

    monkeypatch.setattr(serving_lab, "open_graph", note)
    monkeypatch.setattr(serving_lab, "GRAPHS", 2)
    graph = traced()
    ids = {
        name: store.save(replace(graph, provenance={**graph.provenance, "prompt": name})) for name in ("a", "b", "c")
    }
    lab = Lab(store, load)

    for name in "abacab":
        lab.ask(ids[name], ANY)

    assert "".join(made) == "abcb"


def test_a_run_that_never_fits_is_tried_twice(store: Store, monkeypatch: pytest.MonkeyPatch):
    tried: list[Any] = []

    def full(*graph: Any) -> Any:
        tried.append(graph)
        raise MemoryError

    monkeypatch.setattr(serving_lab, "open_graph", full)
    with pytest.raises(NoRoom, match="all of it is taken"):
        Lab(store, load).ask(store.save(traced()), ANY)
    assert len(tried) == 2


def test_a_row_or_value_that_no_node_takes_is_told(monkeypatch: pytest.MonkeyPatch):
    graph = traced()
    row = {kind: int(graph.nodes.where(kind)[-1]) for kind in ("token", "error", "logit")}
    for kind, change in (("token", {"value": 1}), ("error", {"value": 1}), ("logit", {"factor": 0})):
        with pytest.raises(BadIntervention, match=f"is a {kind}"):
            read_question(graph, {"changes": [{"node": row[kind], **change}]})
    with pytest.raises(BadIntervention, match="nodes 0 to"):
        read_question(graph, {"changes": [{"node": len(graph.nodes)}]})
    assert read_question(graph, {"changes": [{"node": row["error"], "factor": 0.5}]})[1] == [(row["error"], 0.5)]
    monkeypatch.setattr(serving_lab, "MOST_CHANGES", 2)
    assert len(read_question(graph, {"changes": [{"node": 0}] * 2})[0]) == 2
    with pytest.raises(BadIntervention, match="at most 2"):
        read_question(graph, {"changes": [{"node": 0}] * 3})


def test_where_a_feature_is_explained_its_own_value_is_measured():
    model, dictionary = load()
    goal = traced().nodes
    at = max(goal.where("feature").tolist(), key=lambda row: (goal.layer[row], goal.influence[row]))
    target = Feature(int(goal.layer[at]), int(goal.feature[at]), int(goal.position[at]))
    graph = attribute(model, dictionary, PROMPT, [target])
    opened = open_graph(graph, model, dictionary)
    token = int(graph.nodes.where("token")[-1])

    found = try_out(opened, {"changes": [{"node": token, "factor": 0.5}]})

    assert opened.metric is not None and opened.metric.site != ("logits", 0)
    chosen, *_ = read_question(graph, {"changes": [{"node": token, "factor": 0.5}]})
    read = intervene(model, dictionary, opened.run, [chosen], read=opened.metric.site)
    assert found["changed"] == pytest.approx(float(opened.metric.explained(read)[0]))
    assert found["changed"] != pytest.approx(found["clean"])


def test_of_a_nodes_inputs_the_strongest_are_split(monkeypatch: pytest.MonkeyPatch):
    graph = traced()
    opened = open_graph(graph, *load())
    logit = int(graph.nodes.where("logit")[0])
    size = {int(s): abs(w) for s, t, w in zip(graph.source, graph.target, graph.weight, strict=True) if t == logit}

    sizes = [size[each["source"]] for each in split_inputs(opened, logit)]
    monkeypatch.setattr(serving_lab, "MOST_SPLIT", 2)

    assert sizes == sorted(sizes, reverse=True) and len(sizes) > 2
    assert [size[each["source"]] for each in split_inputs(opened, logit)] == sizes[:2]
    with pytest.raises(IndexError, match="nodes 0 to"):
        split_inputs(opened, len(graph.nodes))


@pytest.mark.parametrize("reason", [OSError("gone"), MemoryError(), RuntimeError("a fault")])
def test_a_page_is_shown_whether_or_not_its_model_can_be_loaded_and_the_dtype_is_the_graphs(
    store: Store, reason: Exception
):
    asked: list[tuple[str, ...]] = []

    def fail(*names: str) -> tuple[Model, Dictionary]:
        asked.append(names)
        raise reason

    made = {**traced().provenance, "model": "world", "transcoders": "neurons", "dtype": "float64"}
    id = store.save(replace(traced(), provenance=made))
    client = TestClient(
        make_app(store, fail), base_url=HOST, raise_server_exceptions=not isinstance(reason, ValueError)
    )

    assert client.get(f"/graphs/{id}").status_code == 200
    assert asked == [("world", "neurons", "float64")]


def test_an_answer_that_cannot_be_kept_is_told(store: Store):
    graph = traced()
    id = store.save(graph)
    (store.folder / id / TRIALS).write_text("a file where the folder should be")
    client = TestClient(make_app(store, load), base_url=HOST)

    said = client.post(f"/graphs/{id}/trials", json={"changes": [{"node": strongest(graph)}]}, headers=ASKING)

    assert client.get(f"/graphs/{id}").status_code == 200
    assert said.status_code == 507 and "could not be written" in said.text


def test_of_a_trial_with_numbers_that_are_none_the_rest_is_told(store: Store):
    id, lab = store.save(traced()), Lab(store, load)
    answer = json.loads(json.dumps(lab.ask(id, ANY)))
    store.add(id, TRIALS, json.dumps({**answer, "clean": float("nan")}).encode(), most=9)
    assert TestClient(make_app(store, load), base_url=HOST).get(f"/graphs/{id}/trials").json() == [
        answer,
        {**answer, "clean": None},
    ]


def test_a_store_at_an_address_is_served_and_a_graph_by_the_beginning_of_its_id():
    store = Store("memory://served/store")
    graph = traced()
    id = store.save(graph)
    client = TestClient(make_app(store, load), base_url=HOST)

    assert id in client.get("/").text
    assert f'"served":{{"id":"{id}"' in client.get(f"/graphs/{id[:-2]}").text
    said = client.post(f"/graphs/{id}/trials", json={"changes": [{"node": strongest(graph)}]}, headers=ASKING)
    assert client.get(f"/graphs/{id}/trials").json() == [said.json()]


def test_what_is_on_this_machine_by_half_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def cached(**whole: bool) -> Any:
        return lambda: [SimpleNamespace(name=f"an-author/{name}", whole=there) for name, there in whole.items()]

    monkeypatch.setattr(serving_lab, "cached_models", cached(model=True, half=False))
    monkeypatch.setattr(serving_lab, "cached_sets", cached(set=True, part=False))

    assert is_here("an-author/model", "neurons") and not is_here("an-author/half", "neurons")
    assert is_here("world", "an-author/set") and not is_here("world", "an-author/part")
    assert is_here(str(tmp_path), str(tmp_path)) and not is_here(str(tmp_path / "none"), "neurons")


def test_what_is_named_to_the_server_goes_before_what_a_graph_says(monkeypatch: pytest.MonkeyPatch):
    from circuits.transcoders import loading

    asked: list[Any] = []
    model, dictionary = load()

    def note_model(*names: str, **choices: Any) -> Model:
        asked.append((*names, choices))
        return model

    def note_set(name: str, given: Model, **choices: Any) -> Dictionary:
        assert given is model
        asked.append((name, choices))
        return dictionary

    monkeypatch.setattr(serving_lab, "load_model", note_model)
    monkeypatch.setattr(loading, "load_transcoders", note_set)
    load_by_name(None, None, dtype=None, device="cpu", force=False)("m", "t", "float64")
    load_by_name("other", "set", dtype="float32", device="there", force=True)("m", "t", "float64")

    assert asked == [
        ("m", {"device": "cpu", "dtype": "float64"}),
        ("t", {"force": False}),
        ("other", {"device": "there", "dtype": "float32"}),
        ("set", {"force": True}),
    ]
