"""What a task is: phrasings with places to fill, the words that may stand there, and who draws them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from circuits.errors import CircuitError

Pool = Sequence[Any]
"""Words, or rows of words that belong together: ("Paris", "French")."""


class BadTask(CircuitError, ValueError):
    """A task has nothing that this model can read, or there is no task of that name."""


class Lacking(BadTask):
    """A phrasing cannot be filled: the model has too few of the words."""


@dataclass(frozen=True)
class Filling:
    """What stands in the places of a phrasing.

    clean, corrupted: for every place but `answer`, one word or several with spaces between, as many in both.
    right: the answer to the clean prompt. wrong: what the corrupted one makes likely.
    """

    clean: Mapping[str, str]
    corrupted: Mapping[str, str]
    right: str
    wrong: str


@dataclass(frozen=True)
class Pick:
    """Draws from the words that the model has as one token.

    pools: those words, by name. counts: how many of how many those are, in words. random: for every other choice.
    """

    pools: Mapping[str, Pool]
    counts: Mapping[str, str]
    random: random.Random

    def __call__(self, pool: str, count: int) -> list[Any]:
        """So many different ones.

        Raises:
            Lacking: there are fewer.
        """
        if len(self.pools[pool]) < count:
            raise Lacking(f"at least {count} of {pool!r} must be one token each, it has {self.counts[pool]}")
        return self.random.sample(self.pools[pool], count)

    def one(self, pool: str, *others: Any) -> Any:
        """One of them, but none of `others`.

        Raises:
            Lacking: there is none.
        """
        return next(each for each in self(pool, len(others) + 1) if each not in others)


Draw = Callable[[Pick, str, str], Filling | None]
"""(pick, phrasing, corruption) -> a filling, or None where this draw does not serve; another will be made."""


@dataclass(frozen=True)
class Wording:
    """A task in one kind of English.

    phrasings: by name, text with places in braces. It ends with `{answer}`; what stands before that is the prompt.
    words: pools by name, or a function that gives them. A word of several parts ("fort worth") counts as its parts.
    draw: fills a phrasing.
    trained: the family of `benchmarks.world.prompts` it belongs to, whose held-out prompts are preferred.
    """

    phrasings: Mapping[str, str]
    words: Mapping[str, Pool] | Callable[[], Mapping[str, Pool]]
    draw: Draw
    trained: str = ""


@dataclass(frozen=True)
class Task:
    """Prompts in pairs that differ in what decides the answer.

    about: what is asked, in a line.
    wordings: the first one that the model can read is used.
    flips: corruptions after which `wrong` is the answer. blurs: those that leave the answer open.
    """

    about: str
    wordings: tuple[Wording, ...]
    flips: tuple[str, ...]
    blurs: tuple[str, ...] = ()

    @property
    def corruptions(self) -> tuple[str, ...]:
        return self.flips + self.blurs
