"""The store: what goes in comes out, whole or not at all, and damage is noticed."""

from __future__ import annotations

import copy
import json
import math
import os
import tempfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs import Assay, Store, Verdict, prune, scores
from graphs.errors import CannotWrite, ForeignFolder, UnknownGraph
from graphs.records import seal, strict, to_json
from tests.worlds import graph_of, graphs

PROMPT = "The capital of the state containing Dallas is"


def small(prompt=PROMPT, weight=1.0):
    return graph_of([(0, 1, weight), (1, 2, -1)], "token feature logit", provenance={"prompt": prompt, "model": "toy"})


def assay(number=0.25):
    verdict = Verdict("it holds", "supported", number, "above 0.2", "none")
    return Assay({"seed": 1, "window": None}, 1e-7, [], {"slope": number}, [], [verdict])


def same(one, other):
    columns = [field.name for field in fields(one.nodes)]
    for name in columns:
        np.testing.assert_array_equal(getattr(one.nodes, name), getattr(other.nodes, name), strict=True)
    for name in ("source", "target", "weight", "goal"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)
    for name in ("token_ids", "tokens", "provenance", "kept"):
        assert getattr(one, name) == getattr(other, name)
    return True


@settings(max_examples=12)  # each is fsynced
@given(graphs())
def test_a_graph_comes_back_as_it_went_in(graph):
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        for each in (graph, prune(graph)):
            assert same(store.load(store.save(each)), each)


def test_an_id_is_the_prompt_and_a_hash(tmp_path):
    store = Store(tmp_path / "new")

    id = store.save(small())

    words, _, digits = id.rpartition("-")
    assert words == "the-capital-of-the-state-containing-dallas-is"
    assert len(digits) == 6 and int(digits, 16) >= 0
    assert sorted(os.listdir(tmp_path / "new" / id)) == ["edges.parquet", "graph.json", "nodes.parquet"]
    assert store.save(small(), name="Été à Dallas!").startswith("ete-a-dallas-")
    assert store.save(small("首都")).startswith("graph-")
    assert len(store.save(small("word " * 100))) < 80


def test_a_long_name_ends_with_a_whole_word(tmp_path):
    words = f"{'a' * 29} {'b' * 30}"  # as long as is taken

    found = [Store(tmp_path).save(small(), name=name).rpartition("-")[0] for name in (words, f"{words} c", f"{words}c")]

    assert found == [words.replace(" ", "-")] * 2 + ["a" * 29]


def test_the_same_graph_has_the_same_id_and_another_has_not(tmp_path):
    store = Store(tmp_path)

    assert store.save(small()) == store.save(small()) != store.save(small(weight=2.0))
    assert len(store.list()) == 2


def test_the_beginning_of_an_id_is_enough_where_only_one_begins_so(tmp_path):
    store = Store(tmp_path)
    one, two, three = store.save(small("one")), store.save(small("two")), store.save(small("three"))

    assert store.find("o") == tmp_path / one
    assert store.find(two) == tmp_path / two
    with pytest.raises(UnknownGraph, match=f"2 graphs begin with 't': {three}, {two}"):
        store.find("t")
    with pytest.raises(UnknownGraph, match="begins with 'four'"):
        store.find("four")
    with pytest.raises(UnknownGraph, match="empty"):
        Store(tmp_path / "nowhere").find("one")


def test_an_id_never_points_out_of_the_store_but_a_path_may(tmp_path):
    outside = Store(tmp_path / "outside")
    id = outside.save(small())
    store = Store(tmp_path / "inside")
    store.save(small("other"))

    for text in (f"../outside/{id}", str(tmp_path / "outside" / id), "..", ".", ""):
        with pytest.raises(UnknownGraph):
            store.load(text)
    assert same(store.load(tmp_path / "outside" / id), small())
    with pytest.raises(UnknownGraph, match=r"graph\.json"):
        store.load(tmp_path)


