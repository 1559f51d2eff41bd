"""The whole script on a toy: everything that ships is there, and the card names every missed bar."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from benchmarks.world import card

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    command = [sys.executable, str(ROOT / "scripts/train_world.py"), "--tiny", "--seed", "0", "--out", str(folder)]
    subprocess.run([*command, "--ship", str(folder / "shipped")], check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_everything_that_ships_is_made(made):
    shipped = made / "shipped"
    for name in ("MODEL_CARD.md", "curves.svg", "model/tokenizer.json", "per-layer/layer_1.safetensors"):
        assert (shipped / name).exists()
    for name in ("cross-layer/W_enc_1.safetensors", "cross-layer/W_dec_1.safetensors", "cross-layer/config.yaml"):
        assert (shipped / name).exists()
    labels = json.loads((shipped / "per-layer/labels.json").read_text())
    assert set(next(iter(labels.values()))) == {"label", "fires_on", "context", "promotes", "density"}
    assert AutoModelForCausalLM.from_pretrained(shipped / "model").config.num_hidden_layers == 2


@pytest.mark.slow
def test_the_card_of_an_untrained_toy_names_what_it_missed(made):
    numbers = json.loads((made / "seed_0/numbers.json").read_text())
    missed = [bar.name for bar in card.bars(numbers) if not bar.met]
    text = (made / "MODEL_CARD.md").read_text()

    assert "two-hop city: right" in missed
    assert text.count("** missed |") == len(missed)


@pytest.mark.slow
def test_a_second_run_does_nothing_twice(made):
    command = [sys.executable, str(ROOT / "scripts/train_world.py"), "--tiny", "--seed", "0", "--out", str(made)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)

    assert "step" not in done.stdout


def test_a_card_needs_measured_seeds(tmp_path):
    with pytest.raises(FileNotFoundError, match="proof stage"):
        card.write(tmp_path)
