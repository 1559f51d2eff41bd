"""Heads kept beside a graph: read back as they were; damaged, foreign or later ones are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from circuits.__main__ import main
from graphs import Store
from graphs.errors import ForeignFolder
from graphs.export.page import to_html
from graphs.export.page.parts import as_script
from graphs.heads import HEADS, Heads
from graphs.records import seal
from tests.worlds import graph_of

#   token 0 --3--> feature 1 --(-1)--> logit 3;  error 2 --1--> logit 3
GRAPH = graph_of([(0, 1, 3), (1, 3, -1), (2, 3, 1)], "token feature error logit")
CARRIED = Heads([1, 0], [3, 1], [[(1, 0, -0.75), (0, 2, 1 / 3)], [(0, 1, 3.0)]], split=2, of=3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "store")
    found.keep_heads(found.save(GRAPH, name="one"), CARRIED)
    return found


def told(heads: Heads | None) -> dict:
    assert heads is not None
    return {edge: [tuple(each) for each in carried] for edge, carried in heads.by_edge().items()}


def test_what_was_kept_is_read_to_the_last_bit_and_goes_with_the_graph_it_is_of(store: Store):
    found = store.heads("one")

    assert told(found) == told(CARRIED) == {(1, 3): [(1, 0, -0.75), (0, 2, 1 / 3)], (0, 1): [(0, 1, 3.0)]}
    assert found is not None and (found.split, found.of) == (2, 3)
    store.save(GRAPH, name="one")  # takes the place of the first, with all that was attached
    assert store.heads("one") is None


def test_of_a_part_of_the_graph_its_edges_are_known_by_their_rows_there():
    assert told(CARRIED.among([1, 2, 3])) == {(0, 2): [(1, 0, -0.75), (0, 2, 1 / 3)]}
    assert told(CARRIED.among([2, 3])) == {}


def test_where_heads_are_kept_anew_a_graph_is_stamped_anew(store: Store):
    before = store.stamp("one")
    store.keep_heads("one", CARRIED.among([0, 1]))
    assert store.stamp("one") != before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "notes"}, "does not say format"),
        ({"version": 2}, "reads up to 1: update"),
        ({"version": True}, "reads up to 1: update"),
        ({"content": "0" * 64}, "of another graph"),
        ({"source": [1]}, "of one length"),
        ({"source": [1, 4]}, "rows of 4 nodes, found 4"),
        ({"target": [3, -1]}, "rows of 4 nodes, found -1"),
        ({"split": 1}, "no fewer each time"),
        ({"of": 4}, "no fewer each time"),
        ({"head": [[0], [1]]}, "as many"),
        ({"layer": [[-1, 0], [0]]}, "count from 0"),
        ({"load": [[None, 0.5], [3.0]]}, "a load is a number"),
        ({"load": [["x", 0.5], [3.0]]}, "load[0][0]"),
        ({"load": None}, "load"),
        ({"seal": "0" * 64}, "changed after it was written"),
    ],
)
def test_a_changed_file_is_refused_by_name_and_the_graph_is_read_all_the_same(store: Store, changes: dict, words: str):
    path = Path(str(store.find("one"))) / HEADS
    record = {**json.loads(path.read_bytes()), **changes}
    if "seal" not in changes:
        record["seal"] = seal(record)
    path.write_text(json.dumps(record))

    with pytest.raises(ForeignFolder) as refused:
        store.heads("one")
    assert str(path) in str(refused.value) and words in str(refused.value)
    assert store.load("one").tokens == GRAPH.tokens
    assert [entry.problem for entry in store.list()] == [""]


@pytest.mark.parametrize("content", ["", "[]", "null", "{", '{"format": "circuit-assay heads"', "[" * 100_000])
def test_what_is_no_record_is_told_on_the_page_and_the_graph_is_drawn_all_the_same(
    store: Store, content: str, capsys: pytest.CaptureFixture[str]
):
    path = Path(str(store.find("one"))) / HEADS
    path.write_text(content)
    page = path.parent / "page.html"

    assert main(["draw", "one", "-o", str(page), "--store", str(store.folder), "--quiet"]) == 0
    said = capsys.readouterr().err
    assert said.startswith("circuits: page.html tells of no heads: heads.json ") and said.count("\n") == 1
    reason = said.partition("no heads: ")[2].strip()
    assert f'"heads":{{}},"split":null,"headless":{as_script(reason)}' in page.read_text()
    assert str(path.parent) not in page.read_text()  # it may be sent to others
    assert main(["draw", "one", "-o", str(path.parent / "x.svg"), "--store", str(store.folder)]) == 0
    assert not capsys.readouterr().err
    (path.parent / "graph.json").write_text(content)
    with pytest.raises(ForeignFolder, match=r"graph\.json"):
        store.heads_or_reason("one")


def test_a_page_knows_the_heads_that_are_kept_and_one_without_them_is_as_before(store: Store, tmp_path: Path):
    assert main(["draw", "one", "-o", str(tmp_path / "x.html"), "--store", str(store.folder), "--quiet"]) == 0

    page = (tmp_path / "x.html").read_text()
    assert '"heads":{"1-3":[[1,0,-0.75],[0,2,0.333333]],"0-1":[[0,1,3.0]]},"split":{"edges":2,"of":3}' in page
    assert '"heads":{},"split":null' in to_html(GRAPH)