def test_the_record_says_what_the_graph_is(tmp_path):
    store = Store(tmp_path)
    record = store.record(store.save(small(), assay()))

    assert record["prompt"] == PROMPT
    assert record["tokens"] == ["dallas"] and record["token_ids"] == [7]
    assert record["scores"] == scores(small()).to_json()
    assert record["assay"]["verdicts"][0]["claim"] == "it holds"
    assert set(record["files"]) == {"nodes.parquet", "edges.parquet"}


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_a_file_says_what_the_record_does_a_line_for_what_holds_plain_values(value):
    text = to_json(value).decode()

    assert json.loads(text) == strict(value)
    assert to_json({"tokens": ["a\n", "b"], "made": {"by": {"lot": [1, 2]}, "at": []}}).decode() == (
        '{\n "tokens": ["a\\n", "b"],\n "made": {\n  "by": {\n   "lot": [1, 2]\n  },\n  "at": []\n }\n}\n'
    )


def test_an_assay_comes_back_with_its_undefined_numbers(tmp_path):
    store = Store(tmp_path)
    id = store.save(small(), assay(math.nan))

    json.loads((tmp_path / id / "graph.json").read_bytes(), parse_constant=pytest.fail)  # no NaN: strict JSON
    back = store.assay(id)
    assert math.isnan(back.statistics["slope"]) and math.isnan(back.verdicts[0].number)
    assert back.registration == {"seed": 1, "window": None}
    assert store.assay(store.save(small("without"))) is None


def test_an_assay_attached_later_is_the_one_that_counts(tmp_path):
    store = Store(tmp_path)
    id = store.save(small(), assay(0.1))

    store.attach(id, "assay.json", json.dumps(assay(0.9).to_json()).encode())

    assert store.assay(id).verdicts == assay(0.9).verdicts


@pytest.mark.parametrize("file", ["nodes.parquet", "edges.parquet", "graph.json"])
def test_damage_is_noticed_and_the_file_named(tmp_path, file):
    store = Store(tmp_path)
    path = tmp_path / store.save(small()) / file
    whole = path.read_bytes()
    middle = len(whole) // 2

    for damaged in (
        whole[:middle],
        b"",
        b"[" * 100_000,
        whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
    ):
        if file == "graph.json" and len(damaged) == len(whole):
            continue  # the record has no checksum of its own
        path.write_bytes(damaged)
        with pytest.raises(ForeignFolder, match=file):
            store.load("the")
    path.unlink()
    with pytest.raises((ForeignFolder, UnknownGraph), match=file):
        store.load("the")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, "update circuit-assay"),
        ({"version": None}, "version"),
        ({"format": "other"}, "no record of ours"),
        ({"tokens": None}, "tokens should be a list"),
        ({"token_ids": []}, "one text for each of token_ids, found 0 ids, 1 texts"),
        ({"token_ids": [8]}, r"graph\.json does not belong to the tables beside it: tokens, token_ids or content"),
        ({"tokens": ["austin"]}, "tokens, token_ids or content changed after it was written"),
        ({"prompt": "The capital of Texas is"}, "prompt changed after it was written"),
        ({"nodes": 4}, "nodes changed"),
        ({"targets": ["sacramento"]}, "targets changed"),
        ({"provenance": {"prompt": PROMPT, "against": []}}, "against changed"),
        ({"provenance": {"prompt": PROMPT, "method": "direct"}}, "provenance.model, .*provenance.against missing"),
        ({"files": {}}, "nodes.parquet"),
    ],
)
def test_a_foreign_record_is_refused_and_said_why(tmp_path, change, says):
    store = Store(tmp_path)
    path = tmp_path / store.save(small()) / "graph.json"
    record = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({**record, "seal": seal(record)}))

    with pytest.raises(ForeignFolder, match=says):
        store.load("the")


def test_a_record_that_was_changed_is_refused_whatever_was_changed(tmp_path):
    store = Store(tmp_path)
    path = tmp_path / store.save(small(), assay()) / "graph.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record))  # on one line: it says the same
    assert store.assay("the").verdicts == assay().verdicts

    for part, name in (("scores", "replacement"), ("provenance", "model"), ("assay", "conservation")):
        edited = copy.deepcopy(record)
        edited[part][name] = "other" if part == "provenance" else 0.99
        path.write_text(json.dumps(edited))
        for read in (store.load, store.record, store.assay):
            with pytest.raises(ForeignFolder, match=r"graph\.json is damaged: its checksum .* changed"):
                read("the")
        assert "checksum" in store.list()[0].problem


def test_a_record_from_before_records_were_sealed_is_read(tmp_path):
    store = Store(tmp_path)
    path = tmp_path / store.save(small()) / "graph.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({key: each for key, each in record.items() if key not in ("seal", "targets")}))

    assert same(store.load("the"), small())


