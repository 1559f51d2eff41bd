"""A graph in words, for a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.assays import STEPS, VERDICTS, Assay, Verdict
from graphs.graph import AttributionGraph

if TYPE_CHECKING:
    from graphs.paths import Path

WHOLE = "whole graph"


def visible(text: str) -> str:
    r"""A token as it reads, quoted where it would not show: `austin`, `' austin'`, `'\n'`."""
    plain = text.isprintable() and text == text.strip() and text
    return text if plain else repr(text)


def name_node(graph: AttributionGraph, row: int) -> str:
    """What to call a node in a sentence: its label, and for what happens at a token, where: `texas L2 @dallas`.

    A token that comes twice in the prompt is told with its position: `the[1]`.
    """
    nodes = graph.nodes
    kind, layer, position = str(nodes.kind[row]), int(nodes.layer[row]), int(nodes.position[row])
    nameless = f"{kind} {nodes.feature[row]}" if nodes.feature[row] >= 0 else kind
    label = _without_space(str(nodes.label[row])) if nodes.label[row] else nameless
    if kind == "logit":
        return label
    if kind == "token":
        return f"{label}{_which(graph, position)}"
    # A unit without a label is called by its number, which names the layer already.
    place = f" @{_without_space(graph.tokens[position])}{_which(graph, position)}" if position >= 0 else ""
    level = f" L{layer}" if layer >= 0 and f"L{layer}" not in label else ""
    return f"{label}{level}{place}"


def _without_space(text: str) -> str:
    """A token's word: most have a space in front, which says nothing in a sentence."""
    word = text.removeprefix(" ")
    return visible(word if word.strip() else text)


def _which(graph: AttributionGraph, position: int) -> str:
    return f"[{position}]" if graph.tokens.count(graph.tokens[position]) > 1 else ""


def path_in_words(graph: AttributionGraph, path: Path) -> str:
    """One line: how much of the goal the path carries, then its nodes with the signed share of each hop.

    ` 7.3%  dallas (+0.42)> texas L2 @dallas (+0.31)> say austin L5 @is (+0.90)> austin`
    """
    words = [name_node(graph, path.nodes[0])]
    for node, share in zip(path.nodes[1:], path.shares, strict=True):
        words.append(f"({share:+.2f})> {name_node(graph, node)}")
    return f"{path.influence:5.1%}  {' '.join(words)}"


def paths_in_words(graph: AttributionGraph, paths: Sequence[Path]) -> list[str]:
    """How much some paths carry together, then one line each."""
    if not paths:
        return ["no path leads from a token to the answer"]
    which = "strongest path" if len(paths) == 1 else f"{len(paths)} strongest paths"
    carry = f"{'carries' if len(paths) == 1 else 'carry'} {sum(path.influence for path in paths):.0%}:"
    return [f"the {which} from a token to the answer {carry}", *(f"  {path_in_words(graph, path)}" for path in paths)]


def logits_in_words(graph: AttributionGraph) -> list[str]:
    """One line per target, what counts most first: a token with its probability, a contrast with its difference.

    A token in the middle of the prompt is told with what it came after; any other target with its value.
    """
    nodes, last = graph.nodes, len(graph.tokens) - 1
    rows = np.flatnonzero((nodes.kind == "logit") | (graph.goal != 0))
    against = held_against(graph)
    lines = []
    for row in rows[np.argsort(-graph.goal[rows], kind="stable")].tolist():
        label, value, position = str(nodes.label[row]), float(nodes.value[row]), int(nodes.position[row])
        if nodes.kind[row] != "logit":
            lines.append(f"{name_node(graph, row)}: {value:+.2f}")
        elif row in against:
            lines.append(f"{label}: {value:+.2f} logits")
        else:
            after = "" if position == last else f" after {visible(graph.tokens[position])}{_which(graph, position)}"
            lines.append(token_in_words(label, float(nodes.activation[row])) + after)
    return lines


def held_against(graph: AttributionGraph) -> dict[int, int]:
    """The rows of contrasts, each with the id of the token that it is held against."""
    rows, against = graph.nodes.where("logit").tolist(), graph.provenance.get("against") or ()
    return {row: token for row, token in zip(rows, against, strict=False) if token >= 0}


def token_in_words(text: str, probability: float) -> str:
    """`  42.1%  austin`: a next token and what the model gives it."""
    return f"{probability:6.1%}  {visible(text)}"


def kept_in_words(graph: AttributionGraph) -> str:
    """`kept 184 of 3,217 nodes and 1,020 of 88,114 edges, carrying 80% of the influence`, or how it came."""
    kept, nodes, edges = graph.kept, len(graph.nodes), len(graph.source)
    if not kept:
        return f"{_as_it_came(graph)}: {nodes:,} nodes, {edges:,} edges"
    if kept.get("grouped"):
        part = kept["grouped"]
        came = _as_it_came(graph)
        if came != WHOLE and (part["nodes"], part["edges"]) == (kept["nodes_before"], kept["edges_before"]):
            # Another program may have pruned it: "kept 322 of 322" would say that nothing was.
            return (
                f"{came}: {part['nodes']:,} nodes, {part['edges']:,} edges, grouped into {nodes:,} and {edges:,}, "
                f"carrying {kept['influence']:.0%} of the influence in it"
            )
        return (
            f"kept {part['nodes']:,} of {kept['nodes_before']:,} nodes and {part['edges']:,} of "
            f"{kept['edges_before']:,} edges, grouped into {nodes:,} and {edges:,}, carrying {kept['influence']:.0%} "
            "of the influence"
        )
    return (
        f"kept {nodes:,} of {kept['nodes_before']:,} nodes and {edges:,} of {kept['edges_before']:,} edges, "
        f"carrying {kept['influence']:.0%} of the influence"
    )


