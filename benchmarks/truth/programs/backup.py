"""Self-repair: a head says the answer, and a later one does only where the first has said nothing.

The later one looks for the letter unless the first has written one. The last MLP takes either word for it, and twice is
no more than once. So the first head may be cut whole, or the later one, and nothing happens; of their edges only the
one by which the first speaks matters by itself, for the later head still sees that it has spoken.
"""

from itertools import permutations, product

from benchmarks.truth.blocks import ONE, SHARP, TOKEN, Head, Mlp, Stage, column, compile_transformer, entries, one_hot
from benchmarks.truth.program import Program, Prompt, pair_up

LETTERS, BLANK, BEGIN, LENGTH = 4, 4, 5, 4
TOKENS, NONE = LETTERS + 2, LETTERS


def answer(prompt: Prompt) -> int:
    """The letter that stands somewhere among blanks, or that there is none."""
    return next((token for token in prompt if token < LETTERS), NONE)


def backup() -> Program:
    letters = entries(TOKENS, LETTERS, {(letter, letter): 1.0 for letter in range(LETTERS)})
    any_letter, own = column([1] * LETTERS + [0, 0]), one_hot(LETTERS)
    first = Head({ONE: column([SHARP])}, {TOKEN: any_letter}, {TOKEN: letters}, {"first": own})
    second = Head(
        query={ONE: column([SHARP]), "first": column([-2 * SHARP] * LETTERS)},
        key={TOKEN: any_letter},
        value={TOKEN: letters},
        write={"second": own},
    )
    at_most_once = Mlp(
        read={"first": own.repeat(1, 2), "second": own.repeat(1, 2), ONE: column([0] * LETTERS + [-1] * LETTERS).mT},
        write={"answer": own.repeat(2, 1) * column([1] * LETTERS + [-1] * LETTERS)},
    )
    without = (BEGIN, *[BLANK] * (LENGTH - 1))
    places = sorted(set(permutations([0] + [1] * (LENGTH - 2))))
    with_letter = [
        (BEGIN, *(BLANK if blank else letter for blank in place)) for letter, place in product(range(LETTERS), places)
    ]
    return Program(
        about="the letter among blanks, by a head that has another in reserve",
        transformer=compile_transformer(
            "backup",
            [Stage([first]), Stage([second], at_most_once)],
            tokens=TOKENS,
            length=LENGTH,
            widths={"first": LETTERS, "second": LETTERS, "answer": LETTERS},
            logits={
                "answer": entries(LETTERS, LETTERS + 1, {(letter, letter): 1.0 for letter in range(LETTERS)}),
                ONE: column([0] * LETTERS + [0.5]).mT,
            },
        ),
        prompts=[without, *with_letter],
        answer=answer,
        pairs=pair_up(with_letter, answer, [without]),
        designed=(
            "input->a0.h0<k>",
            "input->a0.h0<v>",
            "a0.h0->m1",
            "a0.h0->a1.h0<q>",
            "input->a1.h0<k>",
            "input->a1.h0<v>",
            "a1.h0->m1",
            "m1->logits",
        ),
    )
