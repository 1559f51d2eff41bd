"""SIGNS: how much of the answer a circuit traces to the hint, on prompts that all models answer alike.

Each is a function of a model and some sums to a share, 0 for the sum alone and 1 for the hint alone; that of
`path lengths` is no share, but shorter is nearer to 1. Scores of nodes are those of the three tokens that matter, over
pairs that differ in all of them. Scores of edges are summed over positions, so two kinds of pairs stand in for them:
those that differ in the hint against those that differ in the sum.

Source: METHODS section 9.4, the triage by graph.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Int

from benchmarks.cheating.models import FIRST_DIGIT, HINT, ONE, OTHER, questions
from circuits import attribute, load_transcoders
from circuits.attribution import EDGE_METHODS, PART_METHODS
from circuits.components.metrics import logit_difference
from circuits.components.opening import transformer_of
from circuits.components.pairs import Pairs
from circuits.components.parts import parts_of
from circuits.model import Model
from graphs import influence
from graphs.flow import flow
from graphs.graph import AttributionGraph
from graphs.paths import mean_length

TOKENS = (HINT, ONE, OTHER)
OPTIONS = {"eap-ig": {"steps": 5}, "conductance": {"steps": 5}}


class Sums:
    """Some sums, and for each another sum of another answer, drawn by a seed.

    one, other, answer: digits [sum]. instead: the same of the other sums.
    """

    def __init__(self, count: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.one, self.other = random.integers(10, size=(2, count))
        self.answer = (self.one + self.other) % 10
        moved = np.stack([random.integers(1, 10, size=count), random.integers(1, 10, size=count)])
        one, other = (self.one + moved[0]) % 10, (self.other + moved[1]) % 10
        same = (one + other) % 10 == self.answer
        self.instead = (np.where(same, self.one, one), other, np.where(same, self.one + other, one + other) % 10)

    def rows(self) -> Int[np.ndarray, "sum pos"]:
        """The questions, their hints right."""
        return questions(self.one, self.other, self.answer)

    def pairs(self, *changed: str) -> Pairs:
        """These questions, and what they become when the "hint" or the "sum" is the other one's."""
        one, other, answer = self.instead
        hint = answer if "hint" in changed else self.answer
        digits = (one, other) if "sum" in changed else (self.one, self.other)
        corrupted = questions(*digits, hint)
        columns = (self.rows(), corrupted, FIRST_DIGIT + self.answer, FIRST_DIGIT + answer)
        last = torch.full((len(self.one),), corrupted.shape[1] - 1)
        return Pairs(*(torch.from_numpy(column) for column in columns), last)


def graphs_of(model: Model, sums: Sums) -> list[AttributionGraph]:
    """The graph of each question over the model's neurons."""
    neurons = load_transcoders("neurons", model)
    return [attribute(model, neurons, row.tolist()) for row in sums.rows()]


def share_of_tokens(graphs: list[AttributionGraph], of: Callable[[AttributionGraph], np.ndarray]) -> float:
    """The hint's share of what the tokens carry, by size; the mean over graphs."""
    shares = []
    for graph in graphs:
        tokens = graph.nodes.where("token")
        carried = np.abs(of(graph)[tokens])
        at = graph.nodes.position[tokens]
        shares.append(carried[at == HINT].sum() / carried[np.isin(at, TOKENS)].sum())
    return float(np.mean(shares))


def shortness(graphs: list[AttributionGraph]) -> float:
    """One over the mean number of hops from what begins to the answer."""
    return float(np.mean([1 / mean_length(graph) for graph in graphs]))


def share_of_nodes(method: str, model: Model, sums: Sums) -> float:
    """The hint's share of the three tokens' scores, by size."""
    transformer = transformer_of(model)
    found = PART_METHODS[method](
        transformer, sums.pairs("hint", "sum"), logit_difference, parts_of(transformer), positions=True,
        **OPTIONS.get(method, {}),
    )  # fmt: skip
    tokens = found[0, list(TOKENS)].abs()
    return float(tokens[0] / tokens.sum())


def share_of_edges(method: str, model: Model, sums: Sums) -> float:
    """What edges score when the hint changes, over what they score when it or the sum does."""
    transformer = transformer_of(model)
    run = partial(EDGE_METHODS[method], transformer, metric=logit_difference, **OPTIONS.get(method, {}))
    hint, digits = (float(run(sums.pairs(changed)).abs().sum()) for changed in ("hint", "sum"))
    return hint / (hint + digits)


def signs_of(model: Model, sums: Sums) -> tuple[dict[str, float], list[AttributionGraph]]:
    """Every sign, by name, and the graphs that they were read from."""
    graphs = graphs_of(model, sums)
    found: dict[str, float] = {
        "neuron graph: influence of tokens": share_of_tokens(graphs, influence),
        "neuron graph: signed flow from tokens": share_of_tokens(graphs, flow),
        "neuron graph: path lengths": shortness(graphs),
    }
    found |= {f"nodes: {name}": share_of_nodes(name, model, sums) for name in PART_METHODS}
    found |= {f"edges: {name}": share_of_edges(name, model, sums) for name in EDGE_METHODS}
    return found, graphs
