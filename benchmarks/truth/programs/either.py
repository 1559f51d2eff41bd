"""An OR gate: two heads look for a sign at one place each, and an MLP says yes where either found it.

Where both signs are there, either head may be cut without any effect, and both may not.
"""

from itertools import product

from benchmarks.truth.blocks import ONE, TOKEN, Head, Mlp, Stage, column, compile_transformer, looking_back, one_hot
from benchmarks.truth.program import Program, pair_up

SIGNS, BLANKS, BEGIN, LENGTH = (0, 1), (2, 3), 4, 4
YES = 1


def answer(prompt: tuple[int, ...]) -> int:
    """1 where there is a sign at the second position, the third, or both."""
    return int(prompt[1] in SIGNS or prompt[2] in SIGNS)


def either() -> Program:
    sign = {TOKEN: column([1, 1, 0, 0, 0])}
    found = one_hot(1)
    heads = [Head(*looking_back(LENGTH, by), sign, {f"sign {by}": found}) for by in (2, 1)]
    both = found.repeat(1, 2)  # of the sum of both: what is above 0, and what is above 1
    gate = Mlp({"sign 2": both, "sign 1": both, ONE: column([0, -1]).mT}, {"either": column([1, -1])})
    prompts = [(BEGIN, *each, BEGIN) for each in product(SIGNS + BLANKS, repeat=2)]
    with_both = [each for each in prompts if all(token in SIGNS for token in each[1:3])]
    with_none = [each for each in prompts if not answer(each)]
    return Program(
        about="whether there is a sign at one place or another",
        transformer=compile_transformer(
            "either",
            [Stage(heads, gate)],
            tokens=5,
            length=LENGTH,
            widths={"sign 1": 1, "sign 2": 1, "either": 1},
            logits={"either": column([0, 1]).mT, ONE: column([0.5, 0]).mT},
        ),
        prompts=prompts,
        answer=answer,
        pairs=pair_up(with_both, answer, with_none),
        designed=(
            "input->a0.h0<v>",
            "input->a0.h1<v>",
            "a0.h0->m0",
            "a0.h1->m0",
            "m0->logits",
        ),
    )
