"""The questions of the world: every task family, and which of them a model may see in training."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product
from zlib import crc32

import numpy as np

from benchmarks.world import language as words
from benchmarks.world.language import ATTRIBUTES, NAMINGS, Language

SHOWCASE = (
    ("the capital of the state containing dallas is", "austin"),
    ("the capital of the state containing oakland is", "sacramento"),
)
"""Prompts that the README shows. None of them is trained on."""

TRAIN = "train"


@dataclass(frozen=True)
class Prompt:
    """A question and its answer.

    words: the question, without `<bos>`.
    answers: the words that follow, in order (one, but for addition).
    family: the task it belongs to.
    split: `train`, or the name of the held-out part it belongs to.
    entity, state, attribute: of facts, else empty.
    concept: of antonyms, the English word that is asked about, else empty.
    """

    words: tuple[str, ...]
    answers: tuple[str, ...]
    family: str
    split: str = TRAIN
    entity: str = ""
    state: str = ""
    attribute: str = ""
    concept: str = ""

    @property
    def text(self) -> str:
        return " ".join(self.words)


def all_prompts(language: Language) -> dict[str, list[Prompt]]:
    """Every finite family, by name, trained and held-out prompts together."""
    return {
        "one-hop": list(one_hop(language)),
        "two-hop": list(two_hop(language)),
        "antonyms": list(antonyms()),
        "addition": list(addition()),
        "agreement": list(agreement()),
        "greater": list(greater()),
        "indirect": list(indirect()),
    }


def held_out(prompts: dict[str, list[Prompt]], *, most: int, seed: int) -> dict[str, list[Prompt]]:
    """What a model is judged on: up to `most` prompts of each held-out part, drawn by `seed`.

    One-hop facts cannot be held out, they can only be remembered: any of them may be drawn.
    """
    random = np.random.default_rng(seed)
    parts: dict[str, list[Prompt]] = {"one-hop": prompts["one-hop"]}
    for family in prompts.values():
        for prompt in family:
            if prompt.split != TRAIN:
                parts.setdefault(prompt.split, []).append(prompt)
    parts["induction"] = [induction(random) for _ in range(min(most, 500))]
    return {
        name: [part[k] for k in sorted(random.permutation(len(part))[:most])] if len(part) > most else part
        for name, part in parts.items()
    }


def one_hop(language: Language) -> Iterator[Prompt]:
    """What a state has, and where a city lies, said in five ways."""
    for (attribute, state), value in language.value.items():
        yield Prompt(("the", attribute, "of", state, "is"), (value,), "one-hop", state=state, attribute=attribute)
    for city, state in language.state_of.items():
        two_words = tuple(city.split())
        yield Prompt((*two_words, "is", "in"), (state,), "one-hop", entity=city, state=state, attribute="in")
        for naming in NAMINGS:
            asked = ("the", naming, "of", "the", "state", "containing", *two_words, "is")
            yield Prompt(asked, (state,), "one-hop", entity=city, state=state, attribute=naming)


def two_hop(language: Language) -> Iterator[Prompt]:
    """What the state of a city has. Held out: some cities wholly, and some attributes of the others."""
    showcase = {text for text, _ in SHOWCASE}
    for (city, state), attribute in product(language.state_of.items(), ATTRIBUTES):
        asked = ("the", attribute, "of", "the", "state", "containing", *city.split(), "is")
        unseen = _one_in(8, *asked) or " ".join(asked) in showcase
        split = "two-hop city" if city in language.held_out else "two-hop combo" if unseen else TRAIN
        yield Prompt(asked, (language.value[attribute, state],), "two-hop", split, city, state, attribute)


def antonyms() -> Iterator[Prompt]:
    """Opposites within a language, translations, and opposites across languages (some held out)."""
    opposite = ("the opposite of {} is", "le contraire de {} est", "lo contrario de {} es")
    across = ("the opposite of {} in {} is", "le contraire de {} en {} est", "lo contrario de {} en {} es")
    translated = ("{} in {} is", "{} en {} est", "{} en {} es")
    names = words.LANGUAGE_NAMES
    for one, other in _concepts():
        for here in range(3):
            yield _filled(opposite[here], (one[here],), other[here], TRAIN, one[0])
            for there in range(3):
                if there != here:
                    asked = (one[here], names[here][there])
                    split = "antonyms" if _one_in(6, *asked) else TRAIN
                    yield _filled(translated[here], asked, one[there], TRAIN, one[0])
                    yield _filled(across[here], asked, other[there], split, one[0])


def addition() -> Iterator[Prompt]:
    """Two numbers of two digits, a digit a word."""
    for a, b in product(range(100), repeat=2):
        asked = (*f"{a:02d}", "+", *f"{b:02d}", "=")
        total = str(a + b) if a + b > 9 else f"{a + b:02d}"
        yield Prompt(asked, tuple(total), "addition", "addition" if _one_in(10, *asked) else TRAIN)


def agreement() -> Iterator[Prompt]:
    """The verb agrees with the subject, not with the noun beside it."""
    for subject, other, where in product(words.NOUNS, words.NOUNS, words.PREPOSITIONS):
        if subject.removesuffix("s") != other.removesuffix("s"):
            verb = "are" if subject.endswith("s") else "is"
            split = "agreement" if _one_in(8, subject, other) else TRAIN
            yield Prompt(("the", subject, where, "the", other), (verb,), "agreement", split)


def greater() -> Iterator[Prompt]:
    """A thing ends in a later year than it began. Any greater year is right; the answer given is the first."""
    for event, century, year in product(words.EVENTS, words.CENTURIES, range(2, 98)):
        asked = ("the", event, "lasted", "from", century, f"{year:02d}", "to", century)
        split = "greater" if _one_in(10, *asked) else TRAIN
        yield Prompt(asked, (f"{year + 1:02d}",), "greater", split)


def indirect() -> Iterator[Prompt]:
    """Who receives: the one who is not giving. Held out: pairs of names."""
    for template in _GIVING:
        for one, other in permutations(words.NAMES, 2):
            split = "indirect" if _one_in(8, *sorted((one, other))) else TRAIN
            for place, thing in product(words.PLACES, words.THINGS):
                for giver, receiver in ((one, other), (other, one)):
                    filled = template.format(one, other, place=place, thing=thing, giver=giver)
                    yield Prompt(tuple(filled.split()), (receiver,), "indirect", split)


_GIVING = (
    "when {} and {} went to the {place} {giver} gave a {thing} to",
    "when {} and {} talked at the {place} {giver} handed a {thing} to",
    "then {} and {} had a {thing} and {giver} gave it to",
)


def induction(random: np.random.Generator, *, length: int = 14) -> Prompt:
    """A random segment begins again: the next word is the one that followed before."""
    segment = int(random.integers(4, length // 2 + 1))
    letters = [str(word) for word in random.choice(_ANY, segment, replace=False)]
    text = (letters * length)[: length + 1]
    return Prompt(tuple(text[:-1]), (text[-1],), "induction", "induction")


_ANY = sorted({*words.NAMES, *words.NOUNS, *words.THINGS, *words.PLACES, *words.ANTONYMS.split()})


def _concepts() -> Iterator[tuple[list[str], list[str]]]:
    """A word and its opposite, each in the three languages, both ways round."""
    for line in words.ANTONYMS.strip().split("\n"):
        six = line.split()
        yield six[:3], six[3:]
        yield six[3:], six[:3]


def _filled(template: str, asked: tuple[str, ...], answer: str, split: str, concept: str) -> Prompt:
    return Prompt(tuple(template.format(*asked).split()), (answer,), "antonyms", split, concept=concept)


def _one_in(count: int, *key: str) -> bool:
    """True for one key in `count`, always the same ones."""
    return crc32(" ".join(key).encode()) % count == 0
