"""Whether the assay can fail: `python -m benchmarks.verdicts [--prompts N]`.

Five kinds of graph of `world`, of which only the first tells the truth, and for each how often the assay says so.
A graph is called supported when every claim in NEEDED is. That rule was made on README's two prompts and the first five
drawn, and tested on the next twenty with graphs pruned to 80 % of the influence: 17 of 20 true ones were supported, 0
of 20 of the others but for (b'), 10 of 20. On the same seven prompts 90 % was then found to keep enough; all
twenty-seven are left out here, so that what is tested is new to rule and pruning. Results go to
benchmarks/results/verdicts.json, graph by graph, and from there to verdicts.md; graphs that were tested already, with
the same weights, are not tested again: remove verdicts.json when a bar or a measure has changed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.world.language import make_language
from benchmarks.world.prompts import SHOWCASE, TRAIN, Prompt, two_hop
from circuits import assay, attribute, load_model, load_transcoders, trace
from circuits.assaying.bench import strongest_units
from circuits.assaying.controls import ShuffledDecoders
from circuits.model import Model
from circuits.sampling import sample_prompts
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary
from circuits.transcoders.transcoders import Transcoders
from graphs import prune
from graphs.assays import Assay
from graphs.graph import AttributionGraph

RESULTS = Path(__file__).parent / "results"
EXPERIMENTS = ("subsets", "edges")
CONTROLS = 20
# Whether features speak for the MLPs at all, whether the wiring is that of this run, whether the graph is enough. No
# claim of single ablations: of the five true graphs the rule was made on, influence ranked what ablation does in one,
# and sizes were predicted in none. Nor that the graph is needed, which held in three: other features can stand in for
# it. Asking for these too would refuse true graphs.
NEEDED = (
    "features say most of what the MLPs put out on this prompt, errors the least",
    "each edge is what its target loses without its source, all else held",
    "the graph's features are enough (mean ablation of all others)",
)
LOOKED_AT = 25  # prompts, the first drawn
NODES = 0.9  # share of the influence that graphs keep
UNITS = 8  # of a fresh dictionary, active at a token and layer in the mean: as many as world's
SAMPLES, LENGTH = 256, 12  # what its decoder is fitted on
RIDGE = 1e-3  # of the mean square of its activations


@dataclass(frozen=True)
class World:
    """The weights, the prompts with their graphs, and a model that knows nothing, with a dictionary of its own."""

    model: Model
    transcoders: Transcoders
    prompts: list[Prompt]
    random_model: Model
    fresh: Dictionary


@dataclass(frozen=True)
class Case:
    """One prompt: its trace, its whole graph, what is kept of it, and which of the prompts it is."""

    number: int
    prompt: Prompt
    run: Trace
    whole: AttributionGraph
    graph: AttributionGraph


Made = tuple[Model, Dictionary, AttributionGraph]


def as_traced(world: World, case: Case) -> Made:
    return world.model, world.transcoders, case.graph


def with_key_node_swapped(world: World, case: Case) -> Made:
    """The strongest feature stands for another active one of its layer and position; edges are left."""
    key, other = find_swap(case)
    columns = {name: getattr(case.graph.nodes, name).copy() for name in ("feature", "activation", "label")}
    for name, column in columns.items():
        column[key] = getattr(case.whole.nodes, name)[other]
    return world.model, world.transcoders, replace(case.graph, nodes=case.graph.nodes.with_columns(**columns))


def with_key_node_left_out(world: World, case: Case) -> Made:
    """The strongest feature gives way to another active one of its layer and position, which brings its own edges."""
    key, other = find_swap(case)
    known = {place: row for row, place in enumerate(_places(case.whole))}
    rows = [known[place] for row, place in enumerate(_places(case.graph)) if row != key]
    return world.model, world.transcoders, case.whole.select(np.sort([*rows, other]))


def of_another_prompt(world: World, case: Case) -> Made:
    """How another prompt, of another state, comes by this answer, told of this prompt: what is active here of it."""
    length, state = len(case.prompt.words), case.prompt.state
    others = [each for each in two_hop(make_language()) if each.state != state and len(each.words) == length]
    other = others[int(np.random.default_rng(case.number).integers(len(others)))]
    graph = prune(attribute(world.model, world.transcoders, other.text, list(case.prompt.answers)), nodes=NODES)
    nodes = graph.nodes
    run = case.run
    places = zip(run.layer.tolist(), run.position.tolist(), run.unit.tolist(), strict=True)
    active = dict(zip(places, run.activation.tolist(), strict=True))
    here = np.array([place in active for place in _units(graph)])
    graph = graph.select(np.flatnonzero((nodes.kind != "feature") | here))
    nodes, tokens = graph.nodes, case.graph.token_ids
    feature, activation = nodes.feature.copy(), nodes.activation.copy()
    for row, (kind, place) in enumerate(zip(nodes.kind, _units(graph), strict=True)):
        if kind == "token":
            feature[row] = tokens[place[1]]
        elif kind == "feature":
            activation[row] = active[place]
    nodes = nodes.with_columns(feature=feature, activation=activation)
    return world.model, world.transcoders, replace(graph, nodes=nodes, token_ids=tokens, tokens=case.graph.tokens)


def through_shuffled_decoders(world: World, case: Case) -> Made:
    shuffled: Any = ShuffledDecoders(world.transcoders, case.number)
    graph = prune(attribute(world.model, shuffled, case.prompt.text, list(case.prompt.answers)), nodes=NODES)
    return world.model, world.transcoders, graph


def of_a_random_model(world: World, case: Case) -> Made:
    """The graph of what it says itself, rightly traced: here the question is what is made of it."""
    graph = prune(attribute(world.random_model, world.fresh, case.prompt.text, max_logits=1), nodes=NODES)
    return world.random_model, world.fresh, graph


ARMS: dict[str, tuple[str, Callable[[World, Case], Made]]] = {
    "a": ("as it was traced", as_traced),
    "b": ("its strongest feature swapped for a random active one, edges left", with_key_node_swapped),
    "b'": ("the same, the random one with edges of its own", with_key_node_left_out),
    "c": ("another prompt's graph", of_another_prompt),
    "d": ("traced through shuffled decoders", through_shuffled_decoders),
    "e": ("a random model's, with fresh transcoders", of_a_random_model),
}


def find_swap(case: Case) -> tuple[int, int]:
    """The strongest feature beside which another is active that the graph left out; and that, a row of the whole."""
    nodes, whole, places = case.graph.nodes, case.whole.nodes, _places(case.whole)
    kept = set(_places(case.graph))
    free = np.array([row for row in whole.where("feature").tolist() if places[row] not in kept])
    for key in strongest_units(case.graph).tolist():
        near = free[(whole.layer[free] == nodes.layer[key]) & (whole.position[free] == nodes.position[key])]
        if len(near):
            return key, int(np.random.default_rng(case.number).choice(near))
    raise ValueError(f"{case.prompt.text!r}: every active feature is in the graph")


def find_prompts(model: Model, count: int) -> list[Prompt]:
    """Held-out two-hop questions that the model answers, drawn by lot; not those that the rule was made on."""
    shown = {text for text, _ in SHOWCASE}
    pool = [each for each in two_hop(make_language()) if each.split != TRAIN and each.text not in shown]
    found = []
    for i in np.random.default_rng(0).permutation(len(pool)).tolist():
        logits, _ = model.run(model.tokenize(pool[i].text)[None])
        if model.texts([int(logits[0, -1].argmax())])[0].strip() == pool[i].answers[0]:
            found.append(pool[i])
        if len(found) == LOOKED_AT + count:
            break
    return found[LOOKED_AT:]


def make_fresh(model: Model, like: Transcoders) -> Transcoders:
    """Random encoders, with as many features active as of world's, and the decoders that fit them by least squares."""
    numbers = torch.Generator().manual_seed(0)
    prompts = sample_prompts(model, 1, count=SAMPLES, length=LENGTH, seed=0)
    sites = [(name, layer) for layer in range(model.layers) for name in (like.reads, like.writes)]
    _, seen = model.run(prompts, read=sites)
    encoders, thresholds, decoders, biases = [], [], [], []
    for layer in range(model.layers):
        x, out = (seen[(name, layer)][:, like.silent_positions :].flatten(0, 1) for name in (like.reads, like.writes))
        encoder = torch.randn(like.W_enc[layer].shape, generator=numbers).to(x) / x.norm(dim=-1).mean()
        before = x @ encoder.T
        threshold = torch.quantile(before[:, : 2**10].flatten()[: 2**20], 1 - UNITS / like.units).clamp_min(0)
        acts = torch.where(before > threshold, before, 0)
        bias = out.mean(0)
        square = acts.T @ acts
        square += RIDGE * square.diagonal().mean() * torch.eye(like.units).to(square)
        encoders.append(encoder)
        thresholds.append(threshold.expand(like.units).clone())
        decoders.append(torch.linalg.solve(square, acts.T @ (out - bias))[:, None])
        biases.append(bias)
    return replace(
        like,
        name="fresh",
        content_hash="fresh",
        W_enc=encoders,
        b_enc=[torch.zeros_like(each) for each in thresholds],
        threshold=thresholds,
        W_dec=decoders,
        b_dec=biases,
        notes={},
    )


