"""Whatever is changed in the JSON beside a graph: it is refused by name, or harmless to all who read it."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings, strategies

from circuits.commands.show import describe
from graphs import Store, prune
from graphs.assays import Ablation, Assay, Subset, Verdict
from graphs.errors import ForeignFolder
from graphs.export.page import to_html
from graphs.records import read_sheet, seal
from tests.worlds import graph_of

VALUES = (None, "", [], {}, -1, 1e400, "long " * 200)
MISSING = object()

MADE = {
    "prompt": "dallas",
    "model": "toy",
    "model_hash": "0" * 12,
    "transcoders": "toy",
    "transcoders_hash": "1" * 12,
    "method": "direct",
    "options": {"max_logits": 10, "targets": None},
    "versions": {"python": "3.11"},
    "conservation": 1e-7,
    "active": 1,
    "traced": 1,
    "against": [-1],
    "dtype": "float32",
    "device": "cpu",
    "feature_notes": {"1/1": {"label": "texas", "fires_on": ["dallas"]}},
}
GRAPH = prune(
    graph_of([(0, 1, 3), (1, 3, -1), (2, 3, 1)], "token feature error logit", provenance=MADE), nodes=1, edges=1
)
ASSAY = Assay(
    registration={"metric": "logit", "thresholds": {"sizeable": 0.05, "slope": [0.5, 1.5]}, "hash": "abc", "seed": 0},
    conservation=1e-7,
    ablations=[Ablation(1, 0.5, -3.0, -2.0, 0.1, -2.5, 0.2)],
    statistics={"slope": 0.5, "clean": 4.0},
    subsets=[Subset("mean", 0.9, 0.1, [0.2, 0.3], [0.8, 0.9], 0.3, 0.3)],
    verdicts=[Verdict("it holds", "supported", 0.9, "above 0.8", "2 random sets")],
    seconds={"trace": 0.1},
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    found = Store(tmp_path_factory.mktemp("store"))
    found.keep_assay(found.save(GRAPH, assay=ASSAY), ASSAY)
    return found


def places(value, at=()):
    """The path of everything in a JSON value, itself left out."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield (*at, key)
        yield from places(each, (*at, key))


def changed(record, place, value):
    record = copy.deepcopy(record)
    inner = record
    for key in place[:-1]:
        inner = inner[key]
    if value is MISSING:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return record


def write(path, record):
    """As somebody would who changes a record on purpose: with a seal that fits."""
    if "seal" in record:
        record = {**record, "seal": seal(record)}
    path.write_text(json.dumps(record).replace("Infinity", "1e400"))


def stands(store, path):
    """Read a graph in every way there is; whether nobody complained."""
    try:
        graph, record = store.load("dallas"), store.record("dallas")
    except ForeignFolder as refused:
        assert path.parent.name in str(refused) and path.name in str(refused)
        # What a listing does not read, the tables, it cannot complain about.
        assert store.list()[0].problem == str(refused) or "beside it" in str(refused) or "checksum" in str(refused)
        return False
    json.dumps(record, allow_nan=False)
    assert [entry.problem for entry in store.list()] == [""]
    assert graph.tokens == ("dallas",) and describe(store, path.parent, 3)
    return True


@pytest.mark.parametrize("file", ["graph.json", "assay.json"])
def test_every_change_is_refused_by_name_or_fits(store, file):
    path = store.find("dallas") / file
    whole = path.read_text()
    record = json.loads(whole)
    unread = ("assay",) if file == "graph.json" else ()  # the assay in graph.json is not the current one
    refused, tried = 0, 0
    try:
        for place in (each for each in places(record) if each[0] not in unread):
            for value in (*VALUES, MISSING):
                write(path, changed(record, place, value))
                tried += 1
                try:
                    read_sheet(path.parent)
                except ForeignFolder as reason:
                    refused += 1
                    assert path.parent.name in str(reason) and file in str(reason)
    finally:
        path.write_text(whole)

    assert stands(store, path)
    assert refused > 0.6 * tried


@settings(max_examples=40)
@given(strategies.data())
def test_what_is_not_refused_harms_nobody(store, data):
    path = store.find("dallas") / data.draw(strategies.sampled_from(["graph.json", "assay.json"]))
    whole = path.read_text()
    record = json.loads(whole)
    for _ in range(2):
        place = data.draw(strategies.sampled_from(list(places(record))))
        record = changed(record, place, data.draw(strategies.sampled_from([*VALUES, 1.5, True, "\ud800", [[]]])))
    try:
        write(path, record)
        if stands(store, path):
            assert "</html>" in to_html(store.load("dallas"), assay=store.assay("dallas"))
    finally:
        path.write_text(whole)
