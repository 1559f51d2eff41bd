"""Coloured objects: which colour one of three things has, as the letter of a choice.

Corruptions: another thing is asked about; two things change colours; two choices change places.
Source: Srivastava et al. 2022, "Beyond the Imitation Game" (reasoning about colored objects); Merullo et al. 2024,
"Circuit Component Reuse Across Tasks in Transformer Language Models".
"""

from __future__ import annotations

from benchmarks.tasks.task import Filling, Pick, Task, Wording

TABLE = "there is a {first_colour} {first}, a {second_colour} {second} and a {third_colour} {third}."
CHOICES = "\nA. {a}\nB. {b}\nC. {c}\nAnswer: {answer}"
BRACKETS = "\n(A) {a}\n(B) {b}\n(C) {c}\nAnswer: ({answer}"
PHRASINGS = {
    "table": f"Question: On the table {TABLE} What color is the {{asked}}?{CHOICES}",
    "floor": f"Q: On the floor {TABLE} Which color does the {{asked}} have?{CHOICES}",
    "brackets": f"Question: In the box {TABLE} What color is the {{asked}}?{BRACKETS}",
}
WORDS = {
    "colour": "red blue green yellow black white brown pink purple gray gold silver".split(),
    "thing": "book cup ball pen pencil plate hat bag box lamp bottle key phone ring card shirt jacket clock".split(),
}


def draw(pick: Pick, phrasing: str, corruption: str) -> Filling | None:
    things, colours = pick("thing", 3), pick("colour", 3)
    choices = pick.random.sample(colours, 3)
    asked, other = pick.random.sample(range(3), 2)
    clean, right = told(things, colours, choices, asked)
    if corruption == "another thing":
        corrupted, wrong = told(things, colours, choices, other)
    elif corruption == "colours change places":
        corrupted, wrong = told(things, swapped(colours, asked, other), choices, asked)
    else:
        places = (choices.index(colours[asked]), choices.index(colours[other]))
        corrupted, wrong = told(things, colours, swapped(choices, *places), asked)
    return Filling(clean, corrupted, right, wrong)


def told(things: list[str], colours: list[str], choices: list[str], asked: int) -> tuple[dict[str, str], str]:
    """The words of a question, and the letter of its answer."""
    words = dict(zip(("first", "second", "third"), things, strict=True))
    words |= dict(zip(("first_colour", "second_colour", "third_colour"), colours, strict=True))
    words |= dict(zip("abc", choices, strict=True))
    return words | {"asked": things[asked]}, "ABC"[choices.index(colours[asked])]


def swapped(words: list[str], one: int, other: int) -> list[str]:
    words = list(words)
    words[one], words[other] = words[other], words[one]
    return words


TASK = Task(
    about="the letter of the colour that a thing has",
    wordings=(Wording(PHRASINGS, WORDS, draw),),
    flips=("another thing", "colours change places", "choices change places"),
)
