"""How much of the graph hangs on what was chosen: the thresholds of pruning, and the words of the prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from circuits.assaying import thresholds
from circuits.assaying.bench import Bench
from circuits.assaying.controls import sample_others
from circuits.assaying.statistics import ratio
from circuits.attribution.direct import attribute_trace
from circuits.expansion import Expansion
from circuits.goal import Goal, choose_goal
from circuits.tracing import Trace, trace
from graphs.assays import Prunings, Rewording
from graphs.graph import AttributionGraph
from graphs.pruning import prune

Key = tuple[str, int, int, int, str]
NONE = float("nan")


def test_prunings(bench: Bench) -> list[Prunings]:
    """Trace the prompt again and prune it at many thresholds: how many of the prunings keep each node and each edge.

    Source: METHODS section 5.3.
    """
    graph, grid = bench.graph, list(product(thresholds.GRID_NODES, thresholds.GRID_EDGES))
    why = _why_not_again(graph)
    if why:
        return [Prunings([], [], [], why)]
    count = bench.count("pruning it otherwise", 1 + len(grid))
    whole = _trace_again(bench, bench.run, [*graph.goal[graph.nodes.where("logit")]])
    count(1)
    names = _names(graph)
    place = {name: row for row, name in enumerate(names)}
    pairs = {(names[s], names[t]): edge for edge, (s, t) in enumerate(zip(graph.source, graph.target, strict=True))}
    nodes, edges = np.zeros(len(names)), np.zeros(len(pairs))
    for node_share, edge_share in grid:
        small = prune(whole, nodes=node_share, edges=edge_share)
        kept = _names(small)
        nodes[[place[name] for name in kept if name in place]] += 1
        joined = ((kept[s], kept[t]) for s, t in zip(small.source, small.target, strict=True))
        edges[[pairs[pair] for pair in joined if pair in pairs]] += 1
        count(1)
    return [Prunings([list(each) for each in grid], (nodes / len(grid)).tolist(), (edges / len(grid)).tolist())]


def test_rewordings(bench: Bench) -> list[Rewording]:
    """The graphs of the same question in other words, and those of unrelated prompts, for the same answer's logit.

    Features are the same when layer and unit are, wherever in the prompt they stand. A rewording that the model answers
    otherwise is told as such, and counts for nothing.
    """
    graph, count = bench.graph, bench.count("asking in other words", len(bench.paraphrases) + thresholds.OTHERS)
    why = _why_not_again(graph)
    found = []
    for prompt, is_control in _prompts(bench):
        if why:
            found.append(Rewording(_said(bench, prompt), is_control, False, NONE, NONE, NONE, why))
            continue
        run = trace(bench.model, bench.transcoders, prompt)
        other = _prune_alike(graph, _trace_again(bench, run, [*graph.goal[graph.nodes.where("logit")]]))
        answered = bool(run.logits[-1].argmax() == bench.run.logits[-1].argmax())
        found.append(Rewording(_said(bench, prompt), is_control, answered, *_shared(graph, other)))
        count(1)
    return found


def summarise_stability(
    graph: AttributionGraph, prunings: Sequence[Prunings], rewordings: Sequence[Rewording]
) -> dict[str, float]:
    """Figures over both experiments.

    steady_features, steady_weight: the share of features that every pruning keeps, and of the size of all edges that
    those carry that every pruning keeps. reworded: how many rewordings have the same answer; survives_nodes,
    survives_influence: what of the graph is in theirs, on average; p_survives: (1 + unrelated prompts that share as
    much influence) / (1 + unrelated prompts); unrelated_influence: the most that one shares.
    """
    figures: dict[str, float] = {}
    for each in prunings:
        if not each.untested:
            units, always = graph.nodes.where("feature", "neuron"), np.array(each.node) == 1
            size = np.abs(graph.weight)
            figures["steady_features"] = float(always[units].mean()) if len(units) else float("nan")
            figures["steady_weight"] = ratio(float(size[np.array(each.edge) == 1].sum()), float(size.sum()))
    reworded = [each for each in rewordings if not each.control and each.answered and not each.untested]
    others = np.array([each.influence for each in rewordings if each.control and not each.untested])
    if rewordings:
        figures["reworded"] = float(len(reworded))
    if reworded:
        figures["survives_nodes"] = float(np.mean([each.nodes for each in reworded]))
        figures["survives_influence"] = float(np.mean([each.influence for each in reworded]))
    if reworded and len(others):
        figures["p_survives"] = float((1 + (others >= figures["survives_influence"]).sum()) / (1 + len(others)))
        figures["unrelated_influence"] = float(others.max())
    return figures


def _said(bench: Bench, prompt: list[int]) -> str:
    return " ".join(text.strip() for text in bench.model.texts(prompt))


def _prompts(bench: Bench) -> Iterator[tuple[list[int], bool]]:
    """The rewordings, and the unrelated prompts."""
    for prompt in bench.paraphrases:
        yield list(prompt), False
    for prompt in sample_others(bench, seed=bench.seed + 3):
        yield prompt.tolist(), True


def _why_not_again(graph: AttributionGraph) -> str:
    """Why what the graph explains cannot be asked of another trace, empty when it can."""
    nodes = graph.nodes
    goal = np.flatnonzero(graph.goal)
    if (nodes.kind[goal] != "logit").any() or (nodes.position[goal] != len(graph.tokens) - 1).any():
        return "graphs that explain next tokens are traced again, this one explains something else"
    return ""


def _trace_again(bench: Bench, run: Trace, weight: list[float]) -> AttributionGraph:
    """The whole graph of a trace for the same tokens, each counting as it does in this graph, expanded by its rule."""
    graph = bench.graph
    logits, made = graph.nodes.where("logit"), graph.provenance
    pairs = zip(graph.nodes.feature[logits].tolist(), made["against"], strict=True)
    targets = [right if wrong < 0 else (right, int(wrong)) for right, wrong in pairs]
    goal: Goal = replace(choose_goal(bench.model, bench.transcoders, run, targets), weight=weight)
    order, least = made["expansion"]["order"], made["expansion"]["min_influence"]
    wanted = {"all": Expansion(), "rounds": Expansion(max_features=made["traced"] or None)}
    return attribute_trace(run, bench.transcoders, goal, wanted.get(order, Expansion(min_influence=least)))


def _prune_alike(graph: AttributionGraph, whole: AttributionGraph) -> AttributionGraph:
    kept = graph.kept
    if "nodes" not in kept:
        return whole
    return prune(whole, nodes=kept["nodes"], edges=kept["edges"], most_nodes=kept["most_nodes"])


def _names(graph: AttributionGraph) -> list[Key]:
    nodes = graph.nodes
    columns = (nodes.kind, nodes.layer.tolist(), nodes.position.tolist(), nodes.feature.tolist(), nodes.label)
    return [
        (str(kind), layer, position, unit, "" if unit >= 0 else str(label))
        for kind, layer, position, unit, label in zip(*columns, strict=True)
    ]


def _shared(graph: AttributionGraph, other: AttributionGraph) -> tuple[float, float, float]:
    """Of this graph's features the share that the other has too; the same of their influence; weighted Jaccard."""
    ours, theirs = _by_unit(graph), _by_unit(other)
    if not ours:
        return float("nan"), float("nan"), float("nan")
    both = ours.keys() & theirs.keys()
    least = sum(min(ours[each], theirs[each]) for each in both)
    most = sum(ours.values()) + sum(theirs.values()) - least
    return len(both) / len(ours), sum(ours[each] for each in both) / sum(ours.values()), least / most


def _by_unit(graph: AttributionGraph) -> dict[tuple[int, int], float]:
    """Influence of each feature or neuron, over all positions, as a share of that of all."""
    rows = graph.nodes.where("feature", "neuron")
    found: dict[tuple[int, int], float] = {}
    for layer, unit, carried in zip(
        *(column[rows].tolist() for column in (graph.nodes.layer, graph.nodes.feature, graph.nodes.influence)),
        strict=True,
    ):
        found[(layer, unit)] = found.get((layer, unit), 0.0) + carried
    total = sum(found.values()) or 1.0
    return {each: carried / total for each, carried in found.items()}
