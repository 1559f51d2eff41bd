"""Docstring: the arguments of a Python function are told in order, and the third one is next.

Corruptions: third and fourth argument change places; the third has another name; the docstring tells of others.
Source: Heimersheim and Janiak 2023, "A circuit for Python docstrings in a 4-layer attention-only transformer".
"""

from __future__ import annotations

from benchmarks.tasks.task import Filling, Pick, Task, Wording

HEAD = 'def {name}(self, {first}, {second}, {third}, {fourth}):\n    """The {word} of {noun}\n\n'
PHRASINGS = {
    ":param": HEAD + "    :param {told}: the {one}\n    :param {told_next}: the {two}\n    :param {answer}",
    "@param": HEAD + "    @param {told}: the {one}\n    @param {told_next}: the {two}\n    @param {answer}",
    "list": HEAD + "    - {told}: the {one}\n    - {told_next}: the {two}\n    - {answer}",
}
WORDS = {
    "argument": """
load size files last file port name value key path mode data index list text line count time type state user node
item order group level color width height length model target source result error message format version table
""".split(),
    "noun": "new project play town music child party game day night water room house land art job man team".split(),
}


def draw(pick: Pick, phrasing: str, corruption: str) -> Filling:
    first, second, third, fourth, name, stranger, other = pick("argument", 7)
    word, noun, one, two = pick("noun", 4)
    clean = {"name": name, "first": first, "second": second, "third": third, "fourth": fourth, "word": word}
    clean |= {"noun": noun, "told": first, "told_next": second, "one": one, "two": two}
    if corruption == "arguments change places":
        return Filling(clean, clean | {"third": fourth, "fourth": third}, right=third, wrong=fourth)
    if corruption == "another argument":
        return Filling(clean, clean | {"third": stranger}, right=third, wrong=stranger)
    return Filling(clean, clean | {"told": stranger, "told_next": other}, right=third, wrong=fourth)


TASK = Task(
    about="the third argument of a function, which its docstring tells next",
    wordings=(Wording(PHRASINGS, WORDS, draw),),
    flips=("arguments change places", "another argument"),
    blurs=("others are told",),
)
