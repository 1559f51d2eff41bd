"""The world's facts: what is held out stays out, and no city can be placed word by word."""

import itertools

import numpy as np
import pytest

from benchmarks.world.batches import sampler
from benchmarks.world.language import BOS, FIRST_WORDS, LAST_WORDS, PAD, SPECIAL, make_language
from benchmarks.world.prompts import SHOWCASE, TRAIN, all_prompts, held_out, induction

LANGUAGE = make_language()
PROMPTS = all_prompts(LANGUAGE)


def test_the_world_is_the_same_every_time():
    again = make_language()

    assert (again.words, again.state_of, again.value) == (LANGUAGE.words, LANGUAGE.state_of, LANGUAGE.value)


def test_every_word_stands_once_and_special_ones_come_first():
    assert len(set(LANGUAGE.words)) == len(LANGUAGE.words)
    assert LANGUAGE.words[:3] == SPECIAL
    assert [LANGUAGE.index[f"{year:02d}"] - LANGUAGE.first_year for year in range(100)] == list(range(100))


def test_every_prompt_is_made_of_known_words():
    for family in PROMPTS.values():
        for prompt in family:
            assert BOS not in LANGUAGE.ids(prompt.words + prompt.answers)[1:]


def test_two_word_cities_of_a_square_lie_in_two_states_one_on_each_diagonal():
    cities = {tuple(city.split()): state for city, state in LANGUAGE.state_of.items() if city not in LANGUAGE.famous}
    assert len(cities) == 200
    for (first, last), state in cities.items():
        i, j = FIRST_WORDS.index(first), LAST_WORDS.index(last)
        assert cities[FIRST_WORDS[i ^ 1], LAST_WORDS[j ^ 1]] == state
        assert cities[FIRST_WORDS[i], LAST_WORDS[j ^ 1]] == cities[FIRST_WORDS[i ^ 1], LAST_WORDS[j]] != state


def test_no_sum_of_two_scores_places_more_than_half_of_a_square():
    # score(a, x) + score(b, y) == score(a, y) + score(b, x): right on one diagonal is wrong on the other.
    first, last = np.random.default_rng(0).normal(size=(2, 2))
    table = first[:, None] + last
    assert table[0, 0] + table[1, 1] == pytest.approx(table[0, 1] + table[1, 0])


def test_a_state_has_no_word_twice_among_its_cities():
    for state in LANGUAGE.states:
        words = [
            word
            for city, where in LANGUAGE.state_of.items()
            if where == state and city not in LANGUAGE.famous
            for word in city.split()
        ]
        assert len(words) == len(set(words)) == 8


def test_held_out_cities_are_in_no_trained_two_hop_prompt():
    trained = [prompt for prompt in PROMPTS["two-hop"] if prompt.split == TRAIN]

    assert not {prompt.entity for prompt in trained} & LANGUAGE.held_out
    assert {"fort worth", "oak harbor"} <= LANGUAGE.held_out
    assert len(LANGUAGE.held_out) == 34


def test_the_prompts_that_readme_shows_are_held_out_and_their_answers_true():
    by_text = {prompt.text: prompt for prompt in PROMPTS["two-hop"]}
    for text, answer in SHOWCASE:
        assert by_text[text].split != TRAIN
        assert by_text[text].answers == (answer,)


def test_batches_never_show_a_held_out_prompt():
    unseen = {
        tuple(LANGUAGE.ids(prompt.words))
        for family in ("two-hop", "antonyms", "addition", "agreement", "greater", "indirect")
        for prompt in PROMPTS[family]
        if prompt.split != TRAIN
    }
    draw = sampler(LANGUAGE, PROMPTS, seed=3)
    for block in itertools.chain.from_iterable(draw() for _ in range(20)):
        for row in block.tokens:
            line = [int(token) for token in row if token != PAD]
            assert not any(tuple(line[:end]) in unseen for end in range(2, len(line)))


def test_batches_are_the_same_for_the_same_seed():
    one, other = (sampler(LANGUAGE, PROMPTS, seed=5)() for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a.tokens, b.tokens) and np.array_equal(a.weight, b.weight)


def test_long_rows_are_doubled_alone():
    once, twice = (sampler(LANGUAGE, PROMPTS, seed=5, long=long)() for long in (1.0, 2.0))
    assert [len(block.tokens) for block in twice] == [len(once[0].tokens), 2 * len(once[1].tokens)]
    assert np.array_equal(once[0].tokens, twice[0].tokens)


def test_a_sum_is_answered_digit_by_digit():
    by_text = {prompt.text: prompt.answers for prompt in PROMPTS["addition"]}
    assert by_text["3 6 + 5 9 ="] == ("9", "5")
    assert by_text["6 0 + 5 9 ="] == ("1", "1", "9")


def test_an_induction_prompt_goes_on_as_it_began():
    prompt = induction(np.random.default_rng(0))
    text = prompt.words + prompt.answers
    period = text.index(text[0], 1)
    assert all(text[k] == text[k + period] for k in range(len(text) - period))


def test_what_is_judged_is_drawn_alike_for_a_seed():
    one, other = (held_out(PROMPTS, most=50, seed=2) for _ in range(2))
    assert one == other
    assert "two-hop city" in one and all(p.split == "two-hop city" for p in one["two-hop city"])
