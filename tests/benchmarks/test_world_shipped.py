"""What ships is what the README says: the prompts it shows, the state's node, and the size."""

import json
from pathlib import Path

import pytest

from benchmarks.world.interchange import interchange, pairs_of
from benchmarks.world.judging import right
from benchmarks.world.language import make_language
from benchmarks.world.measuring import ONE_TO_ONE
from benchmarks.world.prompts import SHOWCASE, TRAIN, Prompt, two_hop
from benchmarks.world.proof import state_edit, swap
from benchmarks.world.reading import load_transcoders
from benchmarks.world.saving import load_model
from benchmarks.world.states import find
from benchmarks.world.swaps import LAYERS

SHIPPED = Path(__file__).parent.parent.parent / "circuits/shipped"
LANGUAGE = make_language()
TWO_HOP = list(two_hop(LANGUAGE))
HELD_OUT = [p for p in TWO_HOP if p.split == "two-hop city" and p.attribute in ONE_TO_ONE]


@pytest.fixture(scope="module")
def world():
    return load_model(SHIPPED / "world/model")


def test_the_prompts_that_readme_shows_are_answered(world):
    asked = [Prompt(tuple(text.split()), (answer,), "two-hop") for text, answer in SHOWCASE]

    assert right(world, LANGUAGE, asked).tolist() == [1.0] * len(SHOWCASE)


def test_answers_follow_the_state_that_the_mlps_write_at_the_last_word(world):
    found = interchange(world, LANGUAGE, pairs_of(HELD_OUT, count=100, seed=0), LAYERS)

    assert found.donor >= 0.9 and found.kept <= 0.05


@pytest.mark.parametrize("name", ["per-layer", "cross-layer"])
def test_answers_about_held_out_cities_follow_the_features_of_a_state(world, name):
    transcoders = load_transcoders(SHIPPED / "world" / name)
    trained = [p for p in TWO_HOP if p.split == TRAIN and p.attribute == "capital" and p.entity not in LANGUAGE.famous]
    features = find(world, transcoders, LANGUAGE, trained)
    pairs = pairs_of(HELD_OUT, count=100, seed=0)

    found = swap(world, transcoders, LANGUAGE, pairs, state_edit(LANGUAGE, features, pairs), real=True)

    assert found.donor >= 0.9 and found.kept <= 0.05


@pytest.mark.parametrize("name", ["per-layer", "cross-layer"])
def test_every_feature_has_a_label(name):
    transcoders = load_transcoders(SHIPPED / "world" / name)
    labels = json.loads((SHIPPED / "world" / name / "labels.json").read_text(encoding="utf-8"))

    wanted = {f"{layer}/{k}" for layer, threshold in enumerate(transcoders.threshold) for k in range(len(threshold))}
    assert set(labels) == wanted


def test_all_weights_together_are_small():
    assert sum(path.stat().st_size for path in SHIPPED.glob("world*/**/*.safetensors")) <= 12e6
    assert sum(path.stat().st_size for path in SHIPPED.glob("world-*/**/*.safetensors")) <= 2e6
