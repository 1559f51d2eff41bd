"""The bare model run on prompts, with the outputs of its MLPs read or overwritten at will."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from benchmarks.world.language import PAD, Language
from benchmarks.world.prompts import Prompt

Change = Callable[[int, Tensor, Tensor], Tensor]
"""(layer, input, output) of an MLP -> the output to go on with. [row pos d]"""


def mlps(model: LlamaForCausalLM) -> list[nn.Module]:
    return [layer.mlp for layer in model.model.layers]


def questions(
    language: Language, prompts: Sequence[Prompt], *, answered: bool = False
) -> tuple[Int[Tensor, "row pos"], Int[Tensor, "row"]]:
    """Token ids padded on the right, and where the last word of each question is.

    answered: the answers follow, for families whose answer is several words.
    """
    lines = [language.ids(p.words + (p.answers if answered else ())) for p in prompts]
    tokens = torch.full((len(lines), max(map(len, lines))), PAD)
    for row, line in enumerate(lines):
        tokens[row, : len(line)] = torch.tensor(line)
    return tokens, torch.tensor([len(p.words) for p in prompts])


@torch.no_grad()
def answer_logits(model: LlamaForCausalLM, tokens: Tensor, last: Tensor) -> Float[Tensor, "row word"]:
    """The logits after the last word of each question."""
    return model(input_ids=tokens).logits[torch.arange(len(tokens)), last].float()


@contextmanager
def changed(model: LlamaForCausalLM, change: Change) -> Iterator[None]:
    """Every MLP's output passes through `change`."""

    def hook(layer: int) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        return lambda _, args, output: change(layer, args[0], output)

    handles = [mlp.register_forward_hook(hook(layer)) for layer, mlp in enumerate(mlps(model))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
