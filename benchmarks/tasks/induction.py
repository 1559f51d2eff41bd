"""Induction: words without sense come again, and each is followed by what followed it before.

Corruptions: another word followed before; the last word is another one of the list; the last word was not there before.
Source: Olsson et al. 2022, "In-context Learning and Induction Heads".
"""

from __future__ import annotations

from benchmarks.tasks.task import Filling, Pick, Task, Wording
from benchmarks.tasks.words import NAMES, NOUNS, PLACES, THINGS

# `last` came before as `key`, and `next` after it; `first` is never asked for, as it may lack the space in front.
PHRASINGS = {
    "3 words": "{first} {key} {next} {third} {last} {answer}",
    "4 words": "{first} {key} {next} {third} {fourth} {last} {answer}",
    "5 words": "{first} {before} {key} {next} {third} {fourth} {before} {last} {answer}",
    "6 words": "{first} {second} {before} {key} {next} {third} {fourth} {second} {before} {last} {answer}",
    "commas": "{first}, {before}, {key}, {next}, {third}, {fourth}, {before}, {last}, {answer}",
}
COMMON = """
the day time big little happy friend very said want play mom there they with that time and was her his saw but had for
""".split()
WORDS = {"word": list(dict.fromkeys(NOUNS + PLACES + THINGS + COMMON + [name.lower() for name in NAMES]))}


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
    wordings=(Wording(PHRASINGS, WORDS, draw),),
    flips=("another followed", "another is last"),
    blurs=("not there before",),
)
