"""What is there twice: a head marks every token that stood there before, and others go by the mark.

Duplicate: a head says the token that is marked. Indirect object: of two names one comes twice; a head brings the marked
name to the end, and a third looks for a name that is not that one: three heads, composed by keys and then by queries.
"""

from itertools import permutations, product

import torch

from benchmarks.truth.blocks import (
    ONE,
    POSITION,
    SHARP,
    TOKEN,
    Head,
    Stage,
    column,
    compile_transformer,
    entries,
    one_hot,
)
from benchmarks.truth.program import Program, Prompt, pair_up

LETTERS = 4
MARK = ("input->a0.h0<q>", "input->a0.h0<k>", "a0.h0->a1.h0<k>", "input->a1.h0<v>")


def duplicate() -> Program:
    """The letter that stands there twice, of three."""
    begin, length = LETTERS, 5

    def answer(prompt: Prompt) -> int:
        return next(token for token in prompt if prompt.count(token) == 2)

    letters = one_hot(LETTERS + 1)
    prompts = [(begin, *each) for each in product(range(LETTERS), repeat=length - 1) if len(set(each)) == length - 2]
    return Program(
        about="the letter that is there twice",
        transformer=compile_transformer(
            "duplicate",
            [Stage([_marks(LETTERS + 1, length)]), Stage([_brings(letters, "answer")])],
            tokens=LETTERS + 1,
            length=length,
            widths={"mark": 1, "answer": LETTERS + 1},
            logits={"answer": letters},
        ),
        prompts=prompts,
        answer=answer,
        pairs=pair_up(prompts, answer),
        designed=(*MARK, "a1.h0->logits"),
    )


def indirect_object() -> Program:
    """Two names, then one of them again before or after a word that says nothing; at the end, the other."""
    word, end, begin = LETTERS, LETTERS + 1, LETTERS + 2
    tokens, length = LETTERS + 3, 6

    def answer(prompt: Prompt) -> int:
        return next(token for token in prompt if token < LETTERS and prompt.count(token) == 1)

    names = entries(tokens, LETTERS, {(name, name): 1.0 for name in range(LETTERS)})
    own = one_hot(LETTERS)
    move = Head(
        query={ONE: SHARP * column([1.0] * LETTERS).mT, "told": -2 * SHARP * own},
        key={TOKEN: names},
        value={TOKEN: names},
        write={"answer": own},
    )
    prompts = [
        (begin, *two, *((again, word) if first else (word, again)), end)
        for two in permutations(range(LETTERS), 2)
        for again in two
        for first in (False, True)
    ]
    return Program(
        about="of two names the one that is not told again",
        transformer=compile_transformer(
            "indirect object",
            [Stage([_marks(tokens, length)]), Stage([_brings(names, "told")]), Stage([move])],
            tokens=tokens,
            length=length,
            widths={"mark": 1, "told": LETTERS, "answer": LETTERS},
            logits={"answer": own},
        ),
        prompts=prompts,
        answer=answer,
        pairs=pair_up(prompts, answer),
        designed=(*MARK, "a1.h0->a2.h0<q>", "input->a2.h0<k>", "input->a2.h0<v>", "a2.h0->logits"),
    )


def _marks(tokens: int, length: int) -> Head:
    """A head that looks at an earlier token of the same kind, and else at the beginning, where nothing is to be read.

    Scores: 1 for the same token, less 2 for its own place, and a half for the beginning; times SHARP.
    """
    same, place = torch.eye(tokens, tokens + length + 1), torch.eye(length, tokens + length + 1).roll(tokens, 1)
    same, place = same.double(), place.double()
    fallback = entries(1, tokens + length + 1, {(0, tokens + length): 1.0})
    at_begin = torch.zeros_like(place)
    at_begin[0, -1] = 0.5
    return Head(
        query={TOKEN: SHARP * same, POSITION: -2 * SHARP * place, ONE: SHARP * fallback},
        key={TOKEN: same, POSITION: place + at_begin},
        value={POSITION: column([0.0] + [1.0] * (length - 1))},
        write={"mark": one_hot(1)},
    )


def _brings(read: torch.Tensor, to: str) -> Head:
    """A head that looks at what is marked."""
    return Head({ONE: column([SHARP])}, {"mark": one_hot(1)}, {TOKEN: read}, {to: one_hot(read.shape[1])})
