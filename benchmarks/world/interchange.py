"""Does the answer of a two-hop question pass through the MLPs at its last word?

The MLP outputs there are exchanged for those of another question, about a city of another state.
If a node for the state is written there, the answer becomes that of the other state.
Source: interchange interventions, Geiger et al. 2021, "Causal Abstractions of Neural Networks".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaForCausalLM

from benchmarks.world.language import Language
from benchmarks.world.prompts import Prompt
from benchmarks.world.running import answer_logits, changed, questions


@dataclass(frozen=True)
class Followed:
    """What share of answers followed the donor, stayed, and how many pairs were asked."""

    donor: float
    kept: float
    pairs: int


def pairs_of(prompts: Sequence[Prompt], *, count: int, seed: int) -> list[tuple[Prompt, Prompt]]:
    """Questions with the same attribute about different states, whose answers differ."""
    random = np.random.default_rng(seed)
    found: list[tuple[Prompt, Prompt]] = []
    by_attribute: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_attribute.setdefault(prompt.attribute, []).append(prompt)
    while len(found) < count:
        prompt = prompts[random.integers(len(prompts))]
        others = by_attribute[prompt.attribute]
        donor = others[random.integers(len(others))]
        if donor.answers != prompt.answers:
            found.append((prompt, donor))
    return found


def interchange(
    model: LlamaForCausalLM, language: Language, pairs: Sequence[tuple[Prompt, Prompt]], layers: Sequence[int]
) -> Followed:
    """Exchange the MLP outputs of these layers at the last word."""
    taken = last_outputs(model, language, [donor for _, donor in pairs])
    tokens, last = questions(language, [prompt for prompt, _ in pairs])
    rows = torch.arange(len(tokens))

    def change(layer: int, _: Tensor, output: Tensor) -> Tensor:
        if layer not in layers:
            return output
        output = output.clone()
        output[rows, last] = taken[layer]
        return output

    with changed(model, change):
        guess = answer_logits(model, tokens, last).argmax(-1)
    return follow(language, pairs, guess)


def last_outputs(
    model: LlamaForCausalLM, language: Language, prompts: Sequence[Prompt]
) -> list[Float[Tensor, "row d"]]:
    """Every MLP's output at the last word of each question."""
    tokens, last = questions(language, prompts)
    taken: list[Tensor] = []

    def look(_layer: int, _: Tensor, output: Tensor) -> Tensor:
        taken.append(output[torch.arange(len(tokens)), last])
        return output

    with changed(model, look):
        answer_logits(model, tokens, last)
    return taken


def follow(language: Language, pairs: Sequence[tuple[Prompt, Prompt]], guess: Tensor) -> Followed:
    """Compare what was answered with the donor's answer and with the prompt's own."""
    own = torch.tensor([language.index[prompt.answers[0]] for prompt, _ in pairs])
    other = torch.tensor([language.index[donor.answers[0]] for _, donor in pairs])
    return Followed(float((guess == other).float().mean()), float((guess == own).float().mean()), len(pairs))
