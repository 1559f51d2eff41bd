"""Boolean expressions: is it true or false?

Corruptions: one operand is turned round; "and" becomes "or", or the other way; each so that the value changes.
Source: Suzgun et al. 2022, "Challenging BIG-Bench Tasks" (boolean expressions).
"""

from __future__ import annotations

from benchmarks.tasks.task import Filling, Pick, Task, Wording

EXPRESSIONS = {
    "two": "{one} {joined} {two}",
    "not, two": "not {one} {joined} {two}",
    "three": "( {one} {joined} {two} ) {again} {three}",
    "not, three": "( not {one} {joined} {two} ) {again} {three}",
    "four": "( {one} {joined} {two} ) {again} ( {three} {last} {four} )",
}
FRAMES = {"value": "The value of {} is {{answer}}", "question": "Q: What is {} ? A: {{answer}}"}
PHRASINGS = {
    f"{name}, {frame}": FRAMES[frame].format(expression) for name, expression in EXPRESSIONS.items() for frame in FRAMES
}
OPERANDS, OPERATORS = ("one", "two", "three", "four"), ("joined", "again", "last")
WORDS = {"operand": ["True", "False"], "operator": ["and", "or"]}


def value(phrasing: str, words: dict[str, str]) -> bool:
    """What an expression comes to."""
    one, two, three, four = (words[place] == "True" for place in OPERANDS)
    left = joined(one != phrasing.startswith("not"), words["joined"], two)
    if "two" in phrasing:
        return left
    return joined(left, words["again"], joined(three, words["last"], four) if "four" in phrasing else three)


def joined(one: bool, operator: str, other: bool) -> bool:
    return one and other if operator == "and" else one or other


def draw(pick: Pick, phrasing: str, corruption: str) -> Filling | None:
    clean = {place: pick.one("operand") for place in OPERANDS} | {place: pick.one("operator") for place in OPERATORS}
    pool, places = ("operand", OPERANDS) if corruption == "other operand" else ("operator", OPERATORS)
    place = pick.random.choice(places)
    corrupted = clean | {place: pick.one(pool, clean[place])}
    right, wrong = value(phrasing, clean), value(phrasing, corrupted)
    return Filling(clean, corrupted, str(right), str(wrong)) if right != wrong else None


TASK = Task(
    about="whether an expression is true",
    wordings=(Wording(PHRASINGS, WORDS, draw),),
    flips=("other operand", "other operator"),
)
