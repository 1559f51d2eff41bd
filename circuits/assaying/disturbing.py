"""Level 4: a small change of the stream, and how the layers after it answer: the real ones, and the dictionary's."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuits.assaying import thresholds
from circuits.assaying.bench import Bench
from circuits.clean_outputs import written_by_units
from circuits.holding import hold_attention
from circuits.interventions import ATTENTION
from circuits.sites import Edit, Site
from graphs.assays import Disturbance

KINDS = ("an upstream feature", "a reader's direction", "a random direction")
Added = dict[Site, tuple[int, Tensor]]  # by what is to write it, an attention or an MLP: position and vector


@torch.no_grad()
def test_disturbances(bench: Bench) -> list[Disturbance]:
    """Raise the value of the strongest units by a tenth, in three ways, and follow the answer layer by layer.

    By more of the unit that feeds one most, at its own place; by the unit's own read vector; and by a random vector as
    long as that one. The replacement model has the dictionary for its MLPs, its features live, the clean run's errors,
    attention patterns and norm scales; the real one is run with those held, and live.

    Source: METHODS section 7.2, level 4; Ameisen et al. 2025, "Circuit Tracing", perturbation experiments.
    """
    drawn = torch.Generator().manual_seed(bench.seed)
    chosen = bench.units[: thresholds.DISTURBED].tolist()
    ways = list(_ways(bench, chosen, drawn))
    found = []
    count = bench.count("disturbing both models a little", len(KINDS) * len(ATTENTION))
    for which, kind in enumerate(KINDS):
        changes = [way[which] for way in ways if way[which]]
        replaced = _answers(bench, changes, replaced=True, held=True)
        for attention in ATTENTION:
            real = _answers(bench, changes, replaced=False, held=attention == "frozen")
            found.append(_compare(bench, kind, attention, changes, real, replaced))
            count(1)
    return found


def _ways(bench: Bench, rows: Sequence[int], drawn: torch.Generator) -> Iterator[tuple[Added, Added, Added]]:
    """For each unit the three changes that raise its value; {} where nothing feeds it."""
    run, nodes, dictionary = bench.run, bench.graph.nodes, bench.transcoders
    for row in rows:
        layer, position = int(nodes.layer[row]), int(nodes.position[row])
        unit, at = (torch.tensor([each], device=run.tokens.device) for each in (int(nodes.feature[row]), position))
        wanted = thresholds.RAISED * abs(float(nodes.value[row]))
        read, _ = dictionary.reading(layer, run.inputs[layer][position, None], unit)
        vector = run.frozen.read_residual(read, layer, at, dictionary.at(layer).reads)[0][0]
        along = wanted * vector / vector.square().sum()
        random = torch.randn(len(vector), generator=drawn).to(vector)
        random = random * along.norm() / random.norm()
        before = _before(bench, layer)
        yield _more_upstream(bench, row, wanted), {before: (position, along)}, {before: (position, random)}


def _before(bench: Bench, layer: int) -> Site:
    """What writes last into the stream that the dictionary reads in a layer."""
    if not bench.model.parallel:
        return "attention_output", layer
    return ("mlp_output", layer - 1) if layer else ("token_embedding", 0)


def _more_upstream(bench: Bench, row: int, wanted: float) -> Added:
    """More of the unit with the largest edge to this one, so much that the edge alone gives what is wanted."""
    graph, run, dictionary = bench.graph, bench.run, bench.transcoders
    edges = np.flatnonzero((graph.target == row) & np.isin(graph.nodes.kind[graph.source], ("feature", "neuron")))
    if not len(edges) or wanted == 0:
        return {}
    edge = edges[np.abs(graph.weight[edges]).argmax()]
    source, factor = int(graph.source[edge]), wanted / float(graph.weight[edge])
    layer, position = int(graph.nodes.layer[source]), int(graph.nodes.position[source])
    unit, at = (torch.tensor([each], device=run.tokens.device) for each in (int(graph.nodes.feature[source]), position))
    more = factor * float(graph.nodes.activation[source])
    return {
        ("mlp_output", to): (
            position,
            run.frozen.written(more * dictionary.writing(layer, unit, to), to, at, dictionary.at(to).writes)[0],
        )
        for to in dictionary.written_layers(layer)
    }


def _answers(
    bench: Bench, changes: Sequence[Added], *, replaced: bool, held: bool
) -> Float[Tensor, "change layer pos d_model"]:
    """What attention and MLP of each layer write more than in the clean run, the disturbance itself left out."""
    run, layers = bench.run, range(bench.model.layers)
    sites: list[Site] = [(name, layer) for layer in layers for name in ("attention_output", "mlp_output")]
    scales = bench.model.scales()
    _, clean = bench.model.run(run.tokens[None], read=[*sites, *scales])
    edits: dict[Site, Edit] = {}
    if held:
        edits |= hold_attention(run)
        edits |= {site: (lambda x, site=site: clean[site].expand_as(x)) for site in scales}
    if replaced:
        edits |= _replace_mlps(bench)
    disturbed: dict[Site, Tensor] = {}
    for at, added in enumerate(changes):
        for site, (position, vector) in added.items():
            into = disturbed.setdefault(site, run.residual.new_zeros(len(changes), *run.residual.shape))
            into[at, position] += vector
    for site, vectors in disturbed.items():
        before = edits.get(site, _leave)
        edits[site] = lambda x, before=before, vectors=vectors: before(x) + vectors
    if not len(changes):
        return run.residual.new_zeros(0, bench.model.layers, *run.residual.shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A forward hook edited hook_scale")  # that is what is wanted
        _, seen = bench.model.run(run.tokens.expand(len(changes), -1), edit=edits, read=sites)
    more = {site: seen[site] - clean[site] - disturbed.get(site, 0) for site in sites}
    return torch.stack([more[("attention_output", at)] + more[("mlp_output", at)] for at in layers], dim=1)


def _leave(x: Tensor) -> Tensor:
    return x


def _replace_mlps(bench: Bench) -> dict[Site, Edit]:
    """Edits that put the dictionary in the MLPs' place, with the clean run's errors."""
    run, dictionary = bench.run, bench.transcoders
    acts: dict[int, Tensor] = {}
    inputs: dict[int, Tensor] = {}

    def encode(layer: int) -> Edit:
        def edit(x: Tensor) -> Tensor:
            alive = torch.arange(x.shape[1], device=x.device) >= dictionary.at(layer).silent_positions
            acts[layer], inputs[layer] = dictionary.activations(layer, x) * alive[:, None], x
            return x

        return edit

    def write(layer: int) -> Edit:
        held = run.written[layer] - written_by_units(dictionary, run, layer)
        skip = dictionary.skip(layer)

        def edit(_: Tensor) -> Tensor:
            sources = (each for each in range(layer + 1) if layer in dictionary.written_layers(each))
            out = held + torch.stack([dictionary.decode(each, acts[each], layer) for each in sources]).sum(0)
            return out if skip is None else out + (inputs[layer] - run.inputs[layer]) @ skip.T

        return edit

    edits: dict[Site, Edit] = {}
    for layer in range(run.frozen.layers):
        here = dictionary.at(layer)
        edits[(here.reads, layer)] = encode(layer)
        edits[(here.writes, layer)] = write(layer)
    return edits


def _compare(
    bench: Bench, kind: str, attention: str, changes: Sequence[Added], real: Tensor, replaced: Tensor
) -> Disturbance:
    """The answers of both models so many layers on, each the sum of what all layers since have written."""
    figures: dict[int, list[tuple[float, float, float, float]]] = {}
    for added, ours, theirs in zip(changes, replaced.double(), real.double(), strict=True):
        first = min(_answers_first(site) for site in added)
        put = torch.zeros_like(ours[0])
        for position, vector in added.values():
            put[position] += vector
        for distance in range(1, bench.model.layers - first + 1):
            here = slice(first, first + distance)
            answer, wanted = ours[here].sum(0), theirs[here].sum(0)
            if float(wanted.norm()) > 0:
                figures.setdefault(distance, []).append(
                    (
                        _cosine(answer, wanted),
                        float((answer - wanted).square().sum() / wanted.square().sum()),
                        float(answer.norm() / wanted.norm()),
                        _cosine(answer + put, wanted + put),
                    )
                )
    distances = sorted(figures)
    cosine, error, ratio, stream = (
        [float(np.mean([each[i] for each in figures[distance]])) for distance in distances] for i in range(4)
    )
    counts = [len(figures[distance]) for distance in distances]
    return Disturbance(kind, attention, distances, counts, cosine, error, ratio, stream)


def _answers_first(site: Site) -> int:
    """The first layer that reads what is written at a site."""
    name, layer = site
    return {"token_embedding": 0, "attention_output": layer, "mlp_output": layer + 1}[name]


def _cosine(a: Tensor, b: Tensor) -> float:
    lengths = float(a.norm() * b.norm())
    return float((a * b).sum()) / lengths if lengths > 0 else 0.0
