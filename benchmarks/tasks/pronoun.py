"""Gendered pronoun: he or she, as the name says.

Corruptions: a name of the other gender; a word that says neither. Source: Mathwin et al. 2023, "Identifying a
Preliminary Circuit for Predicting Gendered Pronouns in GPT-2 Small", for the first phrasing.
"""

from __future__ import annotations

from benchmarks.tasks.task import Filling, Pick, Task, Wording
from benchmarks.tasks.words import MEN, WOMEN

PHRASINGS = {
    "friend": "So {name} is a really great friend, isn't {answer}",
    "tired": "That day {name} was very tired, so {answer}",
    "when": "When {name} was little, {answer}",
    "said": "I asked {name} to come, but {answer}",
    "one day": "One day {name} said that {answer}",
    "happy": "I know that {name} was very happy when {answer}",
}
WORDS = {"woman": WOMEN, "man": MEN, "neither": ["someone", "everybody", "everyone", "nobody", "it"]}


def draw(pick: Pick, phrasing: str, corruption: str) -> Filling:
    sides = [("woman", "she"), ("man", "he")]
    pick.random.shuffle(sides)
    (side, right), (other_side, wrong) = sides
    instead = other_side if corruption == "other gender" else "neither"
    return Filling({"name": pick.one(side)}, {"name": pick.one(instead)}, right, wrong)


TASK = Task(
    about="he or she, as the name says",
    wordings=(Wording(PHRASINGS, WORDS, draw),),
    flips=("other gender",),
    blurs=("no gender",),
)
