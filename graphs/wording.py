"""A graph in words, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.assays import VERDICTS, Assay
from graphs.graph import AttributionGraph

if TYPE_CHECKING:
    from graphs.paths import Path


def name_node(graph: AttributionGraph, row: int) -> str:
    """What to call a node in a sentence: its label, and for what happens at a token, where: `texas L2 @dallas`."""
    nodes = graph.nodes
    kind, layer, position = str(nodes.kind[row]), int(nodes.layer[row]), int(nodes.position[row])
    label = str(nodes.label[row]).strip() or (f"{kind} {nodes.feature[row]}" if nodes.feature[row] >= 0 else kind)
    if kind in ("token", "logit"):
        return label
    # A unit without a label is called by its number, which names the layer already.
    place = f" @{graph.tokens[position].strip()}" if position >= 0 else ""
    level = f" L{layer}" if layer >= 0 and f"L{layer}" not in label else ""
    return f"{label}{level}{place}"


def path_in_words(graph: AttributionGraph, path: Path) -> str:
    """One line: how much of the goal the path carries, then its nodes with the signed share of each hop.

    ` 7.3%  dallas (+0.42)> texas L2 @dallas (+0.31)> say austin L5 @is (+0.90)> austin`
    """
    words = [name_node(graph, path.nodes[0])]
    for node, share in zip(path.nodes[1:], path.shares, strict=True):
        words.append(f"({share:+.2f})> {name_node(graph, node)}")
    return f"{path.influence:5.1%}  {' '.join(words)}"


def logits_in_words(graph: AttributionGraph) -> list[str]:
    """One line per target, most probable first: its probability and its label."""
    rows = graph.nodes.where("logit")
    probability = graph.nodes.activation[rows]
    return [f"{probability[i]:6.1%}  {graph.nodes.label[rows[i]]}" for i in np.argsort(-probability, kind="stable")]


def kept_in_words(graph: AttributionGraph) -> str:
    """`kept 184 of 3,217 nodes and 1,020 of 88,114 edges, carrying 80% of the influence`, or a whole graph's size."""
    kept, nodes, edges = graph.kept, len(graph.nodes), len(graph.source)
    if not kept:
        return f"whole graph: {nodes:,} nodes, {edges:,} edges"
    return (
        f"kept {nodes:,} of {kept['nodes_before']:,} nodes and {edges:,} of {kept['edges_before']:,} edges, "
        f"carrying {kept['influence']:.0%} of the influence"
    )


def scores_in_words(scores: Mapping[str, Any], kept: Mapping[str, Any]) -> list[str]:
    """Replacement and completeness before and after pruning, and where the rest went.

    scores: of the graph as it is, `Scores.to_json()`. kept: the graph's `kept`, empty for a whole graph.
    """
    lines = []
    for name in ("replacement", "completeness"):
        after = f" ({_number(scores[name])} after pruning)" if kept else ""
        lines.append(f"{name} {_number(kept.get(f'{name}_before', scores[name]))}{after}")
    rest = ", ".join(f"{name} {_percent(scores[name])}" for name in ("error", "unselected", "pruned"))
    bias = f"biases, if counted, {_percent(scores['bias'])}"
    return ["; ".join(lines), f"unexplained: {rest}; {bias}; {_number(scores['path_length'])} hops in the mean"]


def table_in_words(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, columns lined up."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _number(value: float | None) -> str:
    return "undefined" if value is None or value != value else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "undefined" if value is None or value != value else f"{value:.0%}"


def assay_in_words(assay: Assay) -> list[str]:
    """A table of the claims: verdict, claim, what was measured, what was wanted, against what; then how many stood."""
    rows = [
        (
            each.verdict,
            each.claim,
            "" if each.number != each.number else f"{each.number:.3g}",
            each.threshold,
            each.control,
        )
        for each in assay.verdicts
    ]
    counts = ", ".join(f"{sum(v.verdict == word for v in assay.verdicts)} {word}" for word in VERDICTS)
    spent = sum(assay.seconds.values())
    table = table_in_words([("verdict", "claim", "measured", "wanted", "against"), *rows])
    return [*table, f"{counts}, on this prompt; registered as {assay.registration.get('hash', '?')}, {spent:.1f} s"]