def test_all(world: World, done: dict[str, Any], keep: Callable[[], None]) -> None:
    """Every arm on every prompt that has no result yet; prompt by prompt, so that an early end leaves whole rows."""
    for number, prompt in enumerate(world.prompts):
        case = None
        for arm, (_, make) in ARMS.items():
            if f"{arm} {prompt.text}" in done:
                continue
            began = time.perf_counter()
            case = case or make_case(world, number)
            model, transcoders, graph = make(world, case)
            result = assay(model, transcoders, graph, experiments=EXPERIMENTS, controls=CONTROLS)
            done[f"{arm} {prompt.text}"] = record(result, case)
            keep()
            verdict = "supported" if is_supported(result) else "not supported"
            print(f"{arm:3}{verdict:14} {time.perf_counter() - began:5.1f} s  {prompt.text}", flush=True)


def make_case(world: World, number: int) -> Case:
    prompt = world.prompts[number]
    run = trace(world.model, world.transcoders, prompt.text)
    whole = attribute(world.model, world.transcoders, prompt.text, list(prompt.answers))
    return Case(number, prompt, run, whole, prune(whole, nodes=NODES))


def is_supported(result: Assay) -> bool:
    """Whether every claim that is needed was tested and held."""
    verdicts = {each.claim: each.verdict for each in result.verdicts}
    return all(verdicts[claim] == "supported" for claim in NEEDED)


