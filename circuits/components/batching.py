"""How many pairs may be run at a time, so that what they take stays within so many bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from circuits.components.edge_scores import NUMBERS, components_of, loss_of, read_logits
from circuits.components.metrics import Metric
from circuits.components.pairs import Pairs
from circuits.components.transformer import Transformer
from circuits.errors import BadOption
from circuits.sizes import size_in_words

CANDIDATES = 2**13  # positions of all pairs and candidates that go on at once, whatever memory there is
RUNS = 4  # alive at once, beside what autograd remembers: clean, corrupted, gradients, and one in the making
INPUTS, STREAMS, LOGITS = 6, 8, 6  # alive at once in the run of a circuit, for each head, beside them, and at the end
MOST = 1024


def fit_batch(
    transformer: Transformer, pairs: Sequence[Pairs], metric: Metric, memory: float, *, neurons: bool = False
) -> int:
    """The largest batch whose scoring takes no more than `memory` bytes beside the model's weights.

    Measured on one pair of the longest: what autograd remembers of its run, and the runs that are held beside it.
    neurons: these hold neurons too, and features with what they miss.

    Raises:
        BadOption: one pair takes more.
    """
    one = next(max(pairs, key=lambda each: each.clean.shape[1]).split(1))
    two = Pairs(**{name: column.repeat(2, *[1] * (column.dim() - 1)) for name, column in vars(one).items()})
    twice, once = (_bytes_remembered(transformer, few, metric, neurons=neurons) for few in (two, one))
    each = twice - once  # the weights are in both
    fixed = 3 * NUMBERS * transformer.W_E.element_size()  # what `score_edges` lays out at once
    batch = int((memory - fixed) // each)
    if batch < 1:
        raise _too_little(one, each + fixed, memory)
    return min(batch, MOST)


@dataclass(frozen=True)
class Room:
    """How a search that tries circuits side by side divides what memory it has.

    batch: pairs at a time. candidates: circuits at a time. keeps: whether all pairs' runs stay while it searches.
    """

    batch: int
    candidates: int
    keeps: bool


def divide(transformer: Transformer, pairs: Sequence[Pairs], memory: float | None = None) -> Room:
    """The room for circuits that are tried side by side, in `memory` bytes beside the model's weights.

    Runs of all pairs are kept where half of it holds them, else they are made anew for every trial.

    Raises:
        BadOption: one pair takes more.
    """
    longest = max(pairs, key=lambda each: each.clean.shape[1])
    length, most = longest.clean.shape[1], max(len(each) for each in pairs)
    if memory is None:
        return Room(most, max(1, CANDIDATES // max(each.clean.numel() for each in pairs)), True)
    each, candidate = bytes_of_circuit(transformer, length)
    runs = 2 * sum(len(some) * _bytes_of_run(transformer, some.clean.shape[1]) for some in pairs)
    keeps = runs <= memory / 2
    free = memory - runs if keeps else memory
    each += 0 if keeps else 2 * _bytes_of_run(transformer, length)
    batch = min(most, int(free // (each + candidate)))
    if batch < 1:
        raise _too_little(longest, each + candidate, memory)
    candidates = min((free - batch * each) // (batch * candidate), CANDIDATES // (batch * length))
    return Room(batch, max(1, int(candidates)), keeps)


def bytes_of_circuit(transformer: Transformer, length: int) -> tuple[int, int]:
    """What the run of a circuit takes for one pair, and for every candidate that is tried on it. Counted, not measured.

    Of either: what every source wrote, the inputs of a layer's heads, their patterns, and the MLP.
    """
    (heads, d_head, d_model), sources = transformer.layers[0].W_O.shape, len(components_of(transformer).sources)
    streams = sources + INPUTS * heads + STREAMS
    numbers = length * (
        streams * d_model + 3 * heads * d_head + INPUTS * (len(transformer.layers[0].W_out) + heads * length)
    )
    size = transformer.W_E.element_size()
    return (numbers + LOGITS * transformer.W_U.shape[1]) * size, numbers * size


@torch.no_grad()
def _bytes_of_run(transformer: Transformer, length: int) -> int:
    """What a run that is held takes for each pair."""
    run = transformer.run(transformer.W_E.new_zeros(1, length, transformer.W_E.shape[1]))
    return sum(each.nbytes for column in vars(run).values() if isinstance(column, list) for each in column)


def _too_little(pairs: Pairs, wanted: float, memory: float) -> BadOption:
    return BadOption(
        f"one pair of {pairs.clean.shape[1]} tokens takes about {size_in_words(wanted)}, "
        f"{size_in_words(memory)} are allowed: give more memory, or shorter prompts."
    )


def _bytes_remembered(transformer: Transformer, pairs: Pairs, metric: Metric, *, neurons: bool) -> int:
    """What autograd remembers, weights included, and what the runs beside it hold."""
    remembered: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        remembered[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        run = transformer.run(transformer.embed(pairs.clean).requires_grad_(), neurons=neurons)
        logits = read_logits(transformer, run.after, pairs)
        loss_of(transformer, logits, pairs, metric, logits.detach())
    held = sum(each.nbytes for column in vars(run).values() if isinstance(column, list) for each in column)
    return sum(remembered.values()) + RUNS * held
