"""A truth: a transformer whose circuit is known, with the pairs on which it is to be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from jaxtyping import Bool

from benchmarks.truth.cutting import Edges, edges_alone, edges_together, nodes_alone
from benchmarks.truth.program import Program
from circuits.components.edge_scores import components_of
from circuits.components.metrics import Metric, logit_difference
from circuits.components.pairs import Pairs
from circuits.components.transformer import Transformer


@dataclass(frozen=True, eq=False)
class Truth:
    """A transformer and its circuit.

    about: what it computes, in a line. metric: of the pairs, in logits or units of the answer.
    designed: the edges by which it was wired, whatever takes their place when they are cut: what a circuit has to hold
        to work, and what redundancy hides from single cuts. [source reader]
    found: for an ablation, "resample", "zero", "mean", "mean-by-position": the edges that matter when they alone are
        cut, by brute force. What scores of edges are held to. [source reader]
    found_nodes: the same for tokens, heads and MLPs as wholes. [node]
    found_together: the edges that matter alone or once one other of the designed ones is cut. [source reader]
    """

    name: str
    about: str
    transformer: Transformer
    pairs: Pairs
    metric: Metric
    designed: Edges
    found: Callable[[str], Edges]
    found_nodes: Callable[[str], Bool[np.ndarray, "node"]]
    found_together: Callable[[str], Edges]


def truth_of(name: str, program: Program) -> Truth:
    """The truth of a program. Brute force is done when it is asked for, and once."""
    designed = np.zeros(components_of(program.transformer).edges.shape, dtype=bool)
    for edge in program.designed:
        designed[components_of(program.transformer).edge(edge)] = True
    given = (program.transformer, program.pairs, logit_difference)
    return Truth(
        name=name,
        about=program.about,
        transformer=program.transformer,
        pairs=program.pairs,
        metric=logit_difference,
        designed=designed,
        found=cache(partial(edges_alone, *given)),
        found_nodes=cache(partial(nodes_alone, *given)),
        found_together=cache(partial(edges_together, *given, among=designed)),
    )
