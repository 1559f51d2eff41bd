"""Two-hop questions of the shipped world with their known step in the middle: the state, at the last word.

The model was trained so that its MLPs write the state there before the answer is looked up (see its card), so a graph
of such a question that is right has features of the state at that word, and exchanging them for another state's makes
the answer that of the other one. Which features those are is found on trained questions about capitals; what is asked
is about cities that no trained two-hop question names.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from benchmarks.world.language import Language, make_language
from benchmarks.world.prompts import TRAIN, Prompt, two_hop
from benchmarks.world.proof import DOSE
from benchmarks.world.states import BEFORE_LOOK_UP, ELSEWHERE, FIRES
from circuits.changes import Intervention, Supernode
from circuits.model import Model
from circuits.transcoders.base import Dictionary
from graphs import AttributionGraph


@dataclass(frozen=True)
class Step:
    """What is worked out on the way, and the units that stand for it.

    name: the state. position: the token at which it is written.
    units: (layer, unit) -> its mean activation over trained questions about the state.
    labels: (layer, unit) -> what the dictionary calls it, as far as it does.
    """

    name: str
    position: int
    units: dict[tuple[int, int], float]
    labels: dict[tuple[int, int], str]

    def scaled(self, factor: float, position: int | None = None) -> Supernode:
        """All its units set to their mean times a factor; 0 takes the step out."""
        at = self.position if position is None else position
        members = (Intervention(layer, at, unit, value=factor * mean) for (layer, unit), mean in self.units.items())
        return Supernode(self.name, tuple(members))

    def rows(self, graph: AttributionGraph) -> Bool[np.ndarray, "node"]:
        """Which nodes of a graph are this step."""
        nodes = graph.nodes
        here = (nodes.kind == "feature") & (nodes.position == self.position)
        mine = [(int(layer), int(unit)) in self.units for layer, unit in zip(nodes.layer, nodes.feature, strict=True)]
        return here & np.array(mine, dtype=bool)


@dataclass(frozen=True)
class Question:
    """A question with its step, and another one, about a city of another state, with its own."""

    prompt: str
    answer: str
    step: Step
    other_prompt: str
    other_answer: str
    other_step: Step

    def exchange(self, dose: float = DOSE) -> tuple[Supernode, Supernode]:
        """Changes under which the answer must become the other one: own state out, the other one in."""
        shared = self.step.units.keys() & self.other_step.units.keys()
        own = {unit: mean for unit, mean in self.step.units.items() if unit not in shared}
        out = Step(self.step.name, self.step.position, own, {})
        return out.scaled(0), self.other_step.scaled(dose, self.step.position)


def two_hop_questions(model: Model, transcoders: Dictionary, *, size: int = 20, seed: int = 0) -> list[Question]:
    """Questions about two-word cities, no city of them in a trained two-hop question, each with another one."""
    language, draw = make_language(), random.Random(seed)
    asked = [prompt for prompt in two_hop(language) if prompt.entity in language.held_out]
    steps = _steps(model, transcoders, language)
    found = []
    for prompt in draw.sample(asked, min(size, len(asked))):
        others = [each for each in asked if each.attribute == prompt.attribute and each.answers != prompt.answers]
        other = draw.choice(others)
        sides = [(each.text, each.answers[0], steps[each.state]) for each in (prompt, other)]
        found.append(Question(*sides[0], *sides[1]))
    return found


@torch.no_grad()
def _steps(model: Model, transcoders: Dictionary, language: Language) -> dict[str, Step]:
    """Every state's units: that fire on at least half of its questions and on at most a tenth of the others."""
    trained = [
        prompt
        for prompt in two_hop(language)
        if prompt.split == TRAIN and prompt.attribute == "capital" and prompt.entity not in language.famous
    ]
    states = np.array([prompt.state for prompt in trained])
    active = _last_activations(model, transcoders, trained)
    units: dict[str, dict[tuple[int, int], float]] = {state: {} for state in language.states}
    for layer, columns in active.items():
        fires = (columns > 0).float()
        for state in language.states:
            own = torch.from_numpy(states == state)
            chosen = (fires[own].mean(0) >= FIRES) & (fires[~own].mean(0) <= ELSEWHERE)
            mean = columns[own].mean(0)
            units[state] |= {(layer, int(unit)): float(mean[unit]) for unit in chosen.nonzero().flatten()}
    last = len(model.tokenize(trained[0].text)) - 1
    return {state: Step(state, last, found, _labels(transcoders, found)) for state, found in units.items()}


def _last_activations(
    model: Model, transcoders: Dictionary, prompts: list[Prompt]
) -> dict[int, Float[Tensor, "prompt unit"]]:
    """What every unit of the layers before the look-up is at the last word; the prompts are equally long."""
    tokens = torch.stack([model.tokenize(prompt.text) for prompt in prompts])
    sites = {layer: (transcoders.at(layer).reads, layer) for layer in BEFORE_LOOK_UP}
    _, seen = model.run(tokens, read=sites.values())
    return {layer: transcoders.activations(layer, seen[site][:, -1]).cpu() for layer, site in sites.items()}


def _labels(transcoders: Dictionary, units: dict[tuple[int, int], float]) -> dict[tuple[int, int], str]:
    notes = {unit: transcoders.notes.get(f"{unit[0]}/{unit[1]}", {}) for unit in units}
    return {unit: note["label"] for unit, note in notes.items() if "label" in note}
