"""The model of the world on disk, and the tools that look inside it, on an untrained toy."""

import pytest
import torch
from transformers import AutoTokenizer

from benchmarks.world.interchange import interchange, last_outputs, pairs_of
from benchmarks.world.judging import right
from benchmarks.world.language import make_language
from benchmarks.world.prompts import all_prompts
from benchmarks.world.proof import Edit, swap
from benchmarks.world.running import answer_logits, mlps, questions
from benchmarks.world.saving import load_model, save_model
from benchmarks.world.training import Muon, Schedule, Shape, make_model
from circuits.transcoders.trained import Trained

LANGUAGE = make_language()
PROMPTS = all_prompts(LANGUAGE)
TWO_HOP = PROMPTS["two-hop"][:40]


@pytest.fixture(scope="module")
def toy():
    return make_model(len(LANGUAGE.words), Shape(layers=2, width=16, heads=2, hidden=24), seed=0).eval()


def zeros(model, features=3):
    """Transcoders that never fire and write nothing."""
    width, layers = model.config.hidden_size, model.config.num_hidden_layers
    return Trained(
        tuple(torch.zeros(features, width) for _ in range(layers)),
        tuple(torch.zeros(features) for _ in range(layers)),
        tuple(torch.ones(features) for _ in range(layers)),
        tuple(torch.zeros(features, 1, width) for _ in range(layers)),
        torch.zeros(layers, width),
    )


def test_the_tokenizer_puts_bos_first_and_shows_unknown_words(toy, tmp_path):
    save_model(toy, LANGUAGE, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    prompt = next(p for p in PROMPTS["two-hop"] if p.text == "the capital of the state containing dallas is")

    assert tokenizer(prompt.text).input_ids == LANGUAGE.ids(prompt.words)
    assert tokenizer("the zebra").input_ids[-1] == tokenizer.unk_token_id


def test_what_is_measured_is_what_is_saved(toy, tmp_path):
    save_model(toy, LANGUAGE, tmp_path)
    again = load_model(tmp_path)

    tokens, last = questions(LANGUAGE, TWO_HOP)
    assert torch.equal(answer_logits(toy, tokens, last), answer_logits(again, tokens, last))


def test_muon_steps_have_singular_values_of_about_one():
    torch.manual_seed(0)
    matrix = torch.zeros(6, 4)
    matrix.grad = torch.randn(6, 4)
    Muon([matrix], momentum=0.0, decay=0.0).step(1.0)

    values = torch.linalg.svdvals(matrix) / (6 / 4) ** 0.5
    assert values.min() > 0.6 and values.max() < 1.3


def test_the_rate_rises_stays_and_falls_to_zero():
    schedule = Schedule(steps=1000, warm_up=10, decay_from=0.5)
    assert schedule.rate(0) == pytest.approx(0.1)
    assert schedule.rate(300) == 1.0
    assert schedule.rate(750) == pytest.approx(0.5)
    assert schedule.rate(999) < 0.01


def test_an_exchange_with_oneself_changes_nothing(toy):
    tokens, last = questions(LANGUAGE, TWO_HOP)
    guess = answer_logits(toy, tokens, last).argmax(-1)
    same = [(prompt, prompt) for prompt in TWO_HOP]

    found = interchange(toy, LANGUAGE, same, (0, 1))

    own = torch.tensor([LANGUAGE.index[p.answers[0]] for p in TWO_HOP])
    assert found.donor == found.kept == float((guess == own).float().mean())


def test_outputs_at_the_last_word_do_not_depend_on_padding(toy):
    short, long = TWO_HOP[0], next(p for p in PROMPTS["two-hop"] if len(p.words) != len(TWO_HOP[0].words))
    for layer, alone in enumerate(last_outputs(toy, LANGUAGE, [short])):
        assert torch.allclose(alone[0], last_outputs(toy, LANGUAGE, [short, long])[layer][0], atol=1e-6)


def test_an_edit_of_nothing_leaves_the_real_model_as_it_is(toy):
    pairs = pairs_of(TWO_HOP, count=20, seed=0)
    nothing = tuple(torch.zeros(20, 3, dtype=torch.bool) for _ in mlps(toy))
    values = tuple(torch.zeros(20, 3) for _ in mlps(toy))

    found = swap(toy, zeros(toy), LANGUAGE, pairs, Edit(nothing, nothing, values), real=True)

    expected = float(right(toy, LANGUAGE, [prompt for prompt, _ in pairs]).mean())
    assert found.kept == pytest.approx(expected)


def test_pairs_ask_the_same_about_two_states():
    for prompt, donor in pairs_of(TWO_HOP, count=50, seed=1):
        assert prompt.attribute == donor.attribute and prompt.answers != donor.answers


def test_a_year_counts_by_the_probability_of_all_that_are_right(toy):
    prompt = next(p for p in PROMPTS["greater"] if p.words[5] == "40")
    tokens, last = questions(LANGUAGE, [prompt])
    probability = answer_logits(toy, tokens, last)[0].softmax(-1)

    expected = probability[LANGUAGE.first_year + 41 : LANGUAGE.first_year + 100].sum()
    assert float(right(toy, LANGUAGE, [prompt])[0]) == pytest.approx(float(expected), rel=1e-4)
