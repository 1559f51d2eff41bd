"""The model's own prompts: text it samples itself, for averages that must come from somewhere."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.model import Model
from circuits.transcoders.base import Dictionary


@torch.no_grad()
def sample_prompts(model: Model, first: int, *, count: int, length: int, seed: int) -> Int[Tensor, "prompt pos"]:
    """Token ids that the model samples at temperature 1 after one given token, the same for the same seed."""
    numbers = torch.Generator().manual_seed(seed)
    tokens = torch.full((count, 1), first, device=model.device)
    for _ in range(length - 1):
        logits, _ = model.run(tokens)
        said = torch.multinomial(model.probabilities(logits[:, -1]).float().cpu(), 1, generator=numbers)
        tokens = torch.cat([tokens, said.to(model.device)], dim=1)
    return tokens


@torch.no_grad()
def mean_activations(
    model: Model, dictionary: Dictionary, prompts: Int[Tensor, "prompt pos"]
) -> list[Float[Tensor, "unit"]]:
    """Each unit's mean activation over all positions of these prompts that its dictionary covers, per layer."""
    layers = range(model.layers)
    _, seen = model.run(prompts, read=[(dictionary.reads, layer) for layer in layers])
    start = dictionary.silent_positions
    return [
        dictionary.activations(layer, seen[(dictionary.reads, layer)][:, start:]).flatten(0, 1).mean(0)
        for layer in layers
    ]
