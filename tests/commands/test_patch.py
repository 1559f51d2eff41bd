"""`circuits patch`, on the shipped model."""

import csv
import json
from xml.etree import ElementTree

import numpy as np
import pytest

from circuits.__main__ import main
from circuits.commands import patch
from circuits.components.ablations import ABLATIONS
from circuits.components.metrics import METRICS
from circuits.components.patching import DIRECTIONS, OVER
from graphs.export.patching import WRITERS

CLEAN = "the capital of the state containing dallas is"
OTHER = "the capital of the state containing oakland is"


@pytest.fixture
def run(tmp_path, capsys):
    """What the command writes into a file of that name, and its JSON."""

    def run(*words, name="x.svg", code=0):
        output = tmp_path / name
        assert main(["patch", CLEAN, "--corrupt", OTHER, *words, "-o", str(output), "--json"]) == code
        return output, json.loads(capsys.readouterr().out)

    return run


def test_the_command_offers_what_there_is():
    assert set(patch.ABLATIONS) == set(ABLATIONS) - {"optimal"}  # one prompt is none to fit constants on
    assert patch.KINDS == tuple(OVER) and tuple(patch.METRICS) == tuple(METRICS)
    assert patch.DIRECTIONS == {way: (way,) for way in DIRECTIONS} | {"both": DIRECTIONS}
    assert all(suffix in patch.WRITTEN for suffix in WRITERS)


def test_patching_draws_a_heat_map_and_says_the_strongest_places(tmp_path, capsys):
    picture = tmp_path / "new" / "resid.svg"

    assert main(["patch", CLEAN, "--corrupt", OTHER, "--over", "resid", "-o", str(picture)]) == 0

    said = capsys.readouterr().out
    assert "100.0%  layer 0, dallas (7)" in said
    assert "logit of 'austin' less that of 'sacramento'" in said
    drawn = ElementTree.parse(picture)
    assert sum("data-about" in each.attrib for each in drawn.iter()) == 4 * 9
    words = [each.text for each in drawn.iter() if each.tag.endswith("text")]
    assert (
        " ".join(words).startswith("denoising, resid: share of the difference brought back") and "containing" in words
    )


def test_head_by_position_adds_no_head_and_agrees_with_the_whole_head(run):
    _, whole = run("--direction", "noising", "--layers", "3")
    _, apart = run("--direction", "noising", "--layers", "3", "--positions")

    assert apart["rows"] == ["a3.h0", "a3.h1", "a3.h2", "a3.h3"] and apart["places"][-1] == "is"
    # In the last layer only what a head writes where the answer is read can matter.
    effect = np.array(apart["effect"])
    np.testing.assert_allclose(effect[:, -1], np.array(whole["effect"])[0], atol=1e-3)
    np.testing.assert_allclose(effect[:, :-1], 0, atol=1e-3)


def test_neurons_are_drawn_by_rank_and_written_all(run):
    output, record = run("--over", "neurons", "--layers", "1-2", "--neurons", "0-40", name="x.csv")

    lines = list(csv.DictReader(output.open(encoding="utf-8")))
    assert len(lines) == 2 * 41 and lines[41]["place"] == "layer 2, neuron 0" and lines[41]["column"] == "n0"
    assert float(lines[41]["effect"]) == record["effect"][1][0]
    output, _ = run("--over", "neurons", "--layers", "1", "--neurons", "3,17", "--positions")
    assert "m1.n17" in output.read_text(encoding="utf-8")


def test_both_directions_are_one_page_and_one_record(run):
    output, record = run("--direction", "both", name="x.html")

    page = output.read_text(encoding="utf-8")
    assert 'data-direction="denoising"' in page and 'data-direction="noising"' in page
    apart = record["corrupted"] - record["clean"]
    for way, sign in (("noising", 1), ("denoising", -1)):
        np.testing.assert_allclose(np.array(record[way]["effect"]) * sign / apart, record[way]["share"])
    assert json.loads(run("--direction", "both", name="x.json")[0].read_text()) == record


@pytest.mark.parametrize(("metric", "unit"), [("kl", "nats"), ("probability-difference", "probability")])
def test_another_metric_is_told_with_its_unit(metric, unit, tmp_path, capsys):
    words = ["patch", CLEAN, "--corrupt", OTHER, "--metric", metric, "--over", "resid", "--layers", "0"]

    assert main([*words, "-o", str(tmp_path / "x.svg")]) == 0

    said = capsys.readouterr().out
    assert "100.0%  layer 0, dallas (7)" in said and f" {unit})" in said


