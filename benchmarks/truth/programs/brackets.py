"""Balanced brackets: never more closed than open, and none open at the end.

A head that looks back everywhere alike writes how many more are open than closed, over the position. The MLP says
where too many were closed, and where some are open; a second head gathers the first of these from all positions.
"""

from itertools import accumulate, product

from benchmarks.truth.blocks import ONE, TOKEN, Head, Mlp, Stage, column, compile_transformer, entries, one_hot
from benchmarks.truth.program import Program, Prompt, pair_up

OPEN, CLOSE, BEGIN, LENGTH = 0, 1, 2, 7


def answer(prompt: Prompt) -> int:
    """0 where they are balanced, 1 where not."""
    depths = list(accumulate({OPEN: 1, CLOSE: -1, BEGIN: 0}[token] for token in prompt))
    return int(min(depths) < 0 or depths[-1] > 0)


def brackets() -> Program:
    depth = Head({}, {}, value={TOKEN: column([1, -1, 0])}, write={"depth": one_hot(1)})
    # A depth of one, at whatever position, is at least 1 / LENGTH; at the last it is just that.
    steps = Mlp(
        read={"depth": column([-LENGTH, -LENGTH, LENGTH, LENGTH]).mT, ONE: column([0, -1, 0, -1]).mT},
        write={"fault": column([1, -1, 0, 0]), "left open": column([0, 0, 1, -1])},
    )
    gather = Head({}, {}, value={"fault": one_hot(1)}, write={"faults": LENGTH * one_hot(1)})
    prompts = [(BEGIN, *each) for each in product((OPEN, CLOSE), repeat=LENGTH - 1)]
    return Program(
        about="whether brackets are balanced",
        transformer=compile_transformer(
            "brackets",
            [Stage([depth], steps), Stage([gather])],
            tokens=3,
            length=LENGTH,
            widths={"depth": 1, "fault": 1, "left open": 1, "faults": 1},
            logits={
                "faults": entries(1, 2, {(0, 1): 1.0}),
                "left open": entries(1, 2, {(0, 1): 1.0}),
                ONE: column([0.5, 0]).mT,
            },
        ),
        prompts=prompts,
        answer=answer,
        pairs=pair_up(prompts, answer),
        designed=("input->a0.h0<v>", "a0.h0->m0", "m0->a1.h0<v>", "m0->logits", "a1.h0->logits"),
    )
