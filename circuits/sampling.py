"""The model's own prompts: text it samples itself, for averages that must come from somewhere."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.model import Model
from circuits.progress import Progress
from circuits.transcoders.base import Dictionary
from circuits.transcoders.with_attention import attention_of

NUMBERS = 2**24  # in the largest tensors of a chunk of prompts: memory does not grow with their count


@torch.no_grad()
def sample_prompts(
    model: Model, first: int, *, count: int, length: int, seed: int, progress: Progress | None = None
) -> Int[Tensor, "prompt pos"]:
    """Token ids that the model samples at temperature 1 after one given token, the same for the same seed.

    A model that looks both ways says no next token: its prompts are tokens drawn at random, all alike likely.

    Chance is drawn on the CPU, one number a token, and looked up in the cumulative distribution: the device, and how
    many prompts are sampled at once, make no difference.

    progress: called with (what is being done, tokens done, tokens in all).
    """
    chance = torch.rand(count, length - 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if not model.causal:
        said = torch.full((count, 1), first, dtype=torch.int64)
        return torch.cat([said, (chance * model.vocabulary).long()], dim=1).to(model.device)
    done, parts = 0, []
    for drawn in chance.split(_at_once(model, length, model.vocabulary)):
        past, said = model.remember(), torch.full((len(drawn), 1), first, device=model.device)
        tokens = [said]
        for each in drawn.T:
            logits, _ = model.run(said, past=past)
            cumulative = model.probabilities(logits[:, -1].double()).cumsum(-1)
            reached = each.to(model.device)[:, None] * cumulative[:, -1:]
            said = torch.searchsorted(cumulative, reached, right=True).clamp_max(model.vocabulary - 1)
            tokens.append(said)
            done += len(drawn)
            if progress is not None:
                progress("sampling the model's own prompts", done, chance.numel())
        parts.append(torch.cat(tokens, dim=1))
    return torch.cat(parts)


def mean_activations(
    model: Model, dictionary: Dictionary, prompts: Int[Tensor, "prompt pos"]
) -> list[Float[Tensor, "_"]]:
    """Each unit's mean activation over all positions of these prompts that its dictionary covers, per layer.

    Those of replaced attention come after those of the layer's MLP, over the same positions.
    """
    silent = [dictionary.at(layer).silent_positions for layer in range(model.layers)]
    sums: list[Tensor] = []
    for acts in _activations(model, dictionary, prompts):
        here = [each[:, first:].flatten(0, 1).sum(0) for each, first in zip(acts, silent, strict=True)]
        sums = [old + new for old, new in zip(sums, here, strict=True)] if sums else here
    covered = [len(prompts) * max(prompts.shape[1] - first, 0) for first in silent]
    return [each / max(count, 1) for each, count in zip(sums, covered, strict=True)]


def activations_on(model: Model, dictionary: Dictionary, prompt: Int[Tensor, "pos"]) -> list[Float[Tensor, "pos _"]]:
    """Every unit's activation at each position of one prompt, per layer; those of replaced attention come last."""
    return [each[0] for each in next(_activations(model, dictionary, prompt[None]))]


@torch.no_grad()
def _activations(
    model: Model, dictionary: Dictionary, prompts: Int[Tensor, "prompt pos"]
) -> Iterator[list[Float[Tensor, "prompt pos _"]]]:
    """Every unit's activation on some of the prompts at a time, per layer."""
    stands_in = [dictionary.at(layer) for layer in range(model.layers)]
    units, length = sum(here.units for here in stands_in), prompts.shape[1]
    sites = [(here.reads, layer) for layer, here in enumerate(stands_in)]
    attention = attention_of(dictionary)
    attended = [] if attention is None else [(attention.reads, layer) for layer in attention.numbers]
    units += 0 if attention is None else attention.units * len(attended)
    for some in prompts.split(_at_once(model, length, length * max(model.vocabulary, units))):
        _, seen = model.run(some, read=[*sites, *attended])
        found = [dictionary.activations(layer, seen[(site, layer)]) for site, layer in sites]
        for site, layer in attended:
            assert attention is not None
            found[layer] = torch.cat([found[layer], attention.activations(layer, seen[(site, layer)])], dim=-1)
        yield found


def _at_once(model: Model, length: int, numbers: int) -> int:
    """Prompts in one chunk, when each needs so many numbers besides its keys, values and attention patterns."""
    patterns = model.heads * length * length
    return max(1, NUMBERS // max(numbers, patterns, 2 * model.layers * length * model.d_model))
