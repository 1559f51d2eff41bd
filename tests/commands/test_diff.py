"""`circuits diff`: what is printed, drawn and refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from circuits.__main__ import main
from graphs import Store
from tests.graphs.test_comparing import DALLAS, OAKLAND, question


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store of two graphs, `dallas` and `oakland`, in the current folder."""
    monkeypatch.chdir(tmp_path)
    found = Store("circuits-store")
    for name, graph in (("dallas", DALLAS), ("oakland", OAKLAND)):
        found.save(graph, name=name)
    return found


def test_two_graphs_are_told_apart_in_words(store, capsys):
    assert main(["diff", "dallas", "oakland"]) == 0

    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[:4] == ["A: in dallas is", "  100.0%  austin", "B: so in oakland is", "  100.0%  sacramento"]
    assert lines[4] == "nodes: 4 in both, 3 only in A, 4 only in B; edges: 2 in both, 4 only in A, 4 only in B"
    assert lines[5].startswith("overlap of influence 0.25; ")
    assert "two wordings of one question differ anyway" in out
    moved = lines.index("influence moves most, A → B:")
    assert lines[moved + 1].split("  ")[-1] == "L0/6 @is" and "30.0% → 10.0%" in lines[moved + 1]
    assert lines[lines.index("only in A, by influence:") + 1].split() == ["40.0%", "L0/5", "@dallas"]
    assert lines[lines.index("only in B, by influence:") + 1].split() == ["50.0%", "L0/8", "@oakland"]


def test_units_of_one_label_are_told_by_their_number_and_lists_are_as_long_as_asked(store, capsys):
    graph = question("in dallas is", [(1, 0, 0.4, 2.0), (2, 0, 0.3, 1.0)])
    labels = np.array(["texas" if "/" in label else label for label in graph.nodes.label], dtype=object)
    store.save(replace(graph, nodes=graph.nodes.with_columns(label=labels)), name="named")

    assert main(["diff", "oakland", "named", "--nodes", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].strip() == "40.0%  texas L0 @is (0/1)" and lines[-2] == "only in B, by influence:"


def test_a_graph_beside_itself_has_nothing_of_its_own(store, capsys):
    assert main(["diff", "dallas", "dallas"]) == 0

    assert capsys.readouterr().out.splitlines()[-3:] == [
        "no node that is in both has other influence in B",
        "no node is only in A",
        "no node is only in B",
    ]


def test_json_is_strict_and_holds_every_node(store, capsys):
    assert main(["diff", "dallas", "oakland", "--json"]) == 0

    record = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert record["a"].startswith("dallas") and record["b"].startswith("oakland")
    assert record["overlap"] == pytest.approx(0.25)
    assert [each["name"] for each in record["nodes"]["only_a"]] == ["dallas", "L0/5 @dallas", "austin"]
    assert record["nodes"]["both"][2] == {"rows": [4, 4], "names": ["L0/6 @is"] * 2, "influence": [0.3, 0.1]}
    assert record["edges"] == {"both": 2, "only_a": 4, "only_b": 4} and record["correlation"] is None


def test_the_picture_is_written_where_it_is_asked_for(store, capsys, tmp_path):
    assert main(["diff", "dallas", "oakland", "-o", "both.svg", "--theme", "dark", "--quiet"]) == 0

    assert capsys.readouterr().out == "" and b"A: in dallas is" in (tmp_path / "both.svg").read_bytes()
    assert main(["diff", "dallas", "oakland", "-o", "both.svg"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "wrote both.svg"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dallas", "dalas"], "begins with 'dalas'. There are: dallas-"),
        (["dallas", "other"], "graphs of one model are compared, found one of toy and one of gpt2"),
        (["dallas", "oakland", "--theme", "dark"], "name its file too, -o x.svg"),
        (["dallas", "oakland", "-o", "x.html"], "drawn as .svg, .png, .pdf, .dot; found 'x.html'"),
        (["dallas", "oakland", "-o", ""], "drawn as .svg"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence_and_code_2(store, capsys, words, said):
    store.save(question("is", [(5, 0, 0.4, 2.0)], model="gpt2"), name="other")

    assert main(["diff", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


def test_a_model_and_its_fine_tune_are_compared_when_asked(store, capsys):
    store.save(question("in dallas is", [(5, 1, 0.4, 2.0)], model="tuned"), name="tuned")

    assert main(["diff", "dallas", "tuned", "--force"]) == 0
    assert "nodes: 5 in both" in capsys.readouterr().out
