"""Induction: a head marks every position with the token before it, a later one looks for the mark of the last token.

Three of a kind: with saturated patterns, with soft ones, and with a norm before every reader.
"""

from itertools import permutations

from benchmarks.truth.blocks import POSITION, SHARP, TOKEN, Head, Stage, compile_transformer, looking_back, one_hot
from benchmarks.truth.program import Program, pair_up

LETTERS, BEGIN, SHOWN = 5, 5, 4
LENGTH = SHOWN + 2
SOFT = 3.0  # between scores: a twentieth of the weight a head gives one position goes to each of the others


def answer(prompt: tuple[int, ...]) -> int:
    """What followed the last token where it stood before."""
    return prompt[prompt.index(prompt[-1]) + 1]


def induction(name: str = "induction", sharp: float = SHARP, *, normed: bool = False) -> Program:
    """sharp: between scores of either head."""
    tokens = one_hot(LETTERS + 1)
    query, key = looking_back(LENGTH, 1)
    mark = Head({POSITION: query[POSITION] * sharp / SHARP}, key, value={TOKEN: tokens}, write={"before": tokens})
    seek = Head({TOKEN: sharp * tokens}, {"before": tokens}, value={TOKEN: tokens}, write={"answer": tokens})
    prompts = [(BEGIN, *shown, asked) for shown in permutations(range(LETTERS), SHOWN) for asked in shown[:-1]]
    return Program(
        about="what followed the last token where it stood before",
        transformer=compile_transformer(
            name,
            [Stage([mark]), Stage([seek])],
            tokens=LETTERS + 1,
            length=LENGTH,
            widths={"before": LETTERS + 1, "answer": LETTERS + 1},
            logits={"answer": tokens},
            normed=normed,
        ),
        prompts=prompts,
        answer=answer,
        pairs=pair_up(prompts, answer),
        designed=(
            "input->a0.h0<v>",
            "a0.h0->a1.h0<k>",
            "input->a1.h0<q>",
            "input->a1.h0<v>",
            "a1.h0->logits",
        ),
    )


def soft_induction() -> Program:
    """With patterns that gradients pass through."""
    return induction("soft induction", SOFT)


def normed_induction() -> Program:
    """With an RMS norm before every reader; sharper, for the norms make every subspace smaller."""
    return induction("normed induction", 4 * SHARP, normed=True)