def test_a_listing_names_what_is_there_and_what_cannot_be_read(tmp_path):
    store = Store(tmp_path)
    good, bad = store.save(small("good")), store.save(small("bad"))
    (tmp_path / bad / "graph.json").write_text("{")
    (tmp_path / "somebody elses").mkdir()
    (tmp_path / "note.txt").touch()

    entries = store.list()

    assert [entry.id for entry in entries] == [good, bad]
    assert (entries[0].prompt, entries[0].nodes, entries[0].edges, entries[0].model) == ("good", 3, 2, "toy")
    assert "graph.json" in entries[1].problem
    assert Store(tmp_path / "nowhere").list() == []


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("step", ["write_table", "write_bytes", "land_graph"])
def test_a_save_that_is_cut_short_leaves_what_was_there(tmp_path, monkeypatch, trouble, step):
    store = Store(tmp_path)
    id = store.save(small())

    def fail(*_):
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(f"graphs.store.{step}", fail)
        for graph in (small(), small("other")):
            with pytest.raises((KeyboardInterrupt, CannotWrite)):
                store.save(graph)

    assert os.listdir(tmp_path) == [id]
    assert same(store.load(id), small())


def test_a_graph_comes_back_to_its_place_when_its_successor_cannot_be_put_there(tmp_path, monkeypatch):
    store = Store(tmp_path)
    id = store.save(small())
    rename = Path.rename

    def refuse_the_new(self, target):
        if self.name == "new":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse_the_new)
        with pytest.raises(CannotWrite, match="Input/output error"):
            store.save(small())

    assert same(store.load(id), small())


def test_a_store_that_is_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(CannotWrite, match="--store"):
        Store(tmp_path / "file").save(small())


def test_a_file_is_put_beside_a_graph_whole_or_not_at_all(tmp_path):
    store = Store(tmp_path)
    id = store.save(small())

    def interrupted(path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    assert store.attach(id, "graph.svg", b"<svg/>").read_bytes() == b"<svg/>"
    assert store.attach(id, "graph.svg", lambda path: path.write_bytes(b"new")).read_bytes() == b"new"
    with pytest.raises(KeyboardInterrupt):
        store.attach(id, "graph.png", interrupted)
    assert sorted(os.listdir(tmp_path / id)) == ["edges.parquet", "graph.json", "graph.svg", "nodes.parquet"]
    for name in ("../graph.svg", "graph.json", ".hidden", "", "a/b", "a\\b", "..", "nodes.parquet"):
        with pytest.raises(CannotWrite, match="plain name"):
            store.attach(id, name, b"")


def test_a_file_lands_where_the_graph_may_be_written_to_and_the_store_may_not(tmp_path, monkeypatch):
    store = Store(tmp_path)
    id = store.save(small())
    really = tempfile.mkdtemp

    def refuse(*, prefix, dir):
        if Path(dir) == tmp_path:
            raise PermissionError(13, "Permission denied")
        return really(prefix=prefix, dir=dir)

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)

    assert store.attach(id, "graph.svg", b"<svg/>").read_bytes() == b"<svg/>"
    assert sorted(os.listdir(tmp_path / id)) == ["edges.parquet", "graph.json", "graph.svg", "nodes.parquet"]


def test_how_a_graph_was_made_does_not_change_its_id(tmp_path):
    later = replace(small(), provenance={**small().provenance, "seconds": 2.5})

    assert Store(tmp_path).save(later) == Store(tmp_path).save(small())


def test_a_prompt_of_special_tokens_only_is_told_by_them(tmp_path):
    def saved(tokens):
        graph = graph_of([(0, 1, 1.0)], "token logit", tokens=tokens, token_ids=tuple(range(len(tokens))))
        store = Store(tmp_path)
        return store.record(store.save(graph))["prompt"]

    assert saved(("<bos>", "<eos>")) == "<bos> <eos>"
    assert saved(("<bos>", "dallas")) == "dallas"


def test_what_is_explained_is_part_of_what_a_graph_is(tmp_path):
    edges, kinds = [(0, 1, 1.0), (0, 2, 1.0)], "token logit logit"
    ids = {Store(tmp_path).save(graph_of(edges, kinds, goal=goal), name="same") for goal in ([0, 0.9, 0.1], [0, 1, 0])}
    assert len(ids) == 2
