"""Two tokens at once: a head brings the one before to the last, and an MLP has a neuron for each two that it knows.

Equality has one for each token; modular addition one for every two numbers, and a look-up of their sums.
"""

from collections.abc import Sequence
from itertools import product

import torch

from benchmarks.truth.blocks import (
    ONE,
    TOKEN,
    Head,
    Map,
    Matrix,
    Mlp,
    Stage,
    column,
    compile_transformer,
    looking_back,
    one_hot,
)
from benchmarks.truth.program import Program, Prompt, pair_up
from circuits.components.transformer import Transformer

LETTERS, MODULUS, LENGTH = 4, 5, 3
DESIGNED = ("input->a0.h0<v>", "a0.h0->m0", "input->m0", "m0->logits")


def equality() -> Program:
    """Whether two tokens are the same."""

    def answer(prompt: Prompt) -> int:
        return int(prompt[1] == prompt[2])

    same = [(letter, letter) for letter in range(LETTERS)]
    logits = {"found": column([0, 1]).mT, ONE: column([0.5, 0]).mT}
    prompts = [(LETTERS, *each) for each in product(range(LETTERS), repeat=2)]
    return Program(
        about="whether two tokens are the same",
        transformer=_with_neurons("equality", LETTERS, same, column([1.0] * LETTERS), logits),
        prompts=prompts,
        answer=answer,
        pairs=pair_up(prompts, answer),
        designed=DESIGNED,
    )


def modular_addition() -> Program:
    """The sum of two numbers, modulo 5."""

    def answer(prompt: Prompt) -> int:
        return (prompt[1] + prompt[2]) % MODULUS

    every = list(product(range(MODULUS), repeat=2))
    sums = torch.stack([one_hot(MODULUS)[sum(each) % MODULUS] for each in every])
    prompts = [(MODULUS, *each) for each in every]
    return Program(
        about="the sum of two numbers modulo 5",
        transformer=_with_neurons("modular addition", MODULUS, every, sums, {"found": one_hot(MODULUS)}),
        prompts=prompts,
        answer=answer,
        pairs=pair_up(prompts, answer),
        designed=DESIGNED,
    )


def _with_neurons(name: str, count: int, known: Sequence[tuple[int, ...]], found: Matrix, logits: Map) -> Transformer:
    """known: two tokens for each neuron, which it answers to; found: what it writes then. [neuron d]"""
    tokens = one_hot(count + 1)
    first, last = (tokens[[each[side] for each in known]].mT for side in (0, 1))
    neurons = Mlp({"first": first, TOKEN: last, ONE: column([-1.0] * len(known)).mT}, {"found": found})
    head = Head(*looking_back(LENGTH, 1), value={TOKEN: tokens}, write={"first": tokens})
    return compile_transformer(
        name,
        [Stage([head], neurons)],
        tokens=count + 1,
        length=LENGTH,
        widths={"first": count + 1, "found": found.shape[1]},
        logits=logits,
    )
