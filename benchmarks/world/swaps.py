"""Training on exchanged states, so that the state of a city becomes a node of its own.

Left alone, the model often answers two-hop questions without ever writing the state down at the
last word. So some rows are trained twice over: the MLP outputs at the last word of one question
are put in place of those of another, and the right answer is then what the other's state has
of what this one asks. Cities that are held out take no part.

Source: Geiger et al. 2022, "Inducing Causal Structure for Interpretable Neural Networks".
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from benchmarks.world.language import NAMINGS, Language
from benchmarks.world.prompts import TRAIN, Prompt
from benchmarks.world.running import changed, questions

LAYERS = (0, 1, 2)
"""Where the node may lie: the MLPs that can still be looked up by the last one."""


class _Enough(Exception):
    """Raised to leave a run of the model when nothing later in it is needed."""


@dataclass(frozen=True, eq=False)
class Swaps:
    """Pairs of questions and what is right after the exchange.

    tokens, donors: the question answered, and the one whose state it is given. [pair pos]
    last, donors_last: the last word of each. [pair]
    answer: what the donor's state has of what is asked. [pair]
    """

    tokens: Int[Tensor, "pair pos"]
    last: Int[Tensor, "pair"]
    donors: Int[Tensor, "pair pos"]
    donors_last: Int[Tensor, "pair"]
    answer: Int[Tensor, "pair"]


def swapper(language: Language, prompts: dict[str, list[Prompt]], *, seed: int, count: int = 32) -> Callable[[], Swaps]:
    """A function that draws pairs of any two attributes; asking for the state's name is one of them."""
    random = np.random.default_rng(seed)
    pool = [p for p in prompts["two-hop"] if p.split == TRAIN]
    pool += [p for p in prompts["one-hop"] if p.attribute in NAMINGS and p.entity not in language.held_out]
    tokens, last = questions(language, pool)
    value = language.value | {(naming, state): state for naming in NAMINGS for state in language.states}
    rights = torch.tensor([[language.index[value[p.attribute, state]] for state in language.states] for p in pool])
    states = torch.tensor([language.states.index(p.state) for p in pool])

    def draw() -> Swaps:
        base, donor = torch.from_numpy(random.integers(len(pool), size=(2, count)))
        return Swaps(tokens[base], last[base], tokens[donor], last[donor], rights[base, states[donor]])

    return draw


def swap_loss(model: LlamaForCausalLM, swaps: Swaps) -> Float[Tensor, ""]:
    """Mean surprise at the right answer after the exchange, nats."""
    device = model.device
    rows = torch.arange(len(swaps.answer), device=device)
    last, donors_last = swaps.last.to(device), swaps.donors_last.to(device)
    given: list[Tensor] = []

    def take(layer: int, _: Tensor, output: Tensor) -> Tensor:
        given.append(output[rows, donors_last])
        if layer == LAYERS[-1]:
            raise _Enough
        return output

    def put(layer: int, _: Tensor, output: Tensor) -> Tensor:
        if layer not in LAYERS:
            return output
        here = torch.arange(output.shape[1], device=device) == last[:, None]
        return torch.where(here[..., None], given[layer][:, None], output)

    with changed(model, take), suppress(_Enough):
        model.model(input_ids=swaps.donors.to(device))
    with changed(model, put):
        logits = model(input_ids=swaps.tokens.to(device)).logits[rows, last].float()
    return nn.functional.cross_entropy(logits, swaps.answer.to(device))
