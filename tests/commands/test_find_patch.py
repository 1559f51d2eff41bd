"""`circuits find`, on the shipped model."""

import json
from xml.etree import ElementTree

import pytest

from circuits.__main__ import main
from circuits.attribution import EDGE_METHODS, PART_METHODS, SEARCHES
from circuits.commands import find
from circuits.components.ablations import ABLATIONS
from circuits.components.metrics import METRICS
from graphs.store import Store

CLEAN = "the capital of the state containing dallas is"
OTHER = "the capital of the state containing oakland is"
PAIR = {"clean": CLEAN, "corrupted": OTHER, "right": "austin", "wrong": "sacramento"}


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "capitals.jsonl"
    path.write_text(json.dumps(PAIR) + "\n", encoding="utf-8")
    return path


def test_the_command_offers_what_there_is():
    assert set(find.OF_EDGES) == set(EDGE_METHODS)
    assert set(find.BY_SEARCH) == set(SEARCHES)
    assert set(find.OF_NODES) == set(PART_METHODS)
    assert find.ABLATIONS == tuple(ABLATIONS)
    assert set(find.METRICS) == set(METRICS)


def test_a_circuit_is_found_stored_drawn_and_told(pairs, tmp_path, capsys):
    store = tmp_path / "store"
    words = ["find", str(pairs), "--store", str(store), "--edges", "60", "-o", str(tmp_path / "x.svg")]

    assert main(words) == 0
    said = capsys.readouterr().out
    assert "of the difference kept" in said and "input->a0.h" in said
    ElementTree.parse(tmp_path / "x.svg")

    assert main([*words[:-2], "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    (entry,) = Store(store).list()
    graph = Store(store).load(entry.id)
    circuit = record["provenance"]["circuit"]
    assert 0 < len(circuit) <= 60 and not entry.problem
    assert sum(circuit.values()) == pytest.approx(graph.weight.sum())
    assert set(graph.nodes.kind) == {"token", "head", "mlp", "logit"}
    measured = record["provenance"]["metric"]
    kept = (measured["circuit"] - measured["corrupted"]) / (measured["clean"] - measured["corrupted"])
    assert record["faithfulness"] == pytest.approx(kept)
    assert kept > 0.8
    for command in ("show", "draw"):
        assert main([command, entry.id, "--store", str(store)]) == 0
    assert "transcoders:" not in capsys.readouterr().out  # there are none
    for command in ("check", "heads"):
        assert main([command, entry.id, "--store", str(store)]) == 2
        assert "a circuit that `circuits find` found over pairs" in capsys.readouterr().err


def test_all_edges_keep_all_of_the_difference(pairs, tmp_path, capsys):
    words = ["find", str(pairs), "--store", str(tmp_path), "--edges", "100000", "--method", "random", "--json", "-q"]

    assert main([*words, "--seed", "1"]) == 0

    assert json.loads(capsys.readouterr().out)["faithfulness"] == pytest.approx(1, abs=1e-4)


def test_a_circuit_of_nodes_is_found_stored_and_told(pairs, tmp_path, capsys):
    words = ["find", str(pairs), "--store", str(tmp_path / "store"), "--method", "atp-star", "--nodes", "12"]

    assert main([*words, "--positions", "--ablation", "mean", "--memory", "2GB"]) == 0

    said = capsys.readouterr().out
    assert "12 of 180 nodes kept" in said and "with all ablated (mean)" in said and " @dallas (" in said
    (entry,) = Store(tmp_path / "store").list()
    assert not entry.problem
    for command in ("show", "draw"):
        assert main([command, entry.id, "--store", str(tmp_path / "store")]) == 0


def test_the_best_nodes_are_verified_and_a_bound_is_told(pairs, tmp_path, capsys):
    words = ["find", str(pairs), "--store", str(tmp_path / "store"), "--method", "atp-star", "--nodes", "4"]

    assert main([*words, "--verify", "8"]) == 0
    said = capsys.readouterr().out
    assert "8 nodes patched for real; in company, no other moves the metric by more than" in said
    assert main([*words, "--verify", "1000"]) == 0
    assert "20 nodes patched for real; none is left" in capsys.readouterr().out


def test_a_circuit_says_which_head_reads_which_feature_and_through_what(pairs, tmp_path, capsys):
    store = ["--store", str(tmp_path / "store")]
    words = [
        "find",
        str(pairs),
        "--method",
        "atp",
        "-t",
        "world",
        "--nodes",
        "40",
        *store,
        "-o",
        str(tmp_path / "x.svg"),
    ]

    assert main(words) == 0
    said = capsys.readouterr().out
    (entry,) = Store(tmp_path / "store").list()
    graph = Store(tmp_path / "store").load(entry.id)

    assert "strongest edges between them:" in said and " -> m0.f" in said and "(texas" in said
    assert {"feature", "head", "error", "token", "logit"} == set(graph.nodes.kind)
    assert graph.provenance["transcoders"] == "world" and not entry.problem
    drawn = "".join(ElementTree.parse(tmp_path / "x.svg").getroot().itertext())
    assert "a0.h0" in drawn and all(
        label.split("/")[0][:9] in drawn for label in graph.nodes.label[graph.nodes.where("feature")]
    )
    for command in (["show"], ["draw", "--supernodes"]):
        assert main([command[0], entry.id, *store, *command[1:]]) == 0


def test_edges_are_told_with_their_positions(pairs, tmp_path, capsys):
    words = ["find", str(pairs), "--store", str(tmp_path / "store"), "--method", "eap", "--edges", "30", "--positions"]

    assert main(words) == 0

    said = capsys.readouterr().out
    assert "edges kept" in said and "->" in said and " @is (8)" in said
    (entry,) = Store(tmp_path / "store").list()
    circuit = Store(tmp_path / "store").load(entry.id).provenance["circuit"]
    assert any(name.endswith("->logits@8") for name in circuit)


def test_edges_are_taken_out_until_the_answer_would_change(pairs, tmp_path, capsys):
    words = ["find", str(pairs), "--store", str(tmp_path / "store"), "--method", "acdc", "--threshold", "0.5"]

    assert main([*words, "--json"]) == 0

    record = json.loads(capsys.readouterr().out)
    assert record["provenance"]["options"]["metric"] == "kl"
    assert 0 < len(record["provenance"]["circuit"]) < 300
    assert all(fall >= 0.5 for fall in record["provenance"]["circuit"].values())


def test_a_circuit_without_a_path_is_told_as_such(pairs, tmp_path, capsys):
    assert main(["find", str(pairs), "--store", str(tmp_path / "store"), "--method", "eap", "--edges", "1"]) == 0

    said = capsys.readouterr().out
    assert "eap on 1 pair: 0 of 479 edges kept" in said and "no edge that was chosen lies on a path" in said
    assert "strongest edges" not in said


def test_a_task_is_found_by_name_and_told(tmp_path, monkeypatch, capsys):
    words = ["find", "two-hop", "--store", str(tmp_path / "store"), "--method", "eap", "--edges", "60"]

    assert main([*words, "--size", "6"]) == 0

    said = capsys.readouterr().out
    assert "two-hop, train pairs" in said and "eap on 6 pairs" in said
    (entry,) = Store(tmp_path / "store").list()
    made = Store(tmp_path / "store").load(entry.id).provenance
    assert made["task"]["name"] == "two-hop" and made["pairs"] == made["task"]["size"] == 6
    assert main(["find", "two-hop", "--store", str(tmp_path / "x"), "-m", "no-such-model"]) == 2
    assert "no-such-model" in capsys.readouterr().err

    # A JSONL file works anywhere: installed without the benchmarks, there are no tasks.
    def missing(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("circuits.checkout.import_module", missing)
    assert main(words) == 2
    assert "tasks and benchmarks come with the repository" in capsys.readouterr().err


def test_a_model_without_the_words_for_a_task_is_told_for_which_it_has_them(tmp_path, capsys):
    assert main(["find", "booleans", "--store", str(tmp_path / "store")]) == 2

    said = capsys.readouterr().err
    assert "world cannot be given the task 'booleans'" in said
    fitting = said.rstrip(".\n").rpartition("Tasks that it can be given: ")[2].split(", ")
    assert {"two-hop", "ioi"} <= set(fitting) and "booleans" not in fitting


def test_an_interrupted_search_is_gone_on_with(pairs, tmp_path, monkeypatch, capsys):
    pairs.write_text(pairs.read_text() * 3)
    words = ["find", str(pairs), "--store", str(tmp_path / "store"), "--batch", "1", "--method", "eap", "--json"]
    scored = []
    score = EDGE_METHODS["eap"]

    def stop(transformer, part, metric, *, ablation):
        scored.append(len(part))
        if len(scored) == 3:
            raise KeyboardInterrupt
        return score(transformer, part, metric, ablation=ablation)

    monkeypatch.setitem(EDGE_METHODS, "eap", stop)
    assert main(words) == 130
    assert "what is finished is kept" in capsys.readouterr().err
    assert main(words) == 0
    assert scored == [1] * 4
    again = json.loads(capsys.readouterr().out)["provenance"]["circuit"]

    monkeypatch.setitem(EDGE_METHODS, "eap", score)
    assert main([*words, "--batch", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"]["circuit"] == pytest.approx(again, rel=1e-3, abs=1e-5)
    assert not list((tmp_path / "store").glob(".unfinished"))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("iio", "there is no file and no task 'iio': tasks are ioi, "),
        ("iio", "Did you mean ioi?"),
        ("pairs.jsonl", "pairs.jsonl is a file"),
    ],
)
def test_what_is_neither_file_nor_task_is_told(name, complaint, tmp_path, capsys):
    assert main(["find", name, "--store", str(tmp_path / "store"), "--size", "3"]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "options", "complaint"),
    [
        ("{oops", ["-m", "no-such-model"], "line 1 is no JSON"),  # told before a model is looked for
        (json.dumps(PAIR), ["-m", "no-such-model", "-o", "x.xyz"], "known endings are .svg"),
        (json.dumps(PAIR), ["-m", "wrld"], "Did you mean world?"),
        (json.dumps(PAIR), ["--method", "atp", "-t", "wrld"], "Did you mean world?"),
        (json.dumps(PAIR), ["--method", "atp", "--force"], "name it with --transcoders"),
        (json.dumps({**PAIR, "right": "austin texas"}), [], "line 1, right"),
        (json.dumps(PAIR), ["--method", "eap", "--steps", "3"], "eap takes no steps"),
        (json.dumps(PAIR), ["--seed", "3"], "eap-ig takes no seed"),
        (json.dumps(PAIR), ["--nodes", "3"], "eap-ig scores edges"),
        (json.dumps(PAIR), ["--method", "atp", "--edges", "3"], "atp scores nodes"),
        (json.dumps(PAIR), ["--verify", "3"], "eap-ig scores edges: it is for atp"),
        (json.dumps(PAIR), ["--method", "atp", "--verify", "3"], "verify 30 or more"),
        (json.dumps(PAIR), ["--memory", "1kB"], "give more memory"),
        (json.dumps(PAIR), ["--method", "acdc", "--edges", "3"], "acdc takes edges out: it is for eap-ig"),
        (json.dumps(PAIR), ["--threshold", "1"], "it is for acdc"),
        (json.dumps(PAIR), ["--method", "eap", "--max-features", "9"], "--max-features is asked, but eap scores edges"),
        (json.dumps(PAIR), ["--method", "atp", "-t", "world/cross-layer"], "parts of no one MLP"),
        (json.dumps(PAIR), ["--method", "acdc", "--threshold", "nan"], "threshold must be a number above 0"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_code_two(line, options, complaint, tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    path.write_text(line, encoding="utf-8")

    assert main(["find", str(path), "--store", str(tmp_path / "store"), *options]) == 2
    said = capsys.readouterr().err
    assert complaint in said and said.count("\n") == 1
    assert not (tmp_path / "store").exists()