def circuit_in_words(graph: AttributionGraph) -> list[str]:
    """Of a circuit that was found over pairs of prompts: how, and what it keeps; of other graphs nothing."""
    made = graph.provenance
    if "circuit" not in made:
        return []
    asked, ends, pairs = made["options"], made["metric"], made["pairs"]
    otherwise = "corrupted" if asked["ablation"] == "resample" else f"with all ablated ({asked['ablation']})"
    apart = ends["clean"] - ends["corrupted"]
    share = f": {(ends['circuit'] - ends['corrupted']) / apart:.1%} of the difference kept" if apart else ""
    parts = f"{len(made['circuit']):,} edges or nodes kept; a head's queries, keys and values are one in the graph"
    return [
        f"circuit over {pairs} pairs, of which the prompt is one: {parts}"
        if pairs > 1
        else f"circuit over 1 pair: {parts}",
        f"measured: {asked['metric']} {ends['clean']:.3f} clean, {ends['corrupted']:.3f} {otherwise}, "
        f"{ends['circuit']:.3f} with only the circuit clean{share}",
    ]


def _as_it_came(graph: AttributionGraph) -> str:
    """What a graph is that was not pruned here: whole, unless another program may have pruned it before."""
    said = graph.provenance.get("imported")
    if not isinstance(said, Mapping) or said.get("format") != "neuronpedia":
        return WHOLE
    share = (said.get("metadata") or {}).get("node_threshold")
    if isinstance(share, int | float):
        return f"imported, pruned before to {share:.0%} of the influence, of which this is all there is"
    return "imported, and whether it was pruned before is not known"


def expansion_in_words(graph: AttributionGraph) -> list[str]:
    """What is known of the features whose inputs were not traced; nothing where all were."""
    said = graph.provenance.get("expansion") or {}
    if said.get("order", "all") == "all" or not said["left"]:
        return []
    return [
        f"expanded {graph.provenance['traced']:,} features; of the others none carries more than "
        f"{said['largest_left']:.2%} of the goal, all together {said['left']:.1%}"
    ]


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


def figure_in_words(verdict: Verdict) -> str:
    """A verdict's figure, in percent where its bar is, `≥ 80% of …`, or speaks of what survives; else plain."""
    bar = verdict.threshold
    in_percent = bool(re.match(r"[≤≥] ?\S*%", bar)) or bar.startswith("more survives")
    return f"{100 * verdict.number:.3g}%" if in_percent else f"{verdict.number:.3g}"


def claim_arrow(group: str, other: str) -> str:
    """What an assay judges of two groups that the graph joins."""
    return f"{visible(group)} → {visible(other)}: the arrow is there in the real model"


def assay_in_words(assay: Assay) -> list[str]:
    """What was measured; each claim with its verdict, below it the figure, the bar and the control; how many stood.

    `supported      the graph's features are needed (mean ablation of them)`
    `               4.55% (wanted: ≤ 20% of the difference survives, p ≤ 0.05); 20 random sets: lowest 83%, p = 0.048`
    """
    width = max(map(len, VERDICTS)) + 2
    lines = [str(assay.registration["metric"])] if "metric" in assay.registration else []
    for each in assay.verdicts:
        known = each.number == each.number
        figures = f"{figure_in_words(each)} (wanted: {each.threshold}); {each.control}" if known else each.control
        lines += [each.verdict.ljust(width) + each.claim, " " * width + figures.removeprefix("untested: ")]
    kept = {words: assay.statistics.get(f"kept_by_{name}", float("nan")) for name, words in STEPS.items()}
    known = {words: share for words, share in kept.items() if share == share}
    if known:
        most = min(known, key=lambda words: known[words])
        lines.append(
            "what a single ablation does, step by step from the graph to the model: "
            + ", ".join(f"{words} × {share:.2f}" for words, share in known.items())
            + (f"; most is lost at {most}" if known[most] < 0.9 else "")
        )
    if "steady_features" in assay.statistics:
        steady, weight = (assay.statistics[name] for name in ("steady_features", "steady_weight"))
        settings = sum(len(each.settings) for each in assay.prunings)
        lines.append(
            f"pruned {settings} ways: {steady:.0%} of the features stay in all, and {weight:.0%} of the edges' weight"
        )
    counts = ", ".join(f"{sum(v.verdict == word for v in assay.verdicts)} {word}" for word in VERDICTS)
    spent = sum(assay.seconds.values())
    return [*lines, f"{counts}, on this prompt; registered as {assay.registration.get('hash', '?')}, {spent:.1f} s"]
