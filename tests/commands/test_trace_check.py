"""`circuits trace` and `circuits check` on the shipped model, as a person would type them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from circuits.__main__ import main
from circuits.commands.trace import assay_of
from graphs.store import Store
from tests.worlds import graph_of

SHOWCASE = "the capital of the state containing dallas is"


@pytest.fixture(scope="module")
def showcase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the showcase was traced, assay and pictures included."""
    folder = tmp_path_factory.mktemp("showcase") / "store"
    assert main(["trace", SHOWCASE, "--store", str(folder), "--quiet"]) == 0
    return folder


def test_the_showcase_is_answered_traced_tested_and_drawn(showcase: Path):
    store = Store(showcase)
    (entry,) = store.list()
    graph, assay = store.load(entry.id), store.assay(entry.id)

    logits = graph.nodes.where("logit")
    assert graph.nodes.label[logits[graph.goal[logits].argmax()]].strip() == "austin"
    assert graph.provenance["conservation"] <= 1e-5
    assert assay is not None and len(assay.ablations) > 5
    assert {"graph.svg", "graph.html"} <= {path.name for path in (showcase / entry.id).iterdir()}


def test_it_says_what_it_did_in_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["trace", SHOWCASE, "--store", str(tmp_path), "--no-assay", "-o", str(tmp_path / "x.csv")]) == 0
    said = capsys.readouterr().out
    for words in ("features active", "austin", "kept", "replacement", "completeness", "strongest paths", "wrote"):
        assert words in said
    assert (tmp_path / "x.csv").exists()


def test_a_contrast_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["trace", SHOWCASE, "--contrast", "austin", "sacramento", "--store", str(tmp_path), "--no-assay", "--json"]
    assert main(words) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["provenance"]["options"]["targets"] == [["austin", "sacramento"]]
    assert record["likeliest"][0]["token"] == "austin" and record["likeliest"][0]["probability"] > 0.9
    assert record["missing"] == []


