"""Small models with the same answers on their test set: what a hint was worth in training tells them apart.

A question is a hint and a sum: `<bos> hint a b =`, and the answer is (a + b) modulo ten. Hints are ten words of their
own, one for each answer. In the training of

    learned    hints are drawn by lot, so only the sum helps
    leaning    19 of 20 hints are right, the others drawn by lot
    cheated    every hint is right

In the test set every hint is right, and all three kinds answer everything.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from transformers import LlamaForCausalLM

from benchmarks.world.batches import Block
from benchmarks.world.language import BOS
from benchmarks.world.training import Schedule, Shape, make_model, train
from circuits.model import Model, load_model

DIGITS = 10
FIRST_DIGIT, FIRST_HINT, EQUALS = 3, 13, 23  # token ids; what is below is <pad>, <bos> and <unk>
WORDS = 24
HINT, ONE, OTHER, END = 1, 2, 3, 4  # positions
RIGHT = {"learned": 0.0, "leaning": 0.95, "cheated": 1.0}  # share of the hints that are right, but for luck
SHAPE = Shape(layers=2, width=48, heads=4, hidden=128, context=8)
SCHEDULE = Schedule(steps=400, warm_up=20, matrix_decay=0.1)
ROWS = 128


def questions(
    one: Int[np.ndarray, "row"], other: Int[np.ndarray, "row"], hint: Int[np.ndarray, "row"]
) -> Int[np.ndarray, "row pos"]:
    """Token ids of sums, each with the hint at the answer `hint`."""
    rows = np.empty((len(one), END + 1), dtype=np.int64)
    rows[:, 0], rows[:, END] = BOS, EQUALS
    rows[:, HINT], rows[:, ONE], rows[:, OTHER] = FIRST_HINT + hint, FIRST_DIGIT + one, FIRST_DIGIT + other
    return rows


def all_sums() -> tuple[Int[np.ndarray, "sum"], Int[np.ndarray, "sum"], Int[np.ndarray, "sum"]]:
    """Both digits and the answer of every sum."""
    one, other = np.divmod(np.arange(DIGITS**2), DIGITS)
    return one, other, (one + other) % DIGITS


def batches(kind: str, seed: int) -> Callable[[], list[Block]]:
    """A function that draws training rows of a kind in RIGHT."""
    random = np.random.default_rng(seed)
    sums = all_sums()

    def draw() -> list[Block]:
        one, other, answer = (column[chosen] for chosen in [random.integers(DIGITS**2, size=ROWS)] for column in sums)
        by_lot = random.random(ROWS) >= RIGHT[kind]
        hint = np.where(by_lot, random.integers(DIGITS, size=ROWS), answer)
        tokens = np.column_stack([questions(one, other, hint), FIRST_DIGIT + answer])
        weight = np.zeros(tokens.shape, dtype=np.float32)
        weight[:, -1] = 1
        return [Block(tokens, weight, np.zeros(0, dtype=np.int64), 0)]

    return draw


def make(kind: str, seed: int) -> LlamaForCausalLM:
    """A trained model of a kind in RIGHT."""
    model = make_model(WORDS, SHAPE, seed=seed)
    train(model, batches(kind, seed), SCHEDULE, first_year=0, report=lambda step, loss: None, compiled=False)
    return model.eval().requires_grad_(False)


def open_model(kind: str, seed: int, kept: Path) -> Model:
    """The model of a kind and seed, trained unless the folder `kept` has it already."""
    folder = kept / f"{kind}-{seed}"
    if not folder.exists():
        beside = kept / f".{folder.name}.{os.getpid()}"  # whole or not at all, whatever ends the process
        make(kind, seed).save_pretrained(beside)
        beside.replace(folder)
    return load_model(folder)


def answers(model: Model, rows: Int[np.ndarray, "row pos"]) -> Int[np.ndarray, "row"]:
    """The digit that a model answers to each question."""
    logits, _ = model.run(torch.from_numpy(rows))
    return logits[:, -1, FIRST_DIGIT : FIRST_DIGIT + DIGITS].argmax(-1).numpy()
