"""What is to be explained: the likeliest tokens, tokens of the user's choice, or the contrast of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import BadOption, BadTarget
from circuits.model import Model
from circuits.numbers import is_number, is_whole
from graphs.wording import visible

Target = str | int | tuple[str | int, str | int]


@dataclass(frozen=True, eq=False)
class Goal:
    """Directions in the vocabulary, read at the last position, and how much each counts.

    right: the token each target is for. wrong: the token it is held against, -1 for the mean of all. [target]
    weight: its share of what is explained. probability: what the model gives `right`. [target]
    labels: what a person reads. [target]
    """

    right: list[int]
    wrong: list[int]
    weight: list[float]
    probability: list[float]
    labels: list[str]

    def directions(self, unembedding: Float[Tensor, "d_model vocab"]) -> Float[Tensor, "target d_model"]:
        """Columns of the demeaned unembedding (or its bias, as a matrix of one row): right minus wrong."""
        found = unembedding[:, self.right].T.clone()
        for row, wrong in enumerate(self.wrong):
            if wrong >= 0:
                found[row] -= unembedding[:, wrong]
        return found


def choose_goal(
    model: Model,
    logits: Float[Tensor, "vocab"],
    targets: Sequence[Target] | None = None,
    *,
    max_logits: int = 10,
    logit_mass: float = 0.95,
) -> Goal:
    """The goal for these last-position logits.

    targets: None for the likeliest tokens, as many as reach `logit_mass` of the probability, `max_logits` at most;
        else tokens (text or id), or pairs (right, wrong): the logit of right minus the logit of wrong.

    Tokens chosen by the model count by their probability, those chosen by the user count the same.

    Raises:
        BadTarget: a target is not one token, or a pair holds one token twice. BadOption: a number out of range.
    """
    probabilities = model.probabilities(logits)
    if targets is None:
        if not is_whole(max_logits) or max_logits < 1 or not is_number(logit_mass) or not 0 < logit_mass <= 1:
            raise BadOption(f"max_logits ≥ 1 and 0 < logit_mass ≤ 1 are wanted, found {max_logits} and {logit_mass}.")
        best = torch.topk(probabilities, min(max_logits, len(probabilities)))
        before = best.values.cumsum(0) - best.values
        count = int((before < logit_mass).sum())
        right = best.indices[:count].tolist()
        weight = best.values[:count].tolist()
        wrong = [-1] * count
    else:
        if not isinstance(targets, list | tuple) or not targets:
            raise BadTarget(f"targets must be a list of tokens or of (right, wrong) pairs, found {targets!r}.")
        pairs = [_pair(model, target, logits) for target in targets]
        if len(set(pairs)) < len(pairs):
            raise BadTarget(f"a target is given twice in {list(targets)!r}: name each once.")
        right = [pair[0] for pair in pairs]
        wrong = [pair[1] for pair in pairs]
        weight = [1 / len(pairs)] * len(pairs)
    labels = model.texts(right)
    against = model.texts([max(token, 0) for token in wrong])
    return Goal(
        right,
        wrong,
        weight,
        probabilities[right].tolist(),
        [r if w < 0 else f"{visible(r)} − {visible(a)}" for r, w, a in zip(labels, wrong, against, strict=True)],
    )


def _pair(model: Model, target: Target, logits: Float[Tensor, "vocab"]) -> tuple[int, int]:
    if isinstance(target, tuple):
        if len(target) != 2:
            raise BadTarget(f"a contrast is a pair (right, wrong), found {target!r}.")
        right, wrong = (_token(model, each, logits) for each in target)
        if right == wrong:
            raise BadTarget(f"both sides of the contrast {target!r} are the same token.")
        return right, wrong
    return _token(model, target, logits), -1


def _token(model: Model, target: str | int, logits: Float[Tensor, "vocab"]) -> int:
    if isinstance(target, str):
        return model.token(target, logits)
    if not is_whole(target):
        raise BadTarget(f"a target is a token's text or id, or a tuple (right, wrong) of two; found {target!r}.")
    if not 0 <= target < model.vocabulary:
        raise BadTarget(f"token ids of {model.name} run from 0 to {model.vocabulary - 1}, found {target}.")
    return int(target)
