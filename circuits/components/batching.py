"""How many pairs may be scored at a time, so that what they take stays within so many bytes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from circuits.components.edge_scores import NUMBERS, loss_of, read_logits
from circuits.components.metrics import Metric
from circuits.components.pairs import Pairs
from circuits.components.transformer import Transformer
from circuits.errors import BadOption
from circuits.sizes import size_in_words

RUNS = 4  # alive at once, beside what autograd remembers: clean, corrupted, gradients, and one in the making
MOST = 1024


def fit_batch(transformer: Transformer, pairs: Sequence[Pairs], metric: Metric, memory: float) -> int:
    """The largest batch whose scoring takes no more than `memory` bytes beside the model's weights.

    Measured on one pair of the longest: what autograd remembers of its run, and the runs that are held beside it.

    Raises:
        BadOption: one pair takes more.
    """
    one = next(max(pairs, key=lambda each: each.clean.shape[1]).split(1))
    two = Pairs(**{name: column.repeat(2, *[1] * (column.dim() - 1)) for name, column in vars(one).items()})
    each = _bytes_of(transformer, two, metric) - _bytes_of(transformer, one, metric)  # the weights are in both
    fixed = 3 * NUMBERS * transformer.W_E.element_size()  # what `score_edges` lays out at once
    batch = int((memory - fixed) // each)
    if batch < 1:
        raise BadOption(
            f"one pair of {one.clean.shape[1]} tokens takes about {size_in_words(each + fixed)}, "
            f"{size_in_words(memory)} are allowed: give more memory, or shorter prompts."
        )
    return min(batch, MOST)


def _bytes_of(transformer: Transformer, pairs: Pairs, metric: Metric) -> int:
    """What autograd remembers, weights included, and what the runs beside it hold."""
    remembered: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        remembered[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        run = transformer.run(transformer.embed(pairs.clean).requires_grad_())
        logits = read_logits(transformer, run.after, pairs)
        loss_of(transformer, logits, pairs, metric, logits.detach())
    held = sum(each.nbytes for column in vars(run).values() if isinstance(column, list) for each in column)
    return sum(remembered.values()) + RUNS * held
