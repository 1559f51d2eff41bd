"""`circuits train transcoders` and `circuits train labels`, as a person would type them."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
from pathlib import Path

import pytest

from circuits.__main__ import main
from circuits.formats import load
from circuits.transcoders import running
from graphs import Store
from tests.circuits.worlds import EXPERTS, folder_of, native_of

TEXT = "a red fox runs here\nblue dog sleeps there now\n" * 40
SMALL = ["--features", "24", "--active", "4", "--steps", "8", "--batch", "4", "--device", "cpu"]


def train(*words: str | Path, model: str | Path | None = None) -> int:
    return main(["train", "transcoders", str(model or folder_of("llama")), *map(str, words)])


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def test_a_file_becomes_a_set_with_its_log_and_picture(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert train("--kind", "plt", "--data", text, "-o", tmp_path / "set", *SMALL) == 0
    said = capsys.readouterr()

    assert load(tmp_path / "set").units == 24
    assert {path.name for path in (tmp_path / "set").iterdir()} >= {"training.csv", "training.svg", "training.json"}
    assert "3 layers of 24 features (plt, jumprelu)" in said.out and "in 8 steps" in said.out
    assert "texts kept apart: FVU" in said.out and "nats with every MLP replaced" in said.out
    assert f"-t {tmp_path / 'set'}" in said.out
    assert "100%  step 8  FVU" in said.err
    notes = load(tmp_path / "set").notes
    assert len(notes) == 3 * 24 and "labels.json.gz there" in said.out
    assert any(sum(note["histogram"]["counts"]) > 0 for note in notes.values() if note["density"])
    log = (tmp_path / "set" / "training.csv").read_text().splitlines()
    assert log[0].startswith("step,tokens,seconds,fvu,l0,dead,kl,fvu_0")
    assert log[-1].startswith("8,")


def test_a_model_without_a_set_is_trained_and_traced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    size = ["--features", "64", "--active", "6", "--steps", "150", "--batch", "16", "--device", "cpu"]
    assert train("--kind", "clt", "--data", "self", "--json", "-q", *size) == 0
    record = json.loads(capsys.readouterr().out)
    assert Path(record["folder"]).name == f"{folder_of('llama').name}-clt"
    words = ["trace", "a red fox", "-m", str(folder_of("llama")), "-t", record["folder"], "--no-assay", "-q"]

    assert main([*words, "--store", str(tmp_path / "store")]) == 0


def stopped(monkeypatch: pytest.MonkeyPatch, folder: Path, text: Path) -> None:
    """A training in a folder that Ctrl-C has stopped after five steps."""
    real = running.Log.write

    def write(log: running.Log, numbers: dict[str, float]) -> None:
        real(log, numbers)
        if numbers["step"] == 5:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(running.Log, "write", write)
        assert train("--kind", "plt", "--data", text, "-o", folder, *SMALL) == 130


def test_a_stopped_training_says_how_to_go_on_and_does(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    stopped(monkeypatch, tmp_path / "cut", text)
    said = capsys.readouterr().err
    model, cut = (shlex.quote(str(folder)) for folder in (folder_of("llama"), tmp_path / "cut"))
    assert f"go on with: circuits train transcoders {model} -o {cut} --resume" in said
    assert train("--kind", "plt", "--data", text, "-o", tmp_path / "cut", *SMALL) == 2
    assert "holds a training that is not finished: go on with --resume" in capsys.readouterr().err

    text.unlink()  # its texts are with it
    assert train("-o", tmp_path / "cut", "--resume") == 0
    capsys.readouterr()
    assert [line.split(",")[0] for line in (tmp_path / "cut" / "training.csv").read_text().splitlines()[1:]] == list(
        "2345678"
    )
    assert train("-o", tmp_path / "cut", "--resume") == 2
    assert "holds a finished set: there is nothing to go on with" in capsys.readouterr().err


def test_a_training_of_other_settings_is_not_gone_on_with_and_says_which_differ(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "cut"
    stopped(monkeypatch, folder, text)
    other = tmp_path / "other.txt"
    other.write_text(TEXT + "a fox")
    capsys.readouterr()

    assert train("-o", folder, "--resume", "--features", "48", "--active", "4", "--seed", "1", "--data", other) == 2
    said = capsys.readouterr().err
    assert "other texts; --features 48, not 24; --seed 1, not 0" in said and "--active" not in said
    assert train("-o", folder, "--resume", model=folder_of("qwen3")) == 2
    assert "another model, or other weights of it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--data", "self", "-o", "OUT"], "--kind is wanted: plt, clt or skip"),
        (["--data", "self"], "--kind is wanted: plt, clt or skip"),
        (["--kind", "plt", "-o", "OUT"], "--data is wanted: a file of text, or self"),
        (["--kind", "plt", "--data", "none.txt", "-o", "OUT"], "none.txt cannot be read: No such file"),
        (["--kind", "plt", "--data", "EMPTY", "-o", "OUT"], "should hold at least two texts"),
        (["--kind", "plt", "--data", "self", "-o", "OUT", "--features", "16", "--active", "4"], "give one more, 17"),
        (["--kind", "plt", "--data", "self", "-o", "OUT", "--features", "20"], "at most half can be active"),
        (["--kind", "plt", "--data", "self", "-o", "FULL"], "is not empty (it holds config.yaml)"),
        (["--kind", "plt", "--data", "self", "-o", "FULL", "--resume"], "holds no training"),
        (["--kind", "plt", "--data", "self", "-o", "FULL/config.yaml/x"], "is no folder"),
        (["--kind", "clt", "--data", "self", "-o", "OUT", "--activation", "topk"], "knows no TopK"),
        (["--kind", "plt", "--data", "self", "-o", "OUT", "--device", "abacus"], "torch knows no device"),
    ],
)
def test_bad_input_gets_one_clear_line_and_exit_code_two(
    words: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "config.yaml").write_text("model_kind: transcoder_set\n")
    (tmp_path / "empty.txt").write_text("\n")
    places = {"OUT": tmp_path / "out", "FULL": tmp_path / "full", "EMPTY": tmp_path / "empty.txt"}
    filled = [word if word == "self" else str(places.get(word, word)) for word in words]
    filled = [word.replace("FULL", str(places["FULL"])) for word in filled]
    folder_of("llama")
    capsys.readouterr()  # what was said while that was made

    assert train(*filled) == 2
    said = capsys.readouterr().err
    assert complaint in said and len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [["--kind", "sae"], ["--minutes", "0"], ["--minutes", "x"], ["--steps", "0"], ["--steps", "1", "--minutes", "1"]],
)
def test_an_option_that_is_no_such_thing_is_refused_by_the_parser(words: list[str]):
    with pytest.raises(SystemExit) as left:
        train("--data", "self", *words)
    assert left.value.code == 2


def test_a_model_of_attention_alone_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = native_of("attention-only", "float32").name
    assert train("--kind", "plt", "--data", "self", "-o", tmp_path / "out", model=model) == 2
    assert "has attention only: there is no MLP" in capsys.readouterr().err


def test_experts_are_replaced_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = folder_of(next(iter(EXPERTS)))
    assert train("--kind", "plt", "--data", "self", "-o", tmp_path / "out", *SMALL, model=model) == 0
    assert "3 layers of 24 features" in capsys.readouterr().out


# -- labels -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set that fits its model, and the text that it was trained on beside it."""
    place = tmp_path_factory.mktemp("trained")
    (place / "text.txt").write_text(TEXT)
    size = ["--features", "64", "--active", "6", "--steps", "150", "--batch", "16", "--device", "cpu", "-q"]
    assert train("--kind", "plt", "--data", "self", "-o", place / "set", *size) == 0
    return place


