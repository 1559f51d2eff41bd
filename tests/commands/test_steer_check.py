"""`circuits steer`, and the options of `circuits check`, on the shipped model."""

import json
import math
from pathlib import Path

import pytest

from circuits.__main__ import main
from circuits.changes import from_record
from graphs.store import Store
from tests.worlds import graph_of

SHOWCASE = "the capital of the state containing dallas is"


def test_steering_says_what_changed_and_what_the_model_says_then(capsys: pytest.CaptureFixture[str]):
    assert main(["steer", SHOWCASE, "--set", "L0/0@last=40", "--generate", "2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)

    assert record["interventions"] == ["L0/0@8 = 40"]
    assert len(record["before"]["continuation"]) == len(record["after"]["continuation"]) == 2
    before, after = (record[name]["likeliest"][0] for name in ("before", "after"))
    assert before["token"].strip() == "austin"
    assert before["probability"] != after["probability"]


def test_one_state_off_and_another_on_changes_the_capital(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    groups = tmp_path / "groups.json"
    groups.write_text(json.dumps({"here": ["L1/295", "L1/684", "L1/734", "L1/955", "L2/254@8"]}))

    for off in (["texas=0x"], ["here=0x", "--groups", str(groups)]):
        assert main(["steer", SHOWCASE, "--set", off[0], "--set", "ohio@last=1", "--generate", "1", *off[1:]]) == 0
        before, after = capsys.readouterr().out.splitlines()[-2:]
        assert (before, after) == ("before: austin", "after: columbus")


def test_where_a_model_is_sure_its_logits_say_what_each_set_did(capsys: pytest.CaptureFixture[str]):
    sets = ["--set", "texas=0x", "--set", "ohio@last=1"]
    records = []
    for chosen in (sets, sets[:2]):
        assert main(["steer", SHOWCASE, *chosen, "--generate", "0", "--json"]) == 0
        records.append(json.loads(capsys.readouterr().out))
    both, one = records

    target, alone = both["target"], both["alone"]
    assert target["token"].strip() == "austin"
    for name, sign in (("before", 1), ("after", -1)):  # columbus leads then
        first, second = (each["probability"] for each in both[name]["likeliest"][:2])
        assert sign * math.log(first / second) == pytest.approx(target["lead"][name], abs=1e-3)
    assert [each["set"] for each in alone] == ["texas=0x", "ohio@last=1"] and one["alone"] == []
    for name in ("logit", "lead"):
        change = one["target"][name]["after"] - one["target"][name]["before"]
        assert alone[0][f"{name}_change"] == pytest.approx(change, abs=1e-3)

    assert main(["steer", SHOWCASE, *sets, "--generate", "0"]) == 0
    said = capsys.readouterr().out
    assert f"its lead over the next best {target['lead']['before']:.2f} → {target['lead']['after']:.2f} (" in said
    assert f"texas=0x alone: logit {alone[0]['logit_change']:+.2f}" in said


def test_what_is_said_can_be_steered_in_every_word(capsys: pytest.CaptureFixture[str]):
    settings = ["--set", "L2/544@3:=2", "--mlps", "live", "--window", "1", "--generate", "2"]

    assert main(["steer", SHOWCASE, *settings, "--json"]) == 0

    (change,) = json.loads(capsys.readouterr().out)["changes"]
    assert str(from_record(change)) == "L2/544@3: = 2"


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("L0/0", "a setting reads"),
        ("L99/0@last=1", "has layers 0 to"),
        ("L0/0@99=1", "positions 0 to"),
        ("L0/0@3:2=1", "positions 0 to"),
        ("L0/999999@last=1", "units 0 to"),
        ("L0/0@last=inf", "finite"),
        ("atlantis=-1x", "nothing called 'atlantis'"),
        ("texsa=-1x", "Did you mean texas?"),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_line_and_code_two(
    setting: str, complaint: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["steer", SHOWCASE, "--set", setting]) == 2
    said = capsys.readouterr().err
    assert complaint in said and "Traceback" not in said


def test_a_name_that_is_no_groups_is_met_with_the_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    groups = tmp_path / "groups.json"
    groups.write_text(json.dumps({"lone star": ["L1/295"], "say it": ["L2/28"]}))

    assert main(["steer", SHOWCASE, "--groups", str(groups), "--set", "lonestar=0x"]) == 2
    assert "Did you mean lone star? Groups: lone star, say it. Labels active" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        (["--window", "4"], "at most 3"),
        (["--generate", "-1"], "0 or more"),
        (["--groups", "nowhere.json"], "could not be read as groups"),
    ],
)
def test_an_option_that_makes_no_sense_is_one_line_too(
    option: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["steer", SHOWCASE, "--set", "L0/0@last=1", *option]) == 2
    said = capsys.readouterr().err
    assert complaint in said and "Traceback" not in said


@pytest.mark.parametrize("budget", ["", "5", "-1s", "0s", "nans", "soon"])
def test_a_budget_that_is_no_time_is_told_before_the_work(budget: str, capsys: pytest.CaptureFixture[str]):
    assert main(["check", "whatever", f"--budget={budget}"]) == 2
    assert "--budget is a time like 30s" in capsys.readouterr().err


def test_what_a_budget_cuts_off_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("circuits.keeping.keep_pictures", lambda *_: ([], []))  # they take most of the time
    assert main(["trace", SHOWCASE, "--store", str(tmp_path), "--no-assay", "--quiet"]) == 0
    (entry,) = Store(tmp_path).list()
    capsys.readouterr()

    assert main(["check", entry.id, "--store", str(tmp_path), "--controls", "1", "--budget", "0.001s"]) == 0

    said = capsys.readouterr().out
    assert "not run within the budget of 0.001 s" in said
    assert "experiments are left: the same command goes on with them" in said
    assay = Store(tmp_path).assay(entry.id)
    assert assay is not None and "controls" in assay.skipped
    assert all(each.verdict == "untested" for each in assay.verdicts if "budget" in each.control)


@pytest.mark.parametrize("finished", [True, False])
def test_ctrl_c_says_what_is_kept(
    finished: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupt(*_: object, unfinished: Path, **__: object) -> None:
        if finished:
            unfinished.write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr("circuits.model.load_model", lambda *_, **__: None)
    monkeypatch.setattr("circuits.transcoders.loading.load_transcoders", lambda *_, **__: None)
    monkeypatch.setattr("circuits.assaying.assay", interrupt)
    made = {"model": "world", "transcoders": "world"}
    id = Store(tmp_path).save(graph_of([(0, 1, 1.0)], "token logit", provenance=made))

    assert main(["check", id, "--store", str(tmp_path)]) == 130
    assert ("finished experiments are kept" in capsys.readouterr().err) == finished


def test_other_wordings_of_the_question_are_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("circuits.keeping.keep_pictures", lambda *_: ([], []))
    file = tmp_path / "wordings.txt"
    file.write_text("the capital of the state containing houston is\n\n")

    assert main(["trace", SHOWCASE, "--store", str(tmp_path / "store"), "--paraphrase", str(file)]) == 0

    assert "the graph survives rewording" in capsys.readouterr().out
    (entry,) = Store(tmp_path / "store").list()
    assay = Store(tmp_path / "store").assay(entry.id)
    assert assay is not None and assay.statistics["reworded"] == 1
    assert assay.rewordings[0].answered and not assay.rewordings[0].control


@pytest.mark.parametrize(
    ("content", "options", "complaint"),
    [
        (None, [], "No such file"),
        (b" \n", [], "found no words in it"),
        (b"\xff\xfe\x00", [], "not text in UTF-8"),
        (b"the capital of texas is", ["--no-assay"], "--paraphrase is the assay's"),
        (SHOWCASE.encode(), [], "the graph's own prompt"),
    ],
)
def test_a_file_of_wordings_that_is_none_is_refused(
    content: bytes | None, options: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "wordings.txt"
    if content is not None:
        file.write_bytes(content)

    assert main(["trace", SHOWCASE, "--store", str(tmp_path / "s"), "--paraphrase", str(file), *options]) == 2

    assert complaint in capsys.readouterr().err
