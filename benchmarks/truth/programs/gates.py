"""Gates: two heads look for a sign, each at a place of its own, and an MLP says yes where both, or either, found it.

Where both signs are there, cutting one head from an AND closes it. Of an OR either may be cut without any effect, and
only both together may not.
"""

from collections.abc import Callable
from itertools import product

from benchmarks.truth.blocks import ONE, TOKEN, Head, Mlp, Stage, column, compile_transformer, looking_back, one_hot
from benchmarks.truth.program import Program, Prompt, pair_up

SIGNS, BLANKS, BEGIN, LENGTH = (0, 1), (2, 3), 4, 4


def both() -> Program:
    """One neuron: what the sum of the two is above 1."""

    def answer(prompt: Prompt) -> int:
        return int(prompt[1] in SIGNS and prompt[2] in SIGNS)

    return _gate("both", "whether there is a sign at one place and another", answer, [-1], [1])


def either() -> Program:
    """Two neurons: what the sum of the two is above 0, less what it is above 1."""

    def answer(prompt: Prompt) -> int:
        return int(prompt[1] in SIGNS or prompt[2] in SIGNS)

    return _gate("either", "whether there is a sign at one place or another", answer, [0, -1], [1, -1])


def _gate(name: str, about: str, answer: Callable[[Prompt], int], above: list[float], weight: list[float]) -> Program:
    sign = {TOKEN: column([1, 1, 0, 0, 0])}
    heads = [Head(*looking_back(LENGTH, by), sign, {f"sign {by}": one_hot(1)}) for by in (2, 1)]
    each = column([1.0] * len(above)).mT
    gate = Mlp({"sign 2": each, "sign 1": each, ONE: column(above).mT}, {"open": column(weight)})
    prompts = [(BEGIN, *each, BEGIN) for each in product(SIGNS + BLANKS, repeat=2)]
    with_both = [each for each in prompts if each[1] in SIGNS and each[2] in SIGNS]
    with_none = [each for each in prompts if each[1] in BLANKS and each[2] in BLANKS]
    return Program(
        about=about,
        transformer=compile_transformer(
            name,
            [Stage(heads, gate)],
            tokens=5,
            length=LENGTH,
            widths={"sign 1": 1, "sign 2": 1, "open": 1},
            logits={"open": column([0, 1]).mT, ONE: column([0.5, 0]).mT},
        ),
        prompts=prompts,
        answer=answer,
        pairs=pair_up(with_both, answer, with_none),
        designed=("input->a0.h0<v>", "input->a0.h1<v>", "a0.h0->m0", "a0.h1->m0", "m0->logits"),
    )