def record(result: Assay, case: Case) -> dict[str, Any]:
    named = case.graph.nodes.label[case.graph.nodes.where("feature")]
    return {
        "supported": is_supported(result),
        "state": any(case.prompt.state in str(label) for label in named),
        "verdicts": {each.claim: each.verdict for each in result.verdicts},
    }


def report(world: World, done: dict[str, Any]) -> str:
    """The page of results."""
    found = {arm: [each for key, each in done.items() if key.split(" ")[0] == arm] for arm in ARMS}
    count = min(len(each) for each in found.values())
    lines = [
        "# Can the assay fail?",
        "",
        f"`python -m benchmarks.verdicts`: {count} held-out two-hop prompts of `world` that it answers (model "
        f"{world.model.content_hash}, transcoders {world.transcoders.content_hash}), {CONTROLS} random sets. A graph "
        "is called supported when all of these are, a rule made on seven other prompts; graphs keep "
        f"{NODES:.0%} of the influence:",
        "",
        *(f"- {claim}" for claim in NEEDED),
        "",
        "Twenty other prompts were tested before, with graphs that kept 80 %: 17 of 20 of (a) were supported, 10 of "
        "20 of (b'), none of the others. The key of (b) and (b') is the feature of most influence; in the real model "
        "it is not always one that matters, so that a graph without it can be enough.",
        "",
        "| graph | called supported | right |",
        "|---|---|---|",
    ]
    for arm, (words, _) in ARMS.items():
        yes, total = sum(each["supported"] for each in found[arm]), len(found[arm])
        right = sum(each["supported"] and each["state"] for each in found["a"]) if arm == "a" else total - yes
        lines.append(f"| ({arm}) {words} | {yes} of {total} | {right / max(total, 1):.0%} |")
    state = sum(each["state"] for each in found["a"])
    lines += [
        "",
        "(a) is right when the graph is supported and has a feature of the state that the question goes through, as "
        f"{state} of {len(found['a'])} have; the others are right when the graph is not supported.",
        "",
        "How often each claim was supported, of how often it was tested:",
        "",
        "| claim | " + " | ".join(f"({arm})" for arm in ARMS) + " |",
        "|---" * (1 + len(ARMS)) + "|",
    ]
    for claim in dict.fromkeys(claim for each in found["a"] for claim in each["verdicts"]):
        verdicts = {arm: [each["verdicts"].get(claim) for each in found[arm]] for arm in ARMS}
        tested = {arm: sum(each in ("supported", "not supported") for each in said) for arm, said in verdicts.items()}
        cells = [f"{verdicts[arm].count('supported')} of {tested[arm]}" for arm in ARMS]
        lines.append(f"| {claim} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _places(graph: AttributionGraph) -> list[tuple[str, int, int, int, str]]:
    nodes = graph.nodes
    columns = (nodes.kind, nodes.layer, nodes.position, nodes.feature, nodes.label)
    return [(str(k), int(a), int(p), int(f), str(label)) for k, a, p, f, label in zip(*columns, strict=True)]


def _units(graph: AttributionGraph) -> list[tuple[int, int, int]]:
    return [place[1:4] for place in _places(graph)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=20)
    given = parser.parse_args(arguments)
    model = load_model("world", device="cpu")
    transcoders: Any = load_transcoders("world", model)
    random_model = model.shuffled(0)
    fresh = make_fresh(random_model, transcoders)
    world = World(model, transcoders, find_prompts(model, given.prompts), random_model, fresh)
    file, made = RESULTS / "verdicts.json", [model.content_hash, transcoders.content_hash, list(NEEDED), NODES]
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    done: dict[str, Any] = known["done"] if known.get("made") == made else {}

    def keep() -> None:
        file.write_text(json.dumps({"made": made, "done": done}, indent=1) + "\n", encoding="utf-8")
        (RESULTS / "verdicts.md").write_text(report(world, done), encoding="utf-8")

    test_all(world, done, keep)
    keep()


if __name__ == "__main__":
    main(sys.argv[1:])
