"""ABLATIONS: what takes the place of what components write, outside a circuit.

    resample           what they write on the corrupted prompt
    zero               nothing
    mean               their mean over all positions of all corrupted prompts
    mean-by-position   their mean at each position, over the corrupted prompts of the same length
    optimal            for each component the constant that changes the clean run least: optimal_constants.py

Where heads are taken apart (`apart`), their queries, keys and values are components too; where MLPs are taken apart
into `neurons`, it is these that are ablated, and the MLP writes what comes of that.

The ablation is part of a claim: circuits that stand under one fall under another. It is prepared once from all pairs,
and then gives for some of them the run in which every component writes what takes its place.

Source: Wang et al. 2022 (means), Li & Janson 2024 (optimal); METHODS section 8.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from circuits.components.held_runs import HELD, hold, spread
from circuits.components.optimal_constants import fit_constants
from circuits.components.pairs import Pairs
from circuits.components.transformer import Run, Transformer
from circuits.progress import Progress

Ablation = Callable[..., Run]  # (transformer, pairs, *, neurons=False); neurons: these are kept in the run as well
Values = dict[str, list[Tensor]]  # "input", the token embedding, and each of HELD: one tensor a layer
AT_ONCE = 2**12  # positions of all pairs that run at once while means are taken


def resample(transformer: Transformer, pairs: Pairs, *, neurons: bool = False) -> Run:
    """The corrupted prompts' own run."""
    return transformer.run(transformer.embed(pairs.corrupted), neurons=neurons)


def _resample(
    transformer: Transformer, pairs: Sequence[Pairs], progress: Progress, *, apart: bool = False, neurons: bool = False
) -> Ablation:
    return resample


def _zero(
    transformer: Transformer, pairs: Sequence[Pairs], progress: Progress, *, apart: bool = False, neurons: bool = False
) -> Ablation:
    means = mean_values(transformer, list(pairs[0].split(1))[:1])
    zeros = {name: [torch.zeros_like(each) for each in column] for name, column in means.items()}
    return constants(zeros, neurons=neurons)


def _mean(
    transformer: Transformer, pairs: Sequence[Pairs], progress: Progress, *, apart: bool = False, neurons: bool = False
) -> Ablation:
    return constants(mean_values(transformer, pairs), neurons=neurons)


def _mean_by_position(
    transformer: Transformer, pairs: Sequence[Pairs], progress: Progress, *, apart: bool = False, neurons: bool = False
) -> Ablation:
    alike: dict[int, list[Pairs]] = {}
    for each in pairs:
        alike.setdefault(each.clean.shape[1], []).append(each)
    means = {at: mean_values(transformer, those, together=False) for at, those in alike.items()}
    by_length = {at: constants(values, neurons=neurons) for at, values in means.items()}

    def ablate(transformer: Transformer, pairs: Pairs, *, neurons: bool = False) -> Run:
        return by_length[pairs.clean.shape[1]](transformer, pairs)

    return ablate


def _optimal(
    transformer: Transformer, pairs: Sequence[Pairs], progress: Progress, *, apart: bool = False, neurons: bool = False
) -> Ablation:
    means = mean_values(transformer, pairs)
    fitted = fit_constants(transformer, pairs, means, progress, apart=apart, neurons=neurons)
    return constants(means | fitted, neurons=neurons)


@torch.no_grad()
def mean_values(transformer: Transformer, pairs: Sequence[Pairs], *, together: bool = True) -> Values:
    """The mean of what everything writes on the corrupted prompts. [head pos d_head] or [pos d]

    together: over all positions, so that there is one; else position by position, and all pairs are equally long.
    """
    sums: Values = {}
    rows = 0
    for each in pairs:
        length = each.clean.shape[1]
        for few in each.split(max(1, AT_ONCE // length)):
            embedding = transformer.embed(few.corrupted)
            run = transformer.run(embedding, neurons=True)
            for name, column in ({"input": [embedding]} | {name: getattr(run, name) for name in HELD}).items():
                parts = [part.double().sum(0) for part in column]
                parts = [part.sum(-2, keepdim=True) for part in parts] if together else parts
                before = sums.get(name, [part.new_zeros(()) for part in parts])
                sums[name] = [one + other for one, other in zip(before, parts, strict=True)]
            rows += len(few) * (length if together else 1)
    return {name: [(part / rows).to(transformer.W_E) for part in column] for name, column in sums.items()}


def constants(values: Values, *, neurons: bool = False) -> Ablation:
    """The ablation that puts the same values everywhere; learned positions and the biases of attention stay.

    neurons: MLPs write what the values of their neurons give, or features and errors, not what is told of them.
    """
    from_neurons = neurons

    def ablate(transformer: Transformer, pairs: Pairs, *, neurons: bool = False) -> Run:
        count, length = pairs.clean.shape
        told = {name: [spread(each, count, length) for each in column] for name, column in values.items()}
        if from_neurons:
            units = zip(told["neurons"], told["features"], told["errors"], strict=True)
            told["mlp"] = [layer.write_units(*each) for layer, each in zip(transformer.layers, units, strict=True)]
        return hold(transformer, transformer.begin(told["input"][0]), told)

    return ablate


# (transformer, all pairs, progress, *, apart, neurons)
ABLATIONS: dict[str, Callable[..., Ablation]] = {
    "resample": _resample,
    "zero": _zero,
    "mean": _mean,
    "mean-by-position": _mean_by_position,
    "optimal": _optimal,
}