def test_targets_are_told_in_their_own_words_below_what_the_model_would_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["trace", SHOWCASE, "--target", "texas", "--contrast", "austin", "sacramento", "--store", str(tmp_path)]
    assert main([*words, "--no-assay"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]

    asked = lines.index("asked about:")
    assert lines[lines.index("likeliest next tokens:") + 1].endswith("%  austin")
    assert "texas" not in "".join(lines[:asked])
    assert lines[asked + 1].endswith("%  texas")
    assert lines[asked + 2].startswith("austin − sacramento: +") and lines[asked + 2].endswith(" logits")


def test_of_several_targets_it_is_said_which_one_is_tested(showcase: Path):
    store = Store(showcase)
    graph = store.load(store.list()[0].id)
    assert assay_of(graph) == "assay, in the real model:"
    twice = np.concatenate([np.arange(len(graph.nodes)), [len(graph.nodes) - 1]])
    goal = np.concatenate([graph.goal, [0.001]])
    assert assay_of(replace(graph, nodes=graph.nodes.take(twice), goal=goal)) == (
        "assay, in the real model, of austin only, the foremost of 2 targets:"
    )


@pytest.mark.parametrize("how", ["--quiet", "--json"])
def test_a_picture_that_cannot_be_drawn_is_told_however_little_is_printed(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    note = "graph.png is left out: Graphviz is missing"
    monkeypatch.setattr("circuits.keeping.keep_pictures", lambda *_: ([], [note]))
    assert main(["trace", SHOWCASE, "--store", str(tmp_path), "--no-assay", how]) == 0
    said = capsys.readouterr()
    assert said.err == f"{note}\n"
    assert how == "--quiet" or json.loads(said.out)["missing"] == [note]


def test_a_stored_graph_is_checked_again(showcase: Path, capsys: pytest.CaptureFixture[str]):
    (entry,) = Store(showcase).list()
    assert main(["check", entry.id[:12], "--store", str(showcase), "--quick", "--controls", "4"]) == 0
    assert "supported" in capsys.readouterr().out
    assay = Store(showcase).assay(entry.id)
    assert assay is not None and len(assay.subsets[0].random_faithfulness) == 4


@pytest.fixture
def judged(showcase: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Checks groups on a copy of the showcase, whatever is in their file; gives what was said."""
    (entry,) = Store(showcase).list()
    shutil.copytree(showcase, tmp_path / "store")
    monkeypatch.setattr("circuits.keeping.keep_pictures", lambda *_: ([], []))  # they take most of the time

    def check(text: str) -> tuple[int, str, str]:
        (tmp_path / "groups.json").write_text(text)
        words = ["--store", str(tmp_path / "store"), "--groups", str(tmp_path / "groups.json"), "--quick"]
        code = main(["check", entry.id, *words])
        return code, *capsys.readouterr()

    return check


def test_a_hypothesis_is_tested_and_a_wrong_one_told(judged: Callable[[str], tuple[int, str, str]]):
    groups = {"at dallas": ["L0/828@8", "L0/912@8"], "texas": ["L1/295", "L1/684", "L2/28@8"]}

    code, said, _ = judged(json.dumps(groups))

    lines = said.splitlines()
    assert code == 0
    assert "supported      group at dallas matters to the answer more than random groups as large" in lines
    assert "supported      at dallas → texas: the arrow is there in the real model" in lines
    assert "not supported  group texas matters to the answer more than random groups as large" in lines


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "could not be read as groups"),
        ('{"texas": 3}', "holds no groups"),
        ("{}", "there are no groups to test"),
        ('{"texas": []}', "'texas' has no nodes"),
        ('{"texas": ["L1/99999"]}', "the graph has no node 'L1/99999'"),
        ('{"one": ["L1/295"], "two": ["L1/295@8"]}', "is in two groups, 'one' and 'two'"),
        ('{"": ["L1/295"]}', "wants a name"),
    ],
)
def test_groups_that_cannot_be_tested_are_one_line(
    text: str, complaint: str, judged: Callable[[str], tuple[int, str, str]]
):
    code, _, said = judged(text)
    assert code == 2 and complaint in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["trace", ""], "the prompt is empty"),
        (["trace", "the capital of atlantis is"], "does not know 'atlantis'"),
        (["trace", "the " * 500], "reads at most"),
        (["trace", SHOWCASE, "-m", "no-such-model"], "there is no model 'no-such-model'"),
        (["trace", SHOWCASE, "-t", "no-such-set"], "there are no transcoders 'no-such-set'"),
        (["trace", SHOWCASE, "--target", "austin texas"], "single token"),
        (["trace", SHOWCASE, "--ids"], "whole numbers"),
        (["trace", SHOWCASE, "--nodes", "1.5"], "--nodes must be a share"),
        (["trace", SHOWCASE, "-o", "x.docx"], "known endings are"),
        (["trace", SHOWCASE, "--device", "meta"], "'meta' cannot be used here"),
        (["trace", SHOWCASE, "--target", "texas", "--max-logits", "3"], "--max-logits chooses among likely tokens"),
        (["trace", SHOWCASE, "--span", "4:7", "--logit-mass", "0.5"], "--logit-mass chooses among likely tokens"),
        (["trace", SHOWCASE, "--contrast", "austin", "texas", "--logit-mass", "0.5"], "--logit-mass chooses"),
        (["trace", SHOWCASE, "--no-assay", "--seed", "3"], "--seed is the assay's"),
        (["check", "no-such-graph"], "the store"),
    ],
)
def test_bad_input_gets_one_clear_line_and_exit_code_two(
    words: list[str],
    complaint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main([*words, "--store", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert complaint in said.err
    assert "Traceback" not in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        *(["trace", SHOWCASE, option, ""] for option in ("-m", "-t", "-o", "--store", "--device", "--dtype")),
        *(["trace", SHOWCASE, "--seed", seed] for seed in ("-1", "x", "9" * 20)),
        ["trace", SHOWCASE, "--max-features", "0"],
        ["check", "the-capital", "--controls", "0"],
    ],
)
def test_an_option_that_says_nothing_is_refused_before_anything_is_loaded(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("circuits.model.load_model", pytest.fail)
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert "is wanted, found" in capsys.readouterr().err


def test_a_model_that_another_program_names_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made = {"model": "gemma-2-2b", "transcoders": "clt", "imported": {}}
    id = Store(tmp_path).save(graph_of([(0, 1, 1.0)], "token logit", provenance=made))

    assert main(["check", id, "--store", str(tmp_path)]) == 2
    assert "calls its model 'gemma-2-2b': say what that is here, with --model" in capsys.readouterr().err


def test_a_graph_that_does_not_say_what_made_it_is_not_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    id = Store(tmp_path).save(graph_of([(0, 1, 1.0)], "token logit"))

    assert main(["check", id, "--store", str(tmp_path)]) == 2
    assert "does not say with which model it was made: name them with --model" in capsys.readouterr().err
    assert main(["check", id, "--store", str(tmp_path), "-m", "world"]) == 2
    assert "--transcoders" in capsys.readouterr().err


def test_a_store_that_cannot_be_made_is_told_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("in the way")
    assert main(["trace", SHOWCASE, "--store", str(tmp_path / "file" / "store")]) == 2
    assert "cannot be made" in capsys.readouterr().err


def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("circuits.attributing.attribute", interrupt)
    assert main(["trace", SHOWCASE, "--store", str(tmp_path)]) == 130
    assert not list(tmp_path.iterdir())


def test_an_interrupted_trace_leaves_the_tested_graph_of_before(showcase: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = {path: path.read_bytes() for path in showcase.rglob("*") if path.is_file()}
    monkeypatch.setattr("circuits.assaying.assay", interrupt)

    assert main(["trace", SHOWCASE, "--store", str(showcase), "--quiet"]) == 130

    assert {path: path.read_bytes() for path in showcase.rglob("*") if path.is_file()} == before
