"""What two graphs have in common: nodes aligned, overlap, and what shifts from the one to the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from graphs.errors import BadOption
from graphs.graph import AttributionGraph
from graphs.scores import Scores, scores

OF_A_SET = ("feature", "attention")  # what a number means for one set of transcoders only


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two graphs, `a` and `b`, held beside each other.

    both: rows of the nodes that are the same, in a and in b, in a's order. [both 2]
    only_a, only_b: rows of the others. [only_a], [only_b]
    edges: places of the edges between the same nodes, in a and in b. [shared 2]
    edges_only_a, edges_only_b: places of the others. [rest_a], [rest_b]
    moved: how much more influence a node that is in both has in b. [both]
    overlap: weighted Jaccard index of influence, Σ min / Σ max over all nodes of either; 1 for equal graphs, 0 where
        nothing that matters is shared; nan where nothing carries any.
    correlation: Pearson's, of the weights of shared edges in a and in b; nan for fewer than two, or without spread.
    scores: of a and of b.
    """

    both: Int[np.ndarray, "both 2"]
    only_a: Int[np.ndarray, "only_a"]
    only_b: Int[np.ndarray, "only_b"]
    edges: Int[np.ndarray, "shared 2"]
    edges_only_a: Int[np.ndarray, "rest_a"]
    edges_only_b: Int[np.ndarray, "rest_b"]
    moved: Float[np.ndarray, "both"]
    overlap: float
    correlation: float
    scores: tuple[Scores, Scores]


def compare(a: AttributionGraph, b: AttributionGraph, *, force: bool = False) -> Comparison:
    """What two graphs of one model share, and what only one of them has.

    What two wordings of one question share anyway, or two seeds, these figures do not say: compare such graphs too.
    Graphs can overlap and work otherwise, and the reverse; what a node does, experiments tell.

    force: compare graphs of two models or sets as if a number meant the same in both: a model and its fine-tune.

    Raises:
        BadOption: they are of two models, or of two sets of transcoders.

    Source: METHODS 9.1 and 9.2. Biases, errors and path lengths are compared by `scores`.
    """
    if not force:
        _check_alike(a, b)
    both = align(a, b)
    shared = _shared_edges(a, b, both)
    ours, theirs = _carried(a), _carried(b)
    least = float(np.minimum(ours[both[:, 0]], theirs[both[:, 1]]).sum())
    most = float(ours.sum() + theirs.sum()) - least
    return Comparison(
        both=both,
        only_a=_others(len(a.nodes), both[:, 0]),
        only_b=_others(len(b.nodes), both[:, 1]),
        edges=shared,
        edges_only_a=_others(len(a.source), shared[:, 0]),
        edges_only_b=_others(len(b.source), shared[:, 1]),
        moved=theirs[both[:, 1]] - ours[both[:, 0]],
        overlap=least / most if most > 0 else float("nan"),
        correlation=_correlation(a.weight[shared[:, 0]], b.weight[shared[:, 1]]),
        scores=(scores(a), scores(b)),
    )


def align(a: AttributionGraph, b: AttributionGraph) -> Int[np.ndarray, "both 2"]:
    """The rows of the nodes that are the same in both, in a's order.

    The same are nodes of one kind and layer, with one number (of biases and groups: of one name), at places equally far
    from the end of the prompt: questions of one kind differ in length, and end alike.
    """
    there = {name: row for row, name in enumerate(_names(b))}
    pairs = [(row, there[name]) for row, name in enumerate(_names(a)) if name in there]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def counts_in_words(found: Comparison) -> str:
    """How many nodes and edges are in both graphs, and in one alone."""
    told = [
        f"{len(both):,} in both, {len(only_a):,} only in A, {len(only_b):,} only in B"
        for both, only_a, only_b in (
            (found.both, found.only_a, found.only_b),
            (found.edges, found.edges_only_a, found.edges_only_b),
        )
    ]
    return f"nodes: {told[0]}; edges: {told[1]}"


