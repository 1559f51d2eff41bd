"""Acronyms: the third letter of three words' initials.

Corruptions: another third word; three other words, the letters staying. Source: García-Carrasco et al. 2024, "How does
GPT-2 Predict Acronyms?", for the phrasing whose two letters are one token.
"""

from __future__ import annotations

from benchmarks.tasks.task import Filling, Pick, Task, Wording

PHRASINGS = {
    "bracket": "The {first} {second} {third} ( {one} {two} {answer}",
    "short": "The {first} {second} {third} is called for short {one} {two} {answer}",
    "initials": "The initials of {first} {second} {third} are {one} {two} {answer}",
    "one piece": "The {first} {second} {third} ({begun}{answer}",
}
WORDS = {
    "word": """
Air Art Army Arms Bank Board Book Blue Chief City Club Court Data Day Defense Energy East Event Fire Force Food Gold
Group Green Health Home House Island Image Justice Joint King Key Labor Land League Media Music Market National North
Network Office Ocean Open Power Park Press Queen Quality Radio Road Research School Space State Trade Trust Team Union
Urban Video Voice Village Water West World Youth Young Zone Zero
""".split()
}


def draw(pick: Pick, phrasing: str, corruption: str) -> Filling | None:
    first, second, third, *others = pick("word", 6)
    one, two, right = first[0], second[0], third[0]
    clean = {"first": first, "second": second, "third": third, "one": one, "two": two, "begun": one + two}
    if corruption == "another third":
        changed = {"third": others[2]}
    else:
        changed = dict(zip(("first", "second", "third"), others, strict=True))
    return Filling(clean, clean | changed, right, others[2][0]) if right != others[2][0] else None


TASK = Task(
    about="the third of three words' initials",
    wordings=(Wording(PHRASINGS, WORDS, draw),),
    flips=("another third",),
    blurs=("other words",),
)
