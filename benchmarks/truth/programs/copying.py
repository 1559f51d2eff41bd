"""Copying: the last token names a place, and a head says what stands there."""

from itertools import product

from benchmarks.truth.blocks import (
    POSITION,
    SHARP,
    TOKEN,
    Head,
    Stage,
    compile_transformer,
    entries,
    one_hot,
)
from benchmarks.truth.program import Program, Prompt, pair_up

LETTERS, PLACES, BEGIN = 3, 4, 3  # tokens: letters, the beginning, the names of the places
TOKENS, LENGTH = LETTERS + 1 + PLACES, PLACES + 2


def answer(prompt: Prompt) -> int:
    """The token at the place that the last one names, counted from 1."""
    return prompt[prompt[-1] - BEGIN]


def copying() -> Program:
    places = {(BEGIN + place, place): SHARP for place in range(1, PLACES + 1)}
    head = Head(
        query={TOKEN: entries(TOKENS, LENGTH, places)},
        key={POSITION: one_hot(LENGTH)},
        value={TOKEN: one_hot(TOKENS)},
        write={"answer": one_hot(TOKENS)},
    )
    prompts = [
        (BEGIN, *letters, BEGIN + place)
        for letters in product(range(LETTERS), repeat=PLACES)
        for place in range(1, PLACES + 1)
    ]
    return Program(
        about="the token at the place that the last one names",
        transformer=compile_transformer(
            "copying",
            [Stage([head])],
            tokens=TOKENS,
            length=LENGTH,
            widths={"answer": TOKENS},
            logits={"answer": one_hot(TOKENS)},
        ),
        prompts=prompts,
        answer=answer,
        pairs=pair_up(prompts, answer),
        designed=("input->a0.h0<q>", "input->a0.h0<v>", "a0.h0->logits"),
    )
