"""Signed contributions to the goal: what each node adds to it, or takes from it, along every path at once."""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit

from graphs.graph import AttributionGraph
from graphs.paths import rows_of


def flow(graph: AttributionGraph, start: Float[np.ndarray, "node"] | None = None) -> Float[np.ndarray, "node"]:
    """What each node contributes to the goal, in the goal's own units, logits.

    Let every target hand out what it contributes itself in proportion to its inputs: `R_s = start_s + Σ_t (weight[t, s]
    / value_t) R_t`. A unit's activation is linear in its pre-activation while its gate stays, so `-R_s` is also what
    the graph predicts when s is ablated. On a whole graph the contributions of all sources (tokens, errors, biases)
    add up to the goal.

    Contributions can be large and cancel where a target's value is small against its inputs: they explain, while
    `influence` ranks.

    start: what each target is worth; by default the logits' values, weighted by the goal. [node]

    Source: METHODS sections 5.5 and 7.1 (predictor P0 on a pruned graph, P1 on a whole one).
    """
    if start is None:
        start = np.where(graph.goal != 0, np.nan_to_num(graph.nodes.value) * graph.goal, 0.0)
    value = np.nan_to_num(graph.nodes.value)
    scale = np.divide(1.0, value, out=np.zeros_like(value), where=value != 0)
    return _hand_out(rows_of(graph), np.array(graph.source), np.array(graph.weight), scale, np.array(start))


@njit(cache=True)
@no_type_check
def _hand_out(start_of, source, weight, scale, worth):
    for target in range(len(worth) - 1, -1, -1):
        if worth[target] == 0:
            continue
        unit = worth[target] * scale[target]
        for edge in range(start_of[target], start_of[target + 1]):
            worth[source[edge]] += weight[edge] * unit
    return worth