def _names(graph: AttributionGraph) -> list[Hashable]:
    """What each node is in any prompt of the same model; the second of one name is the second in other graphs too."""
    nodes = graph.nodes
    columns = (nodes.kind, nodes.layer, nodes.position, nodes.feature, nodes.label)
    seen: Counter[Hashable] = Counter()
    found: list[Hashable] = []
    for kind, layer, position, unit, label in zip(*(column.tolist() for column in columns), strict=True):
        # A constant's label ends in its token, a group's number is its place in a list.
        what = label.split(" @")[0] if kind == "bias" else label if kind == "supernode" else unit
        name = (kind, layer, what, len(graph.tokens) - position if position >= 0 else None)
        found.append((*name, seen[name]))
        seen[name] += 1
    return found


def _shared_edges(
    a: AttributionGraph, b: AttributionGraph, both: Int[np.ndarray, "both 2"]
) -> Int[np.ndarray, "shared 2"]:
    place = np.full(len(b.nodes), -1, dtype=np.int64)
    place[both[:, 1]] = both[:, 0]
    known = np.flatnonzero((place[b.source] >= 0) & (place[b.target] >= 0))
    ours = a.target.astype(np.int64) * len(a.nodes) + a.source
    theirs = place[b.target[known]] * len(a.nodes) + place[b.source[known]]
    at = np.searchsorted(ours, theirs)  # edges stand by target and source, so ours ascend
    found = np.flatnonzero(ours[np.minimum(at, len(ours) - 1)] == theirs) if len(ours) else at[:0]
    found = found[np.argsort(at[found], kind="stable")]
    return np.stack([at[found], known[found]], axis=1)


def _others(count: int, taken: Int[np.ndarray, "taken"]) -> Int[np.ndarray, "other"]:
    left = np.ones(count, dtype=np.bool_)
    left[taken] = False
    return np.flatnonzero(left)


def _carried(graph: AttributionGraph) -> Float[np.ndarray, "node"]:
    """Influence as it counts here: what is not known as none."""
    return np.maximum(np.nan_to_num(graph.nodes.influence), 0.0)


def _correlation(ours: Float[np.ndarray, "edge"], theirs: Float[np.ndarray, "edge"]) -> float:
    if len(ours) < 2:
        return float("nan")
    one, other = ours - ours.mean(), theirs - theirs.mean()
    spread = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.clip(one @ other / spread, -1.0, 1.0)) if spread > 0 else float("nan")


def _check_alike(a: AttributionGraph, b: AttributionGraph) -> None:
    found = _differing(a, b, "model")
    if found:
        raise BadOption(
            f"graphs of one model are compared, found one of {found[0]} and one of {found[1]}: a feature's or neuron's "
            "number in one model is another unit in the other. Trace both prompts in one model; for a model and its "
            "fine-tune, whose units are the same, add --force (in Python force=True)."
        )
    of_sets = all(len(graph.nodes.where(*OF_A_SET)) for graph in (a, b))
    found = _differing(a, b, "transcoders") if of_sets else None
    if found:
        raise BadOption(
            f"graphs over one set of transcoders are compared, found {found[0]} and {found[1]}: a feature's number in "
            "one set is another feature in the other. Trace both prompts with one set."
        )


def _differing(a: AttributionGraph, b: AttributionGraph, what: str) -> tuple[str, str] | None:
    """What two graphs were made with, if that is known and not the same: by content, else by name."""
    names = tuple(str(graph.provenance.get(what) or "") for graph in (a, b))
    hashes = tuple(str(graph.provenance.get(f"{what}_hash") or "") for graph in (a, b))
    one, other = hashes if all(hashes) else names
    if not (one and other) or one == other:
        return None
    if names[0] == names[1]:
        return f"{names[0]} ({hashes[0]})", f"{names[1]} ({hashes[1]})"
    return names[0] or hashes[0], names[1] or hashes[1]
