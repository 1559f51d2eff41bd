"""METRICS: what a circuit must keep, one number for each pair of prompts; larger is more of the right answer.

A metric takes the logits where the answer is read, the pairs, those of the clean run, and what turns logits into log
probabilities (after any soft cap of the model). One of your own with the same four arguments does as well.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from circuits.components.pairs import Pairs

Metric = Callable[[Tensor, Pairs, Tensor, Callable[[Tensor], Tensor]], Tensor]


def _of(values: Float[Tensor, "pair vocab"], answers: Tensor) -> Float[Tensor, "pair"]:
    return values.gather(-1, answers[:, None])[:, 0]


def logit_difference(logits: Tensor, pairs: Pairs, clean: Tensor, say: Callable[[Tensor], Tensor]) -> Tensor:
    """Logit of the right answer less that of the wrong one, before any soft cap. [pair], logits."""
    return _of(logits, pairs.right) - _of(logits, pairs.wrong)


def probability_difference(logits: Tensor, pairs: Pairs, clean: Tensor, say: Callable[[Tensor], Tensor]) -> Tensor:
    """Probability of the right answer less that of the wrong one. [pair]"""
    said = say(logits).exp()
    return _of(said, pairs.right) - _of(said, pairs.wrong)


def log_probability(logits: Tensor, pairs: Pairs, clean: Tensor, say: Callable[[Tensor], Tensor]) -> Tensor:
    """Log probability of the right answer: minus the cross entropy. [pair], nats."""
    return _of(say(logits), pairs.right)


def divergence(logits: Tensor, pairs: Pairs, clean: Tensor, say: Callable[[Tensor], Tensor]) -> Tensor:
    """Minus KL(clean || these). [pair], nats. At the clean run its gradient is zero."""
    wanted = say(clean)
    return -(wanted.exp() * (wanted - say(logits))).sum(-1)


METRICS: dict[str, Metric] = {
    "logit-difference": logit_difference,
    "probability-difference": probability_difference,
    "log-probability": log_probability,
    "cross-entropy": log_probability,  # the same: like kl it is given with its sign turned
    "kl": divergence,
}
