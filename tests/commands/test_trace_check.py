"""`circuits trace` and `circuits check` on the shipped model, as a person would type them."""

import json
from pathlib import Path

import pytest

from circuits.__main__ import main
from graphs.store import Store

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


def test_a_stored_graph_is_checked_again(showcase: Path, capsys: pytest.CaptureFixture[str]):
    (entry,) = Store(showcase).list()
    assert main(["check", entry.id[:12], "--store", str(showcase), "--controls", "4"]) == 0
    assert "supported" in capsys.readouterr().out
    assay = Store(showcase).assay(entry.id)
    assert assay is not None and len(assay.subsets[0].random_faithfulness) == 4


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
