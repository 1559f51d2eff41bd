"""How much of the answer a graph explains: one set of figures, honest about what was left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float

from graphs.graph import AttributionGraph


@dataclass(frozen=True)
class Scores:
    """What becomes of the influence on the goal. All between 0 and 1, but for the path length; nan where undefined.

    replacement: of the influence that ends in a token or in something unexplained, the share ending in a token.
    completeness: the share of all influence on its way that meets no unexplained input, over every node.
    completeness_inputs: the same over nodes with inputs only, the stricter figure: tokens and errors have none, and
        so count as fully explained in the other.
    error, unselected, pruned: the shares of the influence that end there; with replacement they sum to 1.
        Unexplained are all three: reconstruction errors, untraced features, and what pruning took away, as gross.
    bias: the share that ends in biases, when these count as sources like others. The other figures leave them out.
    path_length: hops from a token to the goal, in the mean over influence.
    """

    replacement: float
    completeness: float
    completeness_inputs: float
    error: float
    unselected: float
    pruned: float
    bias: float
    path_length: float

    def to_json(self) -> dict[str, float]:
        """A plain dictionary, for `json.dump`."""
        return asdict(self)


def scores(graph: AttributionGraph) -> Scores:
    """What a graph explains and what it does not.

    On a whole graph in which every feature was traced, replacement and completeness equal the peer's
    (circuit-tracer's). On a pruned one what was pruned counts as error, where the peer forgets it: the figures are
    those of the whole graph with every pruned input turned into an error node of its own.

    Source: METHODS 5.1, 5.2 and 5.4.
    """
    # Here, not above: numba takes half a second to load, and `graphs` must open at once.
    from graphs.paths import influence, is_bias, mean_length

    ends = ends_of(graph, influence(graph))
    with_biases = influence(graph, biases=True)
    return Scores(
        **ends,
        bias=_ratio(float(with_biases[is_bias(graph)].sum()), float(graph.goal.sum())),
        path_length=mean_length(graph),
    )


def ends_of(graph: AttributionGraph, carried: Float[np.ndarray, "node"]) -> dict[str, float]:
    """The figures of `Scores` that follow from `influence(graph)` alone, without another pass over the edges.

    What ends unexplained, weighted by what flows on from its target, is what its node carries, so sums over nodes do:
    Σ_t out_t Σ_{s is error} N[t, s] = Σ_{s is error} carried_s. And what pruning took from the inputs of targets is
    what went into them less what arrived anywhere.
    """
    out = carried + graph.goal
    inner = graph.nodes.gross > 0
    bias = graph.nodes.kind == "bias"
    token, error, unselected = (
        float(carried[graph.nodes.where(kind)].sum()) for kind in ("token", "error", "unselected")
    )
    pruned = max(float(out[inner].sum() - carried.sum()), 0.0)
    # On a whole graph the difference is rounding.
    pruned = pruned if pruned > 1e-9 * out.sum() else 0.0
    unexplained = error + unselected + pruned
    ended = token + unexplained
    return {
        "replacement": _ratio(token, ended),
        "completeness": 1 - _ratio(unexplained, float(out[~bias].sum()) + pruned),
        "completeness_inputs": 1 - _ratio(unexplained, float(out[inner].sum())),
        "error": _ratio(error, ended),
        "unselected": _ratio(unselected, ended),
        "pruned": _ratio(pruned, ended),
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else float("nan")
