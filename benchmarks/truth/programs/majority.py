"""The majority: a head that looks everywhere alike writes how often each letter stands there."""

from itertools import product

from benchmarks.truth.blocks import TOKEN, Head, Stage, compile_transformer, entries, one_hot
from benchmarks.truth.program import Program, Prompt, pair_up

LETTERS, BEGIN, LENGTH = 3, 3, 6


def answer(prompt: Prompt) -> int:
    """The letter that stands there most often."""
    return max(range(LETTERS), key=prompt.count)


def majority() -> Program:
    letters = entries(LETTERS + 1, LETTERS, {(letter, letter): 1.0 for letter in range(LETTERS)})
    head = Head(query={}, key={}, value={TOKEN: letters}, write={"share": one_hot(LETTERS)})
    every = [(BEGIN, *each) for each in product(range(LETTERS), repeat=LENGTH - 1)]
    prompts = [each for each in every if sum(each.count(x) == each.count(answer(each)) for x in range(LETTERS)) == 1]
    return Program(
        about="the letter that there are most of",
        transformer=compile_transformer(
            "majority",
            [Stage([head])],
            tokens=LETTERS + 1,
            length=LENGTH,
            widths={"share": LETTERS},
            logits={"share": one_hot(LETTERS)},
        ),
        prompts=prompts,
        answer=answer,
        pairs=pair_up(prompts, answer),
        designed=("input->a0.h0<v>", "a0.h0->logits"),
    )
