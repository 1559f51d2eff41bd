"""A program: a transformer compiled by hand from blocks, what it says to every prompt, and its wiring."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from circuits.components.pairs import Pairs
from circuits.components.transformer import Transformer

Prompt = tuple[int, ...]
PAIRS = 32


@dataclass(frozen=True, eq=False)
class Program:
    """One program.

    about: what it says, in a line. prompts: those it is made for. answer: what it says after each, as an index of its
    logits. pairs: on which circuits are looked for. designed: the edges by which it was wired, "a0.h0->m0".
    """

    about: str
    transformer: Transformer
    prompts: Sequence[Prompt]
    answer: Callable[[Prompt], int]
    pairs: Pairs
    designed: tuple[str, ...]


def pair_up(
    prompts: Sequence[Prompt],
    answer: Callable[[Prompt], int],
    others: Sequence[Prompt] | None = None,
    *,
    count: int = PAIRS,
    seed: int = 0,
) -> Pairs:
    """Prompts, each with another that has another answer, drawn by lot; read after the last token.

    others: which the corrupted ones are drawn from; by default the same. count: pairs at most.
    """
    drawn = random.Random(seed)
    clean = drawn.sample(list(prompts), min(count, len(prompts)))
    corrupted = [
        drawn.choice([other for other in others or prompts if answer(other) != answer(each)]) for each in clean
    ]
    right, wrong = ([answer(each) for each in side] for side in (clean, corrupted))
    columns = (clean, corrupted, right, wrong, [len(each) - 1 for each in clean])
    return Pairs(*(torch.tensor(each) for each in columns))
