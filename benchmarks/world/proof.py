"""The state's features are exchanged at the last word: does the answer become the other state's?

Features and their strengths come from cities that two-hop questions were trained on; what is
asked here is about cities that they were not. The state's own features are set to zero, the
donor state's to DOSE times their mean, live: a later layer sees what the earlier ones became.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LlamaForCausalLM

from benchmarks.world.interchange import Followed, follow
from benchmarks.world.language import Language
from benchmarks.world.prompts import Prompt
from benchmarks.world.running import answer_logits, changed, questions
from benchmarks.world.states import StateFeatures
from circuits.transcoders.trained import Trained

DOSE = 1.5
"""Fixed before any held-out city was asked about; the card shows other doses beside it."""

Pairs = Sequence[tuple[Prompt, Prompt]]


@dataclass(frozen=True, eq=False)
class Edit:
    """What to do to the features of each pair, layer by layer.

    off: features set to zero. [pair feature]
    on: features set to `value`. [pair feature]
    """

    off: tuple[Tensor, ...]
    on: tuple[Tensor, ...]
    value: tuple[Tensor, ...]


def state_edit(language: Language, features: StateFeatures, pairs: Pairs, *, dose: float = DOSE) -> Edit:
    """Own state off, donor's state on."""
    own, donor = _numbers(language, pairs)
    return Edit(
        tuple(mask[own] for mask in features.mask),
        tuple(mask[donor] for mask in features.mask),
        tuple(dose * mean[donor] for mean in features.mean),
    )


def other_state_edit(
    language: Language, features: StateFeatures, pairs: Pairs, *, seed: int, dose: float = DOSE
) -> Edit:
    """A control: the same with two states drawn by lot that are not the donor's; now and then one is the pair's own."""
    _, donor = _numbers(language, pairs)
    generator = torch.Generator().manual_seed(seed)
    count = len(language.states)
    third = (donor + torch.randint(1, count, donor.shape, generator=generator)) % count
    fourth = (donor + torch.randint(1, count, donor.shape, generator=generator)) % count
    return Edit(
        tuple(mask[third] for mask in features.mask),
        tuple(mask[fourth] & ~mask[donor] for mask in features.mask),
        tuple(dose * mean[fourth] for mean in features.mean),
    )


def random_edit(
    language: Language,
    features: StateFeatures,
    pairs: Pairs,
    active: Sequence[Float[Tensor, "pair feature"]],
    *,
    seed: int,
    dose: float = DOSE,
) -> Edit:
    """A control: as many random features off and on, with the same values; no state's features are among them.

    active: activations at the last word, so that what is turned off was on where there is enough of it.
    """
    state = state_edit(language, features, pairs, dose=dose)
    generator = torch.Generator().manual_seed(seed)
    off, on, value = [], [], []
    for layer, mask in enumerate(features.mask):
        free = ~mask.any(0)
        noise = torch.rand(state.on[layer].shape, generator=generator)
        order = (noise * free).argsort(dim=1, descending=True)
        chosen, strength = torch.zeros_like(state.on[layer]), torch.zeros_like(state.value[layer])
        for row in range(len(pairs)):
            values = state.value[layer][row][state.on[layer][row]]
            places = order[row, : len(values)]
            chosen[row, places], strength[row, places] = True, values
        awake = ((active[layer] > 0) * 10 + noise) * free
        last = awake.argsort(dim=1, descending=True).argsort(dim=1)
        off.append((last < state.off[layer].sum(1, keepdim=True)) & free)
        on.append(chosen)
        value.append(strength)
    return Edit(tuple(off), tuple(on), tuple(value))


def swap(
    model: LlamaForCausalLM,
    transcoders: Trained,
    language: Language,
    pairs: Pairs,
    edit: Edit,
    *,
    real: bool,
    at_entity: bool = False,
) -> Followed:
    """How often the answer became the donor's.

    real: in the model itself, where an edit adds its difference to what the MLPs do; else in the
        replaced model, where the features are all there is.
    at_entity: edit at the last word of the city and not at the last word of the question: a control.
    """
    tokens, last = questions(language, [prompt for prompt, _ in pairs])
    place = last - 1 if at_entity else last
    rows = torch.arange(len(tokens))
    before: list[Tensor] = []
    after: list[Tensor] = []

    def change(layer: int, x: Tensor, output: Tensor) -> Tensor:
        if layer == 0:
            before.clear()
            after.clear()
        active = transcoders.encode(x, layer)
        edited = active.clone()
        here = active[rows, place]
        here = torch.where(edit.off[layer], torch.zeros_like(here), here)
        edited[rows, place] = torch.where(edit.on[layer], edit.value[layer], here)
        before.append(active)
        after.append(edited)
        new = transcoders.decode(after, layer)
        if real:
            return output + new - transcoders.decode(before, layer)
        return torch.cat([output[:, :1], new[:, 1:]], dim=1)

    with changed(model, change):
        guess = answer_logits(model, tokens, last).argmax(-1)
    return follow(language, pairs, guess)


@torch.no_grad()
def centroid_control(model: LlamaForCausalLM, language: Language, pairs: Pairs, trained: Sequence[Prompt]) -> Followed:
    """A control: add the donor state's mean city embedding, less the own state's, where the city is named.

    A city of two words takes the sum of its words' embeddings, given half to each.
    """
    table = model.get_input_embeddings().weight
    cities = sorted({prompt.entity for prompt in trained})
    centres = {}
    for state in language.states:
        mine = [_embedding(table, language, city) for city in cities if language.state_of[city] == state]
        centres[state] = torch.stack(mine).mean(0)
    tokens, last = questions(language, [prompt for prompt, _ in pairs])
    embedded = table[tokens].clone()
    for row, (prompt, donor) in enumerate(pairs):
        words = len(prompt.entity.split())
        embedded[row, last[row] - words : last[row]] += (centres[donor.state] - centres[prompt.state]) / words
    logits = model(inputs_embeds=embedded).logits[torch.arange(len(tokens)), last]
    return follow(language, pairs, logits.argmax(-1))


@torch.no_grad()
def embedding_read_out(model: LlamaForCausalLM, language: Language, cities: Sequence[str]) -> float:
    """How often the nearest centroid of the other cities' embeddings names a city's state: leave one out."""
    table = model.get_input_embeddings().weight
    points = torch.stack([_embedding(table, language, city) for city in cities])
    states = [language.state_of[city] for city in cities]
    hits = 0
    for k, state in enumerate(states):
        centres = {}
        for other in set(states):
            rest = [j for j, s in enumerate(states) if s == other and j != k]
            if rest:
                centres[other] = points[rest].mean(0)
        if state in centres:
            hits += min(centres, key=lambda s: float((points[k] - centres[s]).norm())) == state
    return hits / len(cities)


def _embedding(table: Tensor, language: Language, city: str) -> Tensor:
    return table[[language.index[word] for word in city.split()]].sum(0)


def _numbers(language: Language, pairs: Pairs) -> tuple[Int[Tensor, "pair"], Int[Tensor, "pair"]]:
    """The numbers of the pairs' own states and of the donors' states."""
    own = torch.tensor([language.states.index(prompt.state) for prompt, _ in pairs])
    donor = torch.tensor([language.states.index(other.state) for _, other in pairs])
    return own, donor
