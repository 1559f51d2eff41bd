"""Batches of the world in the form that the training of transcoders asks for."""

from collections.abc import Callable

import torch

from benchmarks.world.batches import sampler
from benchmarks.world.language import BOS, PAD, Language
from benchmarks.world.prompts import Prompt
from circuits.transcoders.scaling import Batch


def imitator(
    language: Language, prompts: dict[str, list[Prompt]], *, seed: int, scale: float = 0.67, device: str = "cpu"
) -> Callable[[], list[Batch]]:
    """A function that draws batches, prompts the model never saw among them: nothing but the model is imitated.

    The long block is doubled: random words are a quarter of what is measured, and the hardest to match.
    A position whose next word is an answer counts twice for matching outputs, and five times
    as much as others for imitating answers.
    """
    draw = sampler(language, prompts, seed=seed, scale=scale, long=2.0, unseen=True)

    def batches() -> list[Batch]:
        made = []
        for block in draw():
            tokens = torch.from_numpy(block.tokens[:, :-1])
            real = (tokens != PAD) & (tokens != BOS)
            before_answer = torch.from_numpy(block.weight[:, 1:] == 1)
            weight = real.float() * (1 + before_answer)
            answer_weight = real * (0.2 + 0.8 * before_answer)
            made.append(Batch(tokens.to(device), weight.to(device), answer_weight.to(device)))
        return made

    return batches
