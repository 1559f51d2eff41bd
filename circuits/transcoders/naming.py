"""How a dictionary is called: a set's name, what is said of it behind an @, and several sets joined by +."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from circuits.transcoders.fit import ATTENTION_READS, ATTENTION_WRITES, READS, WRITES
from circuits.transcoders.neurons import RULES

_LAYERS = re.compile(r"L\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*")


@dataclass(frozen=True)
class SetName:
    """One name of a set taken apart: `world@L0-2@mlp_raw`. What it does not say is None.

    plain: the name without what follows. said: all that follows, as it was typed.
    reads, writes: sites; reads is one that is written where it is named twice, for an autoencoder. rule: one of RULES.
    layers: the model's layers that are to be taken of it.
    """

    plain: str
    said: str = ""
    reads: str | None = None
    writes: str | None = None
    rule: str | None = None
    layers: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return self.plain + self.said


def split_names(text: str) -> list[str]:
    """`world@L0+neurons` as the names it is made of. A folder of that very name is one."""
    return [text] if Path(text).is_dir() else text.split("+")


def read_name(text: str) -> SetName:
    """A name taken apart; what is behind an @ and means nothing here, as a revision, stays a part of the plain name."""
    found: dict[str, str] = {}
    plain = text
    while not Path(plain).is_dir():
        before, _, word = plain.rpartition("@")
        wanted = _meaning(word, found)
        if not before or wanted is None:
            break
        plain, found[wanted] = before, word
    layers = found.pop("layers", None)
    return SetName(plain, text[len(plain) :], **found, layers=None if layers is None else _numbers(layers))


def _meaning(word: str, found: dict[str, str]) -> str | None:
    """Which field a word fills, of those not filled yet."""
    meanings = {
        "layers": _LAYERS.fullmatch(word) is not None,
        "rule": word in RULES,
        "writes": word in (*WRITES, *ATTENTION_WRITES),
        "reads": word in (*READS, *WRITES, *ATTENTION_READS),
    }
    return next((name for name, fits in meanings.items() if fits and name not in found), None)


def _numbers(text: str) -> tuple[int, ...]:
    """`L0-2,5` as 0, 1, 2, 5."""
    numbers: set[int] = set()
    for each in text.removeprefix("L").split(","):
        first, _, last = each.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(numbers))
