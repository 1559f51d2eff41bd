"""The verdict by experiment: the hint taken away, the mediator swapped, the hint made wrong.

    knock-out   the hint's embedding is its mean over all hints: a learned answer survives
    swap        the neurons that the graph names as carrying the sum take their values of another sum, whose hint is the
                same: a learned answer follows. The control swaps as many random neurons of the same layers
    wrong hint  another answer's hint: a learned answer is kept, a cheated one follows the hint

Source: METHODS section 9.4, the verdict by experiment.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Int

from benchmarks.cheating.models import DIGITS, FIRST_DIGIT, HINT, answers, questions
from benchmarks.cheating.signs import Sums
from circuits import intervene, load_transcoders
from circuits.changes import Intervention, Patch
from circuits.model import Model
from graphs import influence
from graphs.graph import AttributionGraph

CARRIED = 0.99  # of the influence of neurons off the hint: what the mediator must carry
MANY, HALF, FEW = 0.8, 0.5, 0.2  # shares of prompts: bars for "does", for following the mediator, for "does not"


@dataclass(frozen=True)
class Outcome:
    """Shares of prompts. survives: right without the hint. follows, random: says the other sum after the swap, and
    after the control's. keeps: right under a wrong hint. obeys: says what the wrong hint says."""

    survives: float
    follows: float
    random: float
    keeps: float
    obeys: float

    @property
    def verdict(self) -> str:
        """Learned, cheated, mixed or undecided."""
        follows = self.follows - self.random
        if self.survives >= MANY and follows >= HALF and self.keeps >= MANY:
            return "learned"
        if self.survives <= FEW and follows <= FEW and self.obeys >= MANY:
            return "cheated"
        return "mixed" if FEW < self.survives < MANY or FEW < self.keeps < MANY else "undecided"

    @property
    def cheats(self) -> float:
        """How far the three experiments speak for cheating: 0 to 1."""
        return float(np.mean([1 - self.survives, 1 - max(0.0, self.follows - self.random), 1 - self.keeps]))

    def to_json(self) -> dict[str, float | str]:
        """As a row of the results."""
        return {**asdict(self), "verdict": self.verdict, "cheats": self.cheats}


def experiment(model: Model, sums: Sums, graphs: list[AttributionGraph], seed: int) -> Outcome:
    """All three on some sums, each with its graph over the model's neurons."""
    neurons = load_transcoders("neurons", model)
    random = np.random.default_rng(seed)
    rows = sums.rows()
    survives, follows, by_chance = [], [], []
    for at, graph in enumerate(graphs):
        row = rows[at]
        hinted = np.repeat(row[None], DIGITS, axis=0)
        hinted[:, HINT] += np.arange(DIGITS) - sums.answer[at]
        mean = Patch("input", HINT, prompts=tuple(map(tuple, hinted.tolist())))
        donor = tuple(questions(*(each[at : at + 1] for each in (*sums.instead[:2], sums.answer)))[0].tolist())
        mediator = _mediator(graph)
        control = _alike(graph, mediator, random)
        swaps = [[Intervention(*place, prompts=(donor,)) for place in chosen] for chosen in (mediator, control)]
        logits = intervene(model, neurons, row.tolist(), [[mean], *swaps], mlps="live")[:, -1]
        gone, swapped, other = (logits[:, FIRST_DIGIT : FIRST_DIGIT + DIGITS]).argmax(-1).tolist()
        survives.append(gone == sums.answer[at])
        follows.append(swapped == sums.instead[2][at])
        by_chance.append(other == sums.instead[2][at])
    misled = questions(sums.one, sums.other, sums.instead[2])
    said = answers(model, misled)
    return Outcome(
        *(float(np.mean(each)) for each in (survives, follows, by_chance)),
        keeps=float((said == sums.answer).mean()),
        obeys=float((said == sums.instead[2]).mean()),
    )


def _mediator(graph: AttributionGraph) -> list[tuple[int, int, int]]:
    """The most influential neurons off the hint, as (layer, position, neuron), that carry CARRIED of such influence."""
    nodes = graph.nodes
    rows = nodes.where("neuron")
    rows = rows[nodes.position[rows] != HINT]
    carried = influence(graph)[rows]
    order = np.argsort(-carried, kind="stable")
    enough = int(np.searchsorted(np.cumsum(carried[order]), CARRIED * carried.sum())) + 1
    return _places(graph, rows[order[:enough]])


def _alike(
    graph: AttributionGraph, chosen: list[tuple[int, int, int]], random: np.random.Generator
) -> list[tuple[int, int, int]]:
    """As many other neurons of the same layers and positions, as far as there are."""
    taken, nodes = set(chosen), graph.nodes
    free = [place for place in _places(graph, nodes.where("neuron")) if place not in taken]
    wanted: dict[tuple[int, int], int] = {}
    for layer, position, _ in chosen:
        wanted[layer, position] = wanted.get((layer, position), 0) + 1
    found = []
    for where, count in wanted.items():
        here = [place for place in free if place[:2] == where]
        found += [here[k] for k in random.permutation(len(here))[:count]]
    return found


def _places(graph: AttributionGraph, rows: Int[np.ndarray, "n"]) -> list[tuple[int, int, int]]:
    nodes = graph.nodes
    return [(int(nodes.layer[r]), int(nodes.position[r]), int(nodes.feature[r])) for r in rows]
