"""A path that cancels: a head brings a token which one later head adds to the answer and another takes off again.

Each edge of the two matters by itself, for cut alone it leaves the other unbalanced. The head before them does not,
nor does what it reads, and all of it together may be cut. The answer comes another way.
"""

from itertools import product

from benchmarks.truth.blocks import TOKEN, Head, Stage, compile_transformer, looking_back, one_hot
from benchmarks.truth.program import Program, Prompt, pair_up

LETTERS, BEGIN, LENGTH = 4, 4, 4


def answer(prompt: Prompt) -> int:
    """The token before the last one."""
    return prompt[-2]


def cancelling() -> Program:
    letters, here = one_hot(LETTERS + 1), looking_back(LENGTH, 0)
    bring = Head(*looking_back(LENGTH, 2), value={TOKEN: letters}, write={"brought": letters})
    say = Head(*looking_back(LENGTH, 1), value={TOKEN: letters}, write={"answer": letters})
    add = Head(*here, value={"brought": letters}, write={"answer": letters})
    take_off = Head(*here, value={"brought": letters}, write={"answer": -letters})
    prompts = [(BEGIN, *each) for each in product(range(LETTERS), repeat=LENGTH - 1)]
    return Program(
        about="the token before the last one, while another is added and taken off",
        transformer=compile_transformer(
            "cancelling",
            [Stage([bring, say]), Stage([add, take_off])],
            tokens=LETTERS + 1,
            length=LENGTH,
            widths={"brought": LETTERS + 1, "answer": LETTERS + 1},
            logits={"answer": letters},
        ),
        prompts=prompts,
        answer=answer,
        pairs=pair_up(prompts, answer),
        designed=(
            "input->a0.h1<v>",
            "a0.h1->logits",
            "input->a0.h0<v>",
            "a0.h0->a1.h0<v>",
            "a0.h0->a1.h1<v>",
            "a1.h0->logits",
            "a1.h1->logits",
        ),
    )
