"""The whole script on a toy: everything that ships is there, and the card names every missed bar."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from benchmarks.world import card
from benchmarks.world.making import Recipe, make_seed
from circuits.formats.files import read_notes

SCRIPT = Path(__file__).parent.parent.parent / "scripts/train_world.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    command = [sys.executable, str(SCRIPT), "--tiny", "--seed", "0", "--out", str(folder)]
    subprocess.run([*command, "--ship", str(folder / "shipped")], check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_everything_that_ships_is_made(made):
    shipped = made / "shipped"
    for name in ("MODEL_CARD.md", "curves.svg", "model/tokenizer.json", "per-layer/layer_1.safetensors"):
        assert (shipped / name).exists()
    for name in ("cross-layer/W_enc_1.safetensors", "cross-layer/W_dec_1.safetensors", "cross-layer/config.yaml"):
        assert (shipped / name).exists()
    labels = read_notes(shipped / "per-layer")
    assert {"label", "fires_on", "context", "promotes", "suppresses", "density"} <= set(labels["0/0"])
    assert AutoModelForCausalLM.from_pretrained(shipped / "model").config.num_hidden_layers == 2


@pytest.mark.slow
def test_the_card_of_an_untrained_toy_names_what_it_missed(made):
    numbers = json.loads((made / "seed_0/numbers.json").read_text())
    missed = [bar.name for bar in card.bars(numbers) if not bar.met]
    text = (made / "MODEL_CARD.md").read_text()

    assert "two-hop city: right" in missed
    assert text.count("** missed |") == len(missed)


@pytest.mark.slow
def test_a_second_run_does_nothing_twice(made, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--tiny", "--seed", "0", "--out", str(made)])
    monkeypatch.setattr(sys, "path", [*sys.path])
    card_before = (made / "MODEL_CARD.md").read_bytes()
    runpy.run_path(str(SCRIPT), run_name="__main__")
    said = capsys.readouterr().out

    assert "step" not in said and "measuring" not in said
    assert (made / "MODEL_CARD.md").read_bytes() == card_before


def test_a_card_needs_measured_seeds(tmp_path):
    with pytest.raises(FileNotFoundError, match="proof stage"):
        card.write(tmp_path)


def test_a_model_without_the_node_gets_no_transcoders(tmp_path):
    said: list[str] = []
    (tmp_path / "curve.json").write_text(json.dumps([{"interchange donor": 0.5}]))
    make_seed(Recipe(), 0, tmp_path, stages=("transcoders",), say=said.append)

    assert said == ["seed 0: no node, 0.50 of the answers follow the donor; its transcoders are left out"]
    assert [path.name for path in tmp_path.iterdir()] == ["curve.json"]


def test_a_seed_without_the_node_is_not_shipped():
    def numbers(right, donor):
        rate = {"donor": 0.0, "kept": 1.0}
        return {
            "accuracy": {"one-hop": right, "addition": right},
            "showcase": {},
            "sets": {},
            "centroid": {"two-word": rate, "famous": rate},
            "interchange": {"0+1+2": {"two-word": {"donor": donor, "kept": 0.0}}},
        }

    assert card.best_of({0: numbers(1.0, 0.1), 1: numbers(0.0, 0.95)}) == 1
