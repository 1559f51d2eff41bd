"""What may have been meant by a word that nobody knows."""

import pytest

from circuits.spelling import did_you_mean

KNOWN = ["world", "world-cheated", "Qwen", "ioi"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("wrld", ["world"]),
        ("WORLD", ["world"]),
        ("wordl-cheatd", ["world-cheated"]),
        ("qewn", ["Qwen"]),
        ("iio", ["ioi"]),
    ],
)
def test_a_name_within_a_slip_or_two_is_offered(name, meant):
    assert did_you_mean(name, KNOWN) == f" Did you mean {' or '.join(meant)}?"


@pytest.mark.parametrize("name", ["", "wd", "word", "gemma", "io"])
def test_what_is_further_off_is_not(name):
    assert did_you_mean(name, ["world-cheated", "Qwen", "ioi"]) == ""


def test_several_are_offered_nearest_first():
    assert did_you_mean("cats", ["cuts", "cat", "catss", "dogs"]) == " Did you mean catss or cat or cuts?"
