"""Indirect object: two people are named, one of them gives, and the other is the one who receives.

Corruptions: the other one gives; a stranger gives; all three are strangers. Source: Wang et al. 2023,
"Interpretability in the Wild: a Circuit for Indirect Object Identification in GPT-2 Small", for phrasings and the last.
"""

from __future__ import annotations

from benchmarks.tasks.task import Filling, Pick, Task, Wording
from benchmarks.tasks.words import NAMES, PLACES, THINGS
from benchmarks.world import language as world

ORDERS = {"ABBA": "{receiver} and {giver}", "BABA": "{giver} and {receiver}"}
TEXTS = {
    "went": "When {both} went to the {place}, {again} gave a {thing} to {answer}",
    "fun": "Then, {both} had a lot of fun at the {place}, and {again} gave a {thing} to {answer}",
    "working": "Then, {both} were working at the {place}. {again} decided to give a {thing} to {answer}",
    "thinking": "Then, {both} were thinking about going to the {place}. {again} wanted to give a {thing} to {answer}",
    "argument": "Then, {both} had a long argument, and afterwards {again} said to {answer}",
    "found": "Friends {both} found a {thing} at the {place}. {again} gave it to {answer}",
}
WORLD_TEXTS = {
    "went": "when {both} went to the {place} {again} gave a {thing} to {answer}",
    "talked": "when {both} talked at the {place} {again} handed a {thing} to {answer}",
    "had": "then {both} had a {thing} and {again} gave it to {answer}",
}
WORDS = {"name": NAMES, "place": PLACES, "thing": THINGS}
WORLD_WORDS = {"name": world.NAMES, "place": world.PLACES, "thing": world.THINGS}


def in_both_orders(texts: dict[str, str]) -> dict[str, str]:
    return {f"{name} {order}": texts[name].replace("{both}", ORDERS[order]) for name in texts for order in ORDERS}


def draw(pick: Pick, phrasing: str, corruption: str) -> Filling:
    receiver, giver = pick("name", 2)
    clean = {"receiver": receiver, "giver": giver, "again": giver}
    clean |= {"place": pick.one("place"), "thing": pick.one("thing")}
    if corruption == "other gives":
        changed = {"again": receiver}
    elif corruption == "stranger gives":
        changed = {"again": pick.one("name", receiver, giver)}
    else:
        changed = dict(zip(("receiver", "giver", "again"), pick("name", 3), strict=True))
    return Filling(clean, clean | changed, right=receiver, wrong=giver)


TASK = Task(
    about="who receives: the one who is not giving",
    wordings=(
        Wording(in_both_orders(TEXTS), WORDS, draw),
        Wording(in_both_orders(WORLD_TEXTS), WORLD_WORDS, draw, trained="indirect"),
    ),
    flips=("other gives",),
    blurs=("stranger gives", "all strangers"),
)
