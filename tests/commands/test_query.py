"""`circuits query`: what is printed, written and refused."""

from __future__ import annotations

import csv
import json
import os

import pytest
from pyarrow import parquet

from circuits.__main__ import main
from graphs import Assay, Store, Verdict
from tests.worlds import graph_of


@pytest.fixture
def ids(tmp_path, monkeypatch):
    """A store of two graphs that share a feature, in the current folder."""
    monkeypatch.chdir(tmp_path)
    store = Store("circuits-store")
    made = {"model": "toy", "transcoders": "toy"}
    verdict = Verdict("it holds", "supported", 0.5, "above 0.2", "none")
    return [
        store.save(
            graph_of([(0, 1, weight), (1, 2, weight)], "token feature logit", provenance={**made, "prompt": prompt}),
            Assay({}, 1e-7, [], {}, [], [verdict]),
        )
        for prompt, weight in (("one\nline", 1.0), ("two", 3.0))
    ]


def test_a_question_is_answered_with_a_table(ids, capsys):
    assert main(["query", "select id, prompt, targets, 1/3 as third, null as none from graphs order by id"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["id", "prompt", "targets", "third", "none"]
    assert lines[1].split("  ")[0] == ids[0] and "one line  logit 2  0.3333  -" in lines[1]
    assert len(lines) == 3


def test_what_is_more_than_fits_a_terminal_is_said(ids, capsys):
    assert main(["query", "select * from edges", "--rows", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[-1].startswith("… and more: these are the first 3 rows")
    assert main(["query", "select * from edges", "--rows", "4"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert main(["query", "select * from edges where false"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no rows"


def test_what_is_wide_is_cut_but_no_id(ids, capsys):
    assert main(["query", "select repeat('x', 90) as id, repeat('y', 90) as other"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"{'x' * 90}  {'y' * 39}…"


def test_json_is_strict_and_whole(ids, capsys):
    assert main(["query", "select node, value, label, label from nodes order by graph, node", "--json"]) == 0

    rows = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert len(rows) == 6
    assert rows[0] == {"node": 0, "value": None, "label": "token 0", "label_2": "token 0"}


@pytest.mark.parametrize("name", ["x.csv", "new/x.parquet"])
def test_an_answer_is_written_into_a_file(ids, capsys, name):
    assert main(["query", "select id, nodes, targets from graphs order by id", "-o", name]) == 0

    assert capsys.readouterr().out.startswith(f"wrote {name}: 2 rows")
    if name.endswith("csv"):
        rows = list(csv.reader(open(name, newline="")))
        assert rows == [["id", "nodes", "targets"], *([id, "3", '["logit 2"]'] for id in sorted(ids))]
    else:
        assert parquet.ParquetFile(name).read()["id"].to_pylist() == sorted(ids)
    folder = os.path.dirname(name) or "."
    assert {each for each in os.listdir(folder) if each != "circuits-store"} == {os.path.basename(name)}


def test_the_ready_questions(ids, capsys):
    def ask(*words):
        assert main(["query", *words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert sorted(row["graph"] for row in ask("--feature", "L1/1")) == sorted(ids)
    assert [row["unit"] for row in ask("--shared", "one", "two")] == ["L1/1"]
    assert [row["graphs"] for row in ask("--shared")] == [2]
    (edge,) = ask("--edge", "L1/1", "logit 2")
    assert (edge["graphs"], edge["mean"], edge["least"], edge["largest"]) == (2, 2, 1, 3)
    assert len(ask("--label", "LOGIT")) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["selec 1"], "syntax error"),
        (["select * from grphs"], "Tables: graphs(id, prompt"),
        (["delete from nodes"], "never changed"),
        (["--feature", "texas"], "L2/544"),
        (["--shared", "nowhere"], "no graph in circuits-store begins with 'nowhere'"),
        (["select 1", "-o", "x.txt"], "ends in .csv or .parquet"),
        (["select 1", "-o", "circuits-store/x.csv/y.csv", "--store", "file"], "no store"),
        (["select list(range) from range(100000000)", "--memory", "50MB"], "0.05 GB of memory"),
        (["select 1", "--store", "nowhere://x"], "Protocol not known: nowhere"),
    ],
)
def test_what_cannot_be_answered_is_refused(ids, capsys, words, says):
    open("file", "w").close()

    assert main(["query", *words]) == 2
    said = capsys.readouterr()
    assert says in said.err and said.out == ""


def test_graphs_that_are_left_out_are_named(ids, capsys):
    with open(f"circuits-store/{ids[1]}/edges.parquet", "r+b") as file:
        file.truncate(100)

    assert main(["query", "select id from graphs"]) == 0
    said = capsys.readouterr()
    assert ids[0] in said.out and ids[1] not in said.out
    assert f"1 graph is left out, which cannot be read:\n  {ids[1]}: " in said.err and "edges.parquet" in said.err
