"""Arithmetic: two numbers of two digits, added or taken away; digit by digit for models that read digits.

Corruptions: another second number; another first one; the other operation.
"""

from __future__ import annotations

from benchmarks.tasks.task import Filling, Pick, Task, Wording

PHRASINGS = {
    "signs": "{one} {sign} {two} = {answer}",
    "question": "Q: What is {one} {sign} {two}? A: {answer}",
    "words": "The result of {one} {word} {two} is {answer}",
    "sum": "Let us work out {one} {sign} {two}. It equals {answer}",
}
NUMBERS = [str(number) for number in range(10, 90)]
WORDS = {"number": NUMBERS}

DIGIT_PHRASINGS = {"tens": "{one} + {two} = {answer}", "ones": "{one} + {two} = {tens} {answer}"}
DIGIT_WORDS = {"number": [" ".join(f"{number:02d}") for number in range(100)]}


def draw(pick: Pick, phrasing: str, corruption: str) -> Filling | None:
    one, two, other = map(int, pick("number", 3))
    sign = pick.random.choice("+-")
    clean, right = worked_out(one, two, sign)
    if corruption == "other operation":
        corrupted, wrong = worked_out(one, two, "-" if sign == "+" else "+")
    else:
        corrupted, wrong = worked_out(*((other, two) if corruption == "other first" else (one, other)), sign)
    fits = right != wrong and 10 <= min(right, wrong) and max(right, wrong) < 100
    return Filling(clean, corrupted, str(right), str(wrong)) if fits else None


def worked_out(one: int, two: int, sign: str) -> tuple[dict[str, str], int]:
    word, result = ("plus", one + two) if sign == "+" else ("minus", one - two)
    return {"one": str(one), "two": str(two), "sign": sign, "word": word}, result


def draw_digits(pick: Pick, phrasing: str, corruption: str) -> Filling | None:
    one, two, other = pick("number", 3)
    numbers = {"other second": (one, other), "other first": (other, two)}.get(corruption)
    if numbers is None:
        return None
    totals = [sum(int(each.replace(" ", "")) for each in pair) for pair in ((one, two), numbers)]
    if not 10 <= min(totals) <= max(totals) < 100:
        return None
    clean, corrupted = (
        {"one": pair[0], "two": pair[1], "tens": str(total // 10)}
        for pair, total in zip(((one, two), numbers), totals, strict=True)
    )
    right, wrong = (str(total)[phrasing == "ones"] for total in totals)
    return Filling(clean, corrupted, right, wrong) if right != wrong else None


TASK = Task(
    about="the sum or the difference of two numbers of two digits",
    wordings=(
        Wording(PHRASINGS, WORDS, draw),
        Wording(DIGIT_PHRASINGS, DIGIT_WORDS, draw_digits, trained="addition"),
    ),
    flips=("other second", "other first", "other operation"),
)