def test_where_the_metric_does_not_differ_effects_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(METRICS, "kl", lambda logits, pairs, clean, say: logits[:, 0] * 0 + 2)
    words = ["patch", CLEAN, "--corrupt", OTHER, "--metric", "kl", "-o", str(tmp_path / "x.svg")]

    assert main(words) == 0

    said = capsys.readouterr().out
    assert "2.000 clean, 2.000 corrupted; these do not differ, so there are no shares" in said and "%" not in said
    assert "effect in nats" in (tmp_path / "x.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("options", [["--from", "m0,a0.h2"], []])
def test_paths_are_patched_by_sender_and_receiver(options, tmp_path, capsys):
    picture = tmp_path / "paths.svg"
    words = ["patch", CLEAN, "--corrupt", OTHER, "--over", "paths", "--to", "m1,logits", *options, "-o", str(picture)]

    assert main([*words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert main([*words, "--diagram"]) == 0
    said = capsys.readouterr().out

    assert "paths to m1, logits" in said
    curves = [each.get("id") for each in ElementTree.parse(picture).iter() if each.get("id", "").startswith("e")]
    shares = record["share"]
    if options:
        assert (record["rows"], record["places"]) == (["m0", "a0.h2", "together"], ["m1", "logits", "together"])
        assert "all senders together to all receivers together" in said and all(None not in row for row in shares)
        assert set(curves) == {"e0-2", "e0-3", "e1-2", "e1-3"}
    else:
        assert len(shares) == 4 and record["places"] == ["h0", "h1", "h2", "h3", "mlp"]
        assert "m1 to m1, logits" in said or "m0 to m1, logits" in said
        assert 0 < len(curves) <= 20


def test_nothing_is_shown_of_senders_that_come_after_the_receivers(run):
    words = ["--over", "paths", "--to", "a2.h1<q>", "--mlps", "frozen", "--direction", "noising"]

    _, record = run(*words, "--ablation", "zero")

    shares = record["share"]
    assert None not in shares[0] + shares[1] and shares[2] == shares[3] == [None] * 5


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--corrupt", f"{OTHER} the"], "equally long"),
        (["--corrupt", CLEAN], "the same tok"),
        (["--corrupt", "the capital of the state containing houston is"], "answers both prompts with 'austin'"),
        (["--corrupt", OTHER, "--right", "austin texas"], "the prompts, right: a target must be a single token"),
        (["--corrupt", OTHER, "--layers", "7"], "layers of world are 0 to 3, found 7"),
        (["--corrupt", OTHER, "--over", "paths", "--to", "a9.h0"], "no receiver 'a9.h0'"),
        (["--corrupt", OTHER, "--over", "paths", "--to", "m0", "--from", "m1"], "nothing leads from m1 to m0"),
        (["--corrupt", OTHER, "--over", "paths", "--to", "a0.h1<v>"], "only the tokens come before"),
    ],
)
def test_prompts_that_cannot_be_patched_are_told(words, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert main(["patch", CLEAN, *words]) == 2
    said = capsys.readouterr().err
    assert complaint in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["-o", "x.bmp"], ".svg, .png"),
        (["-o", "x.csv", "--theme", "dark"], "no picture"),
        (["--theme", "pink"], "light, dark, print"),
        (["--diagram"], "a diagram is of paths"),
        (["--over", "paths"], "name receivers"),
        (["--over", "paths", "--to", "logits", "--positions"], "--positions is for heads"),
        (["--to", "logits"], "give --over paths"),
        (["--ablation", "mean"], "ablations are for noising"),
        (["--direction", "both", "--ablation", "mean"], "ablations are for noising"),
        (["--neurons", "3"], "give --over neurons"),
    ],
)
def test_choices_that_do_not_go_together_are_told_before_a_model_is_loaded(
    words, complaint, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)

    assert main(["patch", CLEAN, "--corrupt", OTHER, "-m", "no/model", *words]) == 2
    assert complaint in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "3-1", "x", "1,,2", "-1", "0-99999999", "1e3", "²"])
def test_numbers_and_ranges_of_them_are_wanted(text, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["patch", CLEAN, "--corrupt", OTHER, f"--layers={text}"])
    assert stop.value.code == 2 and "--layers" in capsys.readouterr().err
    assert patch.numbers("0,4-6, 2") == [0, 4, 5, 6, 2]
