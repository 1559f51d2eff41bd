"""The largest number: a head looks where the largest is."""

from itertools import product

from benchmarks.truth.blocks import ONE, SHARP, TOKEN, Head, Stage, column, compile_transformer, one_hot
from benchmarks.truth.program import Program, Prompt, pair_up

NUMBERS, BEGIN, LENGTH = 4, 4, 5


def answer(prompt: Prompt) -> int:
    return max(prompt[1:])


def maximum() -> Program:
    tokens = one_hot(NUMBERS + 1)
    head = Head(
        query={ONE: column([SHARP])},
        key={TOKEN: column([*range(NUMBERS), -1])},
        value={TOKEN: tokens},
        write={"answer": tokens},
    )
    prompts = [(BEGIN, *each) for each in product(range(NUMBERS), repeat=LENGTH - 1)]
    return Program(
        about="the largest number",
        transformer=compile_transformer(
            "maximum",
            [Stage([head])],
            tokens=NUMBERS + 1,
            length=LENGTH,
            widths={"answer": NUMBERS + 1},
            logits={"answer": tokens},
        ),
        prompts=prompts,
        answer=answer,
        pairs=pair_up(prompts, answer),
        designed=("input->a0.h0<k>", "input->a0.h0<v>", "a0.h0->logits"),
    )
