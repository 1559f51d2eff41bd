"""Counting: how often the last token stands there, read off the share of the pattern that is left to the beginning.

A head looks at the beginning and at every token like the last one, so the beginning gets 1 / (1 + count); the MLP
turns that into a count, one step for each.
"""

from itertools import product

import torch

from benchmarks.truth.blocks import (
    ONE,
    POSITION,
    SHARP,
    TOKEN,
    Head,
    Mlp,
    Stage,
    column,
    compile_transformer,
    entries,
    one_hot,
)
from benchmarks.truth.program import Program, Prompt, pair_up

LETTERS, BEGIN, LENGTH = 3, 3, 6
MOST = LENGTH - 1


def answer(prompt: Prompt) -> int:
    """The count less one, for there is no zero."""
    return prompt.count(prompt[-1]) - 1


def counting() -> Program:
    tokens, begins = one_hot(LETTERS + 1), {(0, letter): 1.0 for letter in range(LETTERS)}
    head = Head(
        query={TOKEN: SHARP * tokens},
        key={TOKEN: tokens, POSITION: entries(LENGTH, LETTERS + 1, begins)},
        value={POSITION: entries(LENGTH, 1, {(0, 0): 1.0})},
        write={"share": one_hot(1)},
    )
    prompts = [(BEGIN, *each) for each in product(range(LETTERS), repeat=MOST)]
    return Program(
        about="how often the last token stands there",
        transformer=compile_transformer(
            "counting",
            [Stage([head], _count())],
            tokens=LETTERS + 1,
            length=LENGTH,
            widths={"share": 1, "count": MOST},
            logits={"count": one_hot(MOST)},
        ),
        prompts=prompts,
        answer=answer,
        pairs=pair_up(prompts, answer),
        designed=("input->a0.h0<q>", "input->a0.h0<k>", "a0.h0->m0", "m0->logits"),
    )


def _count() -> Mlp:
    """A step for every count, 1 where there are at most so many; of each two that follow, the difference.

    Two neurons make a step. It rises in the middle half between the shares of two counts.
    """
    read, bias, step = [], [], []
    for count in range(1, MOST + 1):
        share, below = 1 / (1 + count), 1 / (2 + count)
        steep = 2 / (share - below)
        for start, sign in ((0.25, 1.0), (0.75, -1.0)):
            read.append(steep)
            bias.append(-steep * (below + start * (share - below)))
            step.append(sign * (one_hot(MOST)[count - 1] - (one_hot(MOST)[count] if count < MOST else 0)))
    return Mlp({"share": column(read).mT, ONE: column(bias).mT}, {"count": torch.stack(step)})
