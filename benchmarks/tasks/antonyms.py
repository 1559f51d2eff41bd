"""Antonyms: the opposite of a word; of the shipped world also in French, in Spanish, and from one into another.

Corruptions: another word; a word that has no opposite; the same word, to be answered in another language.
"""

from __future__ import annotations

from itertools import product

from benchmarks.tasks.task import Filling, Pick, Task, Wording
from benchmarks.world import language as world

PHRASINGS = {
    "opposite": "The opposite of {word} is {answer}",
    "antonym": "The antonym of {word} is {answer}",
    "said": "If something is not {word}, then it is {answer}",
    "but": "He told me that it was not {word} but {answer}",
}
_PAIRS = """
big small, hot cold, fast slow, good bad, young old, tall short, rich poor, strong weak, light dark, full empty,
open closed, clean dirty, happy sad, wet dry, easy difficult, wide narrow, deep shallow, early late, near far,
day night, love hate, war peace, life death, black white, quiet loud, first last, true false, high low, hard soft,
up down, left right, inside outside, above below, public private, male female, positive negative, north south, east west
"""
_OPPOSITES = [tuple(pair.split()) for pair in _PAIRS.split(",")]
WORDS = {
    "opposites": _OPPOSITES + [(other, one) for one, other in _OPPOSITES],
    "neutral": "purple seven Monday table paper water green music orange apple".split(),
}

WITHIN = ("the opposite of {word} is", "le contraire de {word} est", "lo contrario de {word} es")
ACROSS = (
    "the opposite of {word} in {language} is",
    "le contraire de {word} en {language} est",
    "lo contrario de {word} en {language} es",
)
LANGUAGES = world.LANGUAGE_NAMES[0]
WORLD_PHRASINGS = {
    f"{LANGUAGES[here]} to {LANGUAGES[there]}": f"{(WITHIN if here == there else ACROSS)[here]} {{answer}}"
    for here, there in product(range(3), repeat=2)
}


def world_words() -> dict[str, list[tuple[str, str, str]]]:
    """By phrasing: a word, what its language calls the one to answer in, and the opposite there."""
    found: dict[str, list[tuple[str, str, str]]] = {name: [] for name in WORLD_PHRASINGS}
    for line in world.ANTONYMS.strip().splitlines():
        six = line.split()
        for one, other in ((six[:3], six[3:]), (six[3:], six[:3])):
            for name, (here, there) in zip(found, product(range(3), repeat=2), strict=True):
                found[name].append((one[here], world.LANGUAGE_NAMES[here][there], other[there]))
    return found


def draw(pick: Pick, phrasing: str, corruption: str) -> Filling | None:
    if corruption == "another language":
        return None
    (word, right), (other, wrong) = pick("opposites", 2)
    if right in (other, wrong):
        return None
    instead = other if corruption == "another word" else pick.one("neutral")
    return Filling({"word": word}, {"word": instead}, right, wrong)


def draw_world(pick: Pick, phrasing: str, corruption: str) -> Filling | None:
    asked, answered = phrasing.split(" to ")
    word, language, right = pick.one(phrasing)
    if corruption == "another word":
        other, instead, wrong = pick.one(phrasing)
    elif corruption == "another language" and asked != answered:
        third = next(name for name in LANGUAGES if name not in (asked, answered))
        other, instead, wrong = next(row for row in pick.pools[f"{asked} to {third}"] if row[0] == word)
    else:
        return None
    if right in (other, wrong):
        return None
    return Filling({"word": word, "language": language}, {"word": other, "language": instead}, right, wrong)


TASK = Task(
    about="the opposite of a word",
    wordings=(
        Wording(PHRASINGS, WORDS, draw),
        Wording(WORLD_PHRASINGS, world_words, draw_world, trained="antonyms"),
    ),
    flips=("another word", "another language"),
    blurs=("no opposite",),
)
