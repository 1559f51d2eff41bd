"""Agreement: the verb has the number of its subject, also where another noun stands between or before.

Corruptions: the same subject in the other number; another subject in the other number.
Source: Marks et al. 2024, "Sparse Feature Circuits", for the three kinds.
"""

from __future__ import annotations

from benchmarks.tasks.task import Filling, Pick, Task, Wording
from benchmarks.tasks.words import NOUNS, PEOPLE
from benchmarks.world import language as world

PHRASINGS = {
    "simple, is": "The {subject} {answer}",
    "simple, has": "Everybody knows that the {subject} {answer}",
    "simple, was": "Yesterday the {subject} {answer}",
    "phrase, is": "The {subject} near the {other} {answer}",
    "phrase, has": "The {subject} beside the {other} {answer}",
    "phrase, was": "Yesterday the {subject} behind the {other} {answer}",
    "clause, likes": "The {other} that the {subject} {answer}",
    "clause, needs": "Nobody saw the {other} that the {subject} {answer}",
    "clause, was": "I have seen the {other} that the {subject} {answer}",
}
WORLD_PHRASINGS = {
    f"phrase, {where}": f"the {{subject}} {where} the {{other}} {{answer}}" for where in world.PREPOSITIONS
}
VERBS = {"has": ("has", "have"), "was": ("was", "were"), "likes": ("likes", "like"), "needs": ("needs", "need")}
IS = ("is", "are")

WORDS = {"subject": [(noun, f"{noun}s") for noun in PEOPLE], "noun": [(noun, f"{noun}s") for noun in NOUNS]}
_PAIRS = list(zip(world.NOUNS[::2], world.NOUNS[1::2], strict=True))
WORLD_WORDS = {"subject": _PAIRS, "noun": _PAIRS}


def draw(pick: Pick, phrasing: str, corruption: str) -> Filling:
    subject, stranger = pick("subject", 2)
    other = pick.one("noun", subject, stranger)
    number, beside = pick.random.choices((0, 1), k=2)
    verbs = VERBS.get(phrasing.split(", ")[1], IS)
    clean = {"subject": subject[number], "other": other[beside]}
    instead = (subject if corruption == "other number" else stranger)[1 - number]
    return Filling(clean, clean | {"subject": instead}, right=verbs[number], wrong=verbs[1 - number])


TASK = Task(
    about="the verb that has the number of the subject",
    wordings=(
        Wording(PHRASINGS, WORDS, draw),
        Wording(WORLD_PHRASINGS, WORLD_WORDS, draw, trained="agreement"),
    ),
    flips=("other number", "other subject"),
)
