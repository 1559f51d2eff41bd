"""Methods held to one truth: every method of edges and of nodes, and ACDC, under each ablation.

Edges are held to those that matter alone under that ablation, and to the designed ones. Nodes are held to those that
matter alone; a method of edges scores a node by the strongest edge out of it. ACDC leaves a set: scores of 1 and 0.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from benchmarks.truth.cutting import Edges
from benchmarks.truth.ranks import sizes_of
from benchmarks.truth.scoring import Score, score
from benchmarks.truth.truths import Truth
from circuits.attribution import EDGE_METHODS, PART_METHODS
from circuits.attribution.acdc import take_edges_out
from circuits.components.ablations import ABLATIONS
from circuits.components.edge_scores import components_of
from circuits.components.parts import parts_of

HELD_UNDER = ("resample", "zero", "mean", "mean-by-position")
STEPS = 10  # of integrated gradients
THRESHOLD = 1e-3  # of ACDC, in logits or units of the answer
SEARCH = "acdc"
READERS: tuple[str, ...] = ("queries or keys", "values", "MLPs", "logits")


@dataclass(frozen=True)
class Judgement:
    """How one method does on one truth.

    what: "edges", "designed edges" or "nodes". missed: of edges, how many true ones have no score, by reader.
    """

    truth: str
    ablation: str
    method: str
    what: str
    score: Score
    missed: dict[str, int]


def judge(
    truth: Truth,
    ablation: str = "resample",
    methods: Sequence[str] | None = None,
    *,
    seed: int = 0,
    steps: int = STEPS,
) -> Iterator[Judgement]:
    """How each method does under an ablation. methods: of EDGE_METHODS, PART_METHODS, or "acdc"; by default all.

    seed: of random scores. steps: of integrated gradients.
    """
    ablate = ABLATIONS[ablation](truth.transformer, [truth.pairs], lambda name, done, total: None)
    edges, parts = components_of(truth.transformer).edges, parts_of(truth.transformer)

    def judgement(
        method: str, what: str, scores: Float[np.ndarray, "item"], true: Bool[np.ndarray, "item"]
    ) -> Judgement:
        return Judgement(truth.name, ablation, method, what, score(scores, true), {})

    for name in methods or (*EDGE_METHODS, *PART_METHODS, SEARCH):
        if name in PART_METHODS:
            found = PART_METHODS[name](truth.transformer, truth.pairs, truth.metric, parts, ablation=ablate).numpy()
            yield judgement(name, "nodes", found, truth.found_nodes(ablation))
            continue
        if name == SEARCH:
            chosen = take_edges_out(
                truth.transformer, [truth.pairs], truth.metric, threshold=THRESHOLD, ablation=ablate
            ).chosen
            found = chosen.astype(float)
        else:
            found = _score_edges(truth, name, ablation=ablate, seed=seed, steps=steps)
        true = truth.found(ablation)
        missed = true & (sizes_of(found) == 0)
        yield Judgement(truth.name, ablation, name, "edges", score(found[edges], true[edges]), by_reader(truth, missed))
        yield judgement(name, "designed edges", found[edges], truth.designed[edges])
        yield judgement(name, "nodes", np.abs(found).max(1), truth.found_nodes(ablation))


def _score_edges(truth: Truth, name: str, **offered: Any) -> Float[np.ndarray, "source reader"]:
    """A method's scores. offered: options, of which it gets those that it has."""
    method: Callable[..., Tensor] = EDGE_METHODS[name]
    options = {option: offered[option] for option in offered if option in inspect.signature(method).parameters}
    return method(truth.transformer, truth.pairs, truth.metric, **options).numpy()


def by_reader(truth: Truth, edges: Edges) -> dict[str, int]:
    """How many of some edges queries or keys read, values, MLPs, the logits."""
    readers = components_of(truth.transformer).readers
    found: dict[str, int] = dict.fromkeys(READERS, 0)
    for _, reader in np.argwhere(edges):
        name = readers[reader]
        if name.endswith(("<q>", "<k>")):
            found["queries or keys"] += 1
        else:
            found["values" if name.endswith("<v>") else "logits" if name == "logits" else "MLPs"] += 1
    return found
