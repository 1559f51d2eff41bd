"""What a model says of a task: how often it is right, and by how much, on clean prompts and on corrupted ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.components.pairs import Pairs, gather
from circuits.model import Model

BATCH = 64


@dataclass(frozen=True)
class Answers:
    """Over some pairs: the share whose right answer is likelier than every other token, than the wrong one, and the
    mean difference of their logits on the clean and on the corrupted prompt."""

    first: float
    above: float
    clean: float
    corrupted: float


def ask(model: Model, lines: Sequence[dict[str, Any]]) -> Answers:
    """What the model answers to some of a task's pairs."""
    columns = [_ask(model, some) for pairs in gather(model, _named(lines)) for some in pairs.split(BATCH)]
    first, clean, corrupted = (torch.cat(column).double() for column in zip(*columns, strict=True))
    above = (clean > 0).double()
    return Answers(*(float(each.mean()) for each in (first, above, clean, corrupted)))


def _ask(model: Model, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    clean, corrupted = (_last(model, tokens, pairs.position) for tokens in (pairs.clean, pairs.corrupted))
    rows = torch.arange(len(pairs), device=clean.device)
    first = clean.argmax(-1) == pairs.right
    differences = [logits[rows, pairs.right] - logits[rows, pairs.wrong] for logits in (clean, corrupted)]
    return first, differences[0], differences[1]


def _last(model: Model, tokens: Int[Tensor, "pair pos"], position: Int[Tensor, "pair"]) -> Float[Tensor, "pair vocab"]:
    logits, _ = model.run(tokens)
    return logits[torch.arange(len(tokens), device=logits.device), position]


def _named(lines: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"pair {number}", line) for number, line in enumerate(lines, start=1)]
