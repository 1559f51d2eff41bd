"""Induction: words without sense come again, and each is followed by what followed it before.

Corruptions: another word followed before; the last word is another one of the list; the last word was not there before.
Source: Olsson et al. 2022, "In-context Learning and Induction Heads".
"""

from __future__ import annotations

from benchmarks.tasks.task import Filling, Pick, Task, Wording
from benchmarks.world import language as world

# `last` came before as `key`, and `next` after it; `first` is never asked for, as it may lack the space in front.
PHRASINGS = {
    "3 words": "{first} {key} {next} {third} {last} {answer}",
    "4 words": "{first} {key} {next} {third} {fourth} {last} {answer}",
    "5 words": "{first} {before} {key} {next} {third} {fourth} {before} {last} {answer}",
    "6 words": "{first} {second} {before} {key} {next} {third} {fourth} {second} {before} {last} {answer}",
    "commas": "{first}, {before}, {key}, {next}, {third}, {fourth}, {before}, {last}, {answer}",
}
ADJECTIVES = [line.split()[at] for line in world.ANTONYMS.strip().splitlines() for at in (0, 3)]
# The model of the shipped world has met all of these in lists without sense; few short vocabularies hold them.
WORDS = {"word": [*world.NOUNS, *world.PLACES, *world.THINGS, *ADJECTIVES]}
COMMON = """
the day time big little happy friend very said want play mom there they with that and was her his saw but had for
""".split()


def draw(pick: Pick, phrasing: str, corruption: str) -> Filling:
    first, second, before, key, after, third, fourth, new = pick("word", 8)
    clean = {"first": first, "second": second, "before": before, "key": key, "next": after, "third": third}
    clean |= {"fourth": fourth, "last": key}
    if corruption == "another followed":
        return Filling(clean, clean | {"next": new}, right=after, wrong=new)
    if corruption == "another is last":
        return Filling(clean, clean | {"last": after}, right=after, wrong=third)
    return Filling(clean, clean | {"key": new}, right=after, wrong=third)


TASK = Task(
    about="what followed this word before",
    wordings=(Wording(PHRASINGS, WORDS, draw), Wording(PHRASINGS, {"word": COMMON}, draw)),
    flips=("another followed", "another is last"),
    blurs=("not there before",),
)
