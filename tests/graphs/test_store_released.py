"""What earlier versions of the program wrote is read today: one stored graph for each layout that there was.

Each folder under `released` was written by the code of its time, from a checkout of it, and is never changed:

    1-first     the first commit with `trace`, 90858dc: neither seal nor targets; of the assay ablations and subsets
    1-unsealed  29e1ebb, made by hand: targets without the blanks around them, a prompt of special tokens that is empty
    1-stripped  90f81ba, the same graph, sealed
    1-sealed    90f81ba, traced: records are sealed, level 1 of the assay
    1-seeds     0f5ecb3, traced: targets, and an assay that says how much the features miss

Who raises VERSION puts a folder here that the new code wrote.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from circuits.commands.show import describe
from graphs import Store
from graphs.export.page import to_html
from graphs.folders import content_of
from graphs.records import VERSION

RELEASED = Path(__file__).parent / "released"
NAMES = sorted(folder.name for folder in RELEASED.iterdir())


@pytest.fixture(params=NAMES)
def folder(request, tmp_path):
    """A copy, alone in a store."""
    return Path(shutil.copytree(RELEASED / request.param, tmp_path / "store" / request.param))


def plain(value):
    """JSON as it is compared: null for nan, lists for tuples."""
    return json.loads(json.dumps(value).replace("NaN", "null"))


def holds(later, earlier):
    """Whether all that an earlier record says is in the later one."""
    if isinstance(earlier, dict):
        return all(key in later and holds(later[key], each) for key, each in earlier.items())
    if isinstance(earlier, list):
        return len(later) == len(earlier) and all(map(holds, later, earlier))
    return later == earlier


def test_every_version_is_kept():
    versions = {json.loads((RELEASED / name / "graph.json").read_bytes())["version"] for name in NAMES}
    assert versions == set(range(1, VERSION + 1))


def test_a_graph_of_an_earlier_version_is_read_whole(folder):
    said = json.loads((folder / "graph.json").read_bytes())
    store = Store(folder.parent)

    graph, assay = store.load(folder.name), store.assay(folder.name)

    assert content_of(graph) == said["content"]
    assert (list(graph.tokens), list(graph.token_ids)) == (said["tokens"], said["token_ids"])
    assert plain(graph.provenance) == said["provenance"]
    assert (len(graph.nodes), len(graph.source)) == (said["nodes"], said["edges"])
    assert assay is not None and holds(plain(assay.to_json()), said["assay"])
    assert describe(store, folder, 3) and "</html>" in to_html(graph, assay=assay)


def test_it_is_listed_and_asked_of_as_any_other(folder):
    said = json.loads((folder / "graph.json").read_bytes())
    store = Store(folder.parent)

    (entry,) = store.list()
    assert (entry.problem, entry.prompt, entry.saved) == ("", said["prompt"], said["saved"])
    assert [verdict["verdict"] for verdict in said["assay"]["verdicts"]] == list(entry.verdicts)
    assert store.query("select count(*) from nodes").to_pylist()[0].popitem()[1] == said["nodes"]
    assert store.query("select count(*) from edges").to_pylist()[0].popitem()[1] == said["edges"]


def test_saved_again_it_is_of_this_version_and_has_the_same_hash(folder, tmp_path):
    said = json.loads((folder / "graph.json").read_bytes())
    graph, assay = Store(folder.parent).load(folder), Store(folder.parent).assay(folder)

    now = Store(tmp_path / "now")
    id = now.save(graph, assay)

    assert id.rpartition("-")[2] == said["id"].rpartition("-")[2]  # the words of it may be told otherwise by now
    record = now.record(id)
    assert record["version"] == VERSION and holds(record["provenance"], said["provenance"])
    assert {name: record["scores"][name] for name in said["scores"]} == pytest.approx(said["scores"])
