"""Labels are counts put into words: what a feature fires on, and what it promotes."""

import pytest
import torch

from benchmarks.world.labels import label
from benchmarks.world.language import make_language
from benchmarks.world.prompts import all_prompts
from benchmarks.world.running import mlps, questions
from benchmarks.world.saving import tokenizer_of
from benchmarks.world.training import Shape, make_model
from circuits.model import load_model
from circuits.transcoders.notes import LONGEST
from circuits.transcoders.teachers import recorded
from circuits.transcoders.transcoders import Transcoders

LANGUAGE = make_language()
PROMPTS = [p for p in all_prompts(LANGUAGE)["two-hop"] if p.attribute in ("capital", "hero")]


@pytest.fixture(scope="module")
def labels():
    """A toy whose first feature reads the word `dallas`, whose second writes `austin`, whose third sleeps."""
    model = make_model(len(LANGUAGE.words), Shape(layers=1, width=16, heads=2, hidden=24), seed=0).eval()
    tokens, _ = questions(LANGUAGE, PROMPTS)
    with recorded(mlps(model)) as (inputs, _), torch.no_grad():
        model(input_ids=tokens)
        at = tokens == LANGUAGE.index["dallas"]
        centre = inputs[0][at].mean(0)
        highest = (inputs[0] @ centre)[~at].max()
    reads = torch.stack([centre, centre, centre])
    bias = -torch.tensor([highest + 1e-4, highest + 1e-4, 1e6])
    writes = torch.zeros(3, 1, 16)
    writes[1, 0] = 100 * model.lm_head.weight[LANGUAGE.index["austin"]].detach()
    toy = Transcoders(
        "toy", "toy", [reads], [bias], [torch.zeros(3)], [writes], [torch.zeros(16)], None,
        "mlp_input", "mlp_output", 1,
    )  # fmt: skip
    return label(load_model(model, tokenizer=tokenizer_of(LANGUAGE), device="cpu"), toy, LANGUAGE, PROMPTS)


def test_a_feature_that_fires_on_one_word_is_called_by_it(labels):
    assert labels["0/0"]["fires_on"][0] == "dallas"
    assert labels["0/0"]["label"] == '"dallas"'
    assert "dallas" in labels["0/0"]["context"]


def test_a_feature_that_raises_one_word_says_it(labels):
    assert labels["0/1"]["promotes"][0] == "austin"
    assert labels["0/1"]["label"].endswith('say "austin"')


def test_a_feature_that_never_fires_is_silent(labels):
    assert labels["0/2"]["density"] == 0
    assert labels["0/2"]["label"] == "silent"


def test_labels_fit_into_a_picture(labels):
    assert all(len(entry["label"]) <= LONGEST for entry in labels.values())


def test_what_is_counted_stands_beside_the_label(labels):
    (example, *_) = labels["0/0"]["examples"]

    assert example["tokens"][example["peak"]] == "dallas"
    assert [amount > 0 for amount in example["activations"]] == [word == "dallas" for word in example["tokens"]]
    assert sum(labels["0/0"]["histogram"]["counts"]) == sum("dallas" in prompt.words for prompt in PROMPTS)
    assert "austin" not in labels["0/1"]["suppresses"] and len(labels["0/1"]["suppresses"]) == 5
