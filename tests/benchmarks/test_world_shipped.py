"""What ships is what the README says: the prompts it shows, the state's node, and the size."""

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
from circuits.formats.files import read_notes
from circuits.transcoders.saving import NOTES

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
    labels = read_notes(SHIPPED / "world" / name)

    wanted = {f"{layer}/{k}" for layer, threshold in enumerate(transcoders.threshold) for k in range(len(threshold))}
    assert set(labels) == wanted


@pytest.mark.parametrize(
    "folder", sorted(SHIPPED.glob("world*/*-layer")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_what_is_told_of_a_feature_agrees_with_itself(folder):
    assert (folder / NOTES).stat().st_size <= 600e3
    for note in read_notes(folder).values():
        if note["label"] == "silent":
            assert note["density"] == 0 and "examples" not in note
            continue
        low, high = note["histogram"]["edges"]
        assert low == 0 and high == note["act_max"] and sum(note["histogram"]["counts"]) > 0
        assert 1 <= len(note["examples"]) <= 3 and not set(note["promotes"]) & set(note["suppresses"])
        for example in note["examples"]:
            assert len(example["tokens"]) == len(example["activations"])
            assert example["activations"][example["peak"]] == max(example["activations"])
        assert note["examples"][0]["activations"][note["examples"][0]["peak"]] == note["act_max"]


def test_all_weights_together_are_small():
    assert sum(path.stat().st_size for path in SHIPPED.glob("world*/**/*.safetensors")) <= 12e6
    assert sum(path.stat().st_size for path in SHIPPED.glob("world-*/**/*.safetensors")) <= 2e6
