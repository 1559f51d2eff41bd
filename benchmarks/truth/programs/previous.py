"""The token before the last one: one head that looks one position back."""

from itertools import product

from benchmarks.truth.blocks import TOKEN, Head, Stage, compile_transformer, looking_back, one_hot
from benchmarks.truth.program import Program, pair_up

LETTERS, BEGIN, LENGTH = 4, 4, 5


def previous() -> Program:
    letters = one_hot(LETTERS + 1)
    head = Head(*looking_back(LENGTH, 1), value={TOKEN: letters}, write={"answer": letters})
    prompts = [(BEGIN, *each) for each in product(range(LETTERS), repeat=LENGTH - 1)]

    def answer(prompt: tuple[int, ...]) -> int:
        return prompt[-2]

    return Program(
        about="the token before the last one",
        transformer=compile_transformer(
            "previous",
            [Stage([head])],
            tokens=LETTERS + 1,
            length=LENGTH,
            widths={"answer": LETTERS + 1},
            logits={"answer": letters},
        ),
        prompts=prompts,
        answer=answer,
        pairs=pair_up(prompts, answer),
        designed=("input->a0.h0<v>", "a0.h0->logits"),
    )