def label(*words: str | Path) -> int:
    return main(["train", "labels", str(folder_of("llama")), "--device", "cpu", *map(str, words)])


def test_the_features_of_a_set_that_is_there_are_labelled_and_a_graph_carries_it(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = Path(shutil.copytree(trained / "set", tmp_path / "set"))
    (folder / "labels.json.gz").unlink()
    (folder / "labels.json").write_text(json.dumps({f"0/{unit}": {"label": "mine"} for unit in range(64)}))
    assert load(folder).notes["0/1"] == {"label": "mine"}

    assert label("-t", folder, "--data", trained / "text.txt", "--tokens", "100") == 0
    said = capsys.readouterr().out
    assert "counted over 96 tokens of 16 texts: of 192 features" in said
    assert f"wrote {folder / 'labels.json.gz'}" in said
    notes = load(folder).notes
    assert notes["0/1"]["label"] == "mine" and "promotes" in notes["0/1"]
    words = ["trace", "a red fox", "-m", str(folder_of("llama")), "-t", str(folder), "--no-assay", "-q", "--device"]
    assert main([*words, "cpu", "--store", str(tmp_path / "store")]) == 0
    (entry,) = Store(tmp_path / "store").list()
    graph = Store(tmp_path / "store").load(entry.id)
    kept = {graph.nodes.unit(row) for row in graph.nodes.where("feature").tolist()}
    assert graph.provenance["feature_notes"] == {unit: notes[unit] for unit in kept}
    assert "mine" in graph.nodes.label


def test_labels_can_be_put_elsewhere_and_made_from_what_the_model_says(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    before = (trained / "set" / "labels.json.gz").read_bytes()
    out = tmp_path / "new" / "labels.json"
    assert label("-t", trained / "set", "--data", "self", "--tokens", "200", "-o", out, "--json", "-q") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["file"] == str(out) and record["features"] == 192 and record["tokens"] >= 160
    assert sum(not note["density"] for note in json.loads(out.read_text()).values()) == record["silent"]
    assert (trained / "set" / "labels.json.gz").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--data", "self"], "-t is wanted: the set whose features"),
        (["-t", "SET"], "--data is wanted: a file of text, or self"),
        (["-t", "SET", "--data", "none.txt"], "none.txt cannot be read: No such file"),
        (["-t", "SET", "--data", "self", "--kind", "plt"], "--kind: of circuits train transcoders, not of labels"),
        (["-t", "SET", "--data", "self", "--resume"], "--resume: of circuits train transcoders"),
        (["-t", "SET", "--data", "self", "-o", "labels.txt"], "a file ending in .json or .json.gz is wanted"),
        (["-t", "world", "--data", "self"], "world is no folder of yours: say where the labels are to go"),
        (["-t", "nowhere", "--data", "self"], "nowhere is no folder of yours"),
        (["-t", "neurons", "--data", "self", "-o", "OUT"], "features are labelled a set at a time"),
        (["-t", "world", "--data", "self", "-o", "OUT"], "has 3 layers of width 16, but world is for 4 layers"),
    ],
)
def test_labels_that_cannot_be_made_get_one_clear_line(
    words: list[str], complaint: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    places = {"SET": trained / "set", "OUT": tmp_path / "out.json"}
    capsys.readouterr()
    assert label(*(str(places.get(word, word)) for word in words)) == 2
    said = capsys.readouterr().err
    assert complaint in said and len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out.json").exists()


def test_a_training_takes_no_option_of_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert train("--kind", "plt", "--data", "self", "-o", tmp_path / "out", "-t", "world", "--tokens", "5") == 2
    assert "-t, --tokens: of circuits train labels, not of transcoders" in capsys.readouterr().err
