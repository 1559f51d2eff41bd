"""The features that stand for a state at the last word of a two-hop question."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import LlamaForCausalLM

from benchmarks.world.language import Language
from benchmarks.world.prompts import Prompt
from benchmarks.world.running import mlps, questions
from circuits.transcoders.teachers import recorded
from circuits.transcoders.trained import Trained

FIRES, ELSEWHERE = 0.5, 0.1
"""A state's feature fires on at least half of its prompts, and on at most a tenth of the others."""

BEFORE_LOOK_UP = (0, 1, 2)
"""The layers in which a state counts as an intermediate result: the last one looks up the answer."""


@dataclass(frozen=True, eq=False)
class StateFeatures:
    """Which features belong to which state, and how strong they are when it is asked about.

    mask: layer by layer. [state feature]
    mean: mean activation over the state's prompts, layer by layer. [state feature]
    """

    mask: tuple[Bool[Tensor, "state feature"], ...]
    mean: tuple[Float[Tensor, "state feature"], ...]

    @property
    def per_state(self) -> float:
        """How many features a state has, on average over states."""
        return float(sum(mask.sum(1) for mask in self.mask).float().mean())


@torch.no_grad()
def last_activations(
    model: LlamaForCausalLM, transcoders: Trained, language: Language, prompts: Sequence[Prompt]
) -> list[Float[Tensor, "row feature"]]:
    """The activations of every layer at the last word of each question."""
    tokens, last = questions(language, prompts)
    with recorded(mlps(model)) as (inputs, _):
        model(input_ids=tokens)
        rows = torch.arange(len(tokens))
        return [transcoders.encode(x[rows, last], layer) for layer, x in enumerate(inputs)]


def find(
    model: LlamaForCausalLM,
    transcoders: Trained,
    language: Language,
    prompts: Sequence[Prompt],
    *,
    layers: Sequence[int] = BEFORE_LOOK_UP,
) -> StateFeatures:
    """Every state's features, from these prompts alone."""
    active = last_activations(model, transcoders, language, prompts)
    about = _about(language, prompts)
    masks, means = [], []
    for layer, columns in enumerate(active):
        fires = (columns > 0).float()
        own = about @ fires / about.sum(1, keepdim=True)
        others = (1 - about) @ fires / (1 - about).sum(1, keepdim=True)
        chosen = (own >= FIRES) & (others <= ELSEWHERE)
        masks.append(chosen if layer in layers else torch.zeros_like(chosen))
        means.append(about @ columns / about.sum(1, keepdim=True))
    return StateFeatures(tuple(masks), tuple(means))


def best_f1(
    model: LlamaForCausalLM,
    transcoders: Trained,
    language: Language,
    chosen_on: Sequence[Prompt],
    measured_on: Sequence[Prompt],
) -> tuple[Float[np.ndarray, "state"], Float[np.ndarray, "state"]]:
    """For each state the F1 of its best feature, on the prompts it was chosen on and on others.

    F1 is that of "fires" as a guess of "the question is about this state". Choosing the best of
    thousands flatters the first figure, not the second. NaN for a state the others do not ask about.
    """
    scores = [_f1(model, transcoders, language, prompts) for prompts in (chosen_on, measured_on)]
    best = scores[0].argmax(1)
    states = np.arange(len(best))
    return scores[0][states, best], scores[1][states, best]


def _f1(
    model: LlamaForCausalLM, transcoders: Trained, language: Language, prompts: Sequence[Prompt]
) -> Float[np.ndarray, "state feature"]:
    """All layers side by side."""
    fires = (torch.cat(last_activations(model, transcoders, language, prompts), dim=1) > 0).float()
    about = _about(language, prompts)
    both = about @ fires
    f1 = 2 * both / (about.sum(1, keepdim=True) + fires.sum(0)).clamp(min=1)
    f1[about.sum(1) == 0] = float("nan")
    return f1.numpy()


def _about(language: Language, prompts: Sequence[Prompt]) -> Float[Tensor, "state row"]:
    """1 where the question is about the state."""
    numbers = torch.tensor([language.states.index(prompt.state) for prompt in prompts])
    return (torch.arange(len(language.states))[:, None] == numbers).float()
