"""Level 1: each edge of the graph by experiment, one source taken away from the real model with all else held."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.assaying.bench import Bench
from circuits.attribution.direct import UNITS
from circuits.holding import hold_attention
from circuits.interventions import batches
from circuits.sites import Edit, Site
from circuits.tracing import Constant
from circuits.transcoders.lorsa import Lorsa
from circuits.transcoders.with_attention import attention_of
from graphs.assays import Edges
from graphs.nodes import OF_ATTENTION

Place = tuple[str, int]  # where in the model something is written: "embedding", "attention" or "mlp", and the layer


@torch.no_grad()
def test_edges(bench: Bench) -> list[Edges]:
    """Every edge of the graph against what its target loses when its source's own writes are left out.

    Attention patterns, norm scales and MLP outputs (but for a dictionary's skip) are held at the clean run's, and what
    replaced attentions put out, so that what moves a target is the direct effect alone. Sources go through the model
    many at a time.

    Source: METHODS section 7.2, level 1. True by construction: it tests the code, not the mechanism.
    """
    graph, run = bench.graph, bench.run
    written = {int(row): parts for row in np.unique(graph.source) if (parts := _written(bench, int(row)))}
    read = np.isin(graph.nodes.kind[graph.target], (*UNITS, "logit"))
    tested = read & np.isin(graph.source, list(written))
    targets = np.unique(graph.target[tested])
    sources = np.array(sorted(written), dtype=np.int64)
    measured = np.empty((len(sources), len(targets)))
    held = _hold_all(bench)
    numbers = sum(x.numel() for x in run.inputs)
    done = 0
    for some in batches(sources.tolist(), run, per_row=numbers):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="A forward hook edited hook_scale")  # that is what is wanted
            left = _leave_out(bench, held, [{}, *(written[row] for row in some)], targets)
        measured[done : done + len(some)] = (left[:1] - left[1:]).double().cpu().numpy()
        done += len(some)
        bench.progress("taking sources away, one edge at a time", done, len(sources))
    weight, gross = graph.weight[tested], graph.nodes.gross[graph.target[tested]]
    found = measured[np.searchsorted(sources, graph.source[tested]), np.searchsorted(targets, graph.target[tested])]
    off = np.abs(found - weight) / np.where(gross == 0, 1, gross)
    worst = int(off.argmax()) if len(off) else -1
    rows = np.flatnonzero(tested)
    return [
        Edges(
            tested=int(tested.sum()),
            left_out=int((~tested).sum()),
            largest=float(off[worst]) if len(off) else float("nan"),
            source=int(graph.source[rows[worst]]) if len(off) else -1,
            target=int(graph.target[rows[worst]]) if len(off) else -1,
        )
    ]


def _written(bench: Bench, row: int) -> dict[Place, tuple[int | None, Tensor]]:
    """What a source writes where: (position, vector), or (None, vectors of all positions). Empty: nothing to leave out.

    What is read with a target (an encoder's bias) is written nowhere, and untraced units are no units of the graph.
    """
    run, nodes, dictionary = bench.run, bench.graph.nodes, bench.transcoders
    kind, layer, position = str(nodes.kind[row]), int(nodes.layer[row]), int(nodes.position[row])
    if kind == "token":
        return {("embedding", 0): (position, run.frozen.embedding[position])}
    if kind == "error" and nodes.feature[row] == OF_ATTENTION:
        return {("attention", layer): (position, run.attended[layer].errors[position])}
    attention = attention_of(dictionary)
    if kind == "attention" and attention is not None:
        unit, at = (torch.tensor([each], device=run.tokens.device) for each in (int(nodes.feature[row]), position))
        vector = float(nodes.activation[row]) * attention.writing(layer, unit)
        return {("attention", layer): (position, run.frozen.attention_written(vector, layer, at, attention.writes)[0])}
    if kind == "error" and run.errors is not None:
        return {("mlp", layer): (position, run.errors[layer, position])}
    if kind in ("feature", "neuron"):
        unit, at = (torch.tensor([each], device=run.tokens.device) for each in (int(nodes.feature[row]), position))
        value = float(nodes.activation[row])
        return {
            ("mlp", to): (
                position,
                run.frozen.written(value * dictionary.writing(layer, unit, to), to, at, dictionary.at(to).writes)[0],
            )
            for to in dictionary.written_layers(layer)
        }
    for constant in run.constants:
        if kind == "bias" and _is(constant, layer, position, str(nodes.label[row])):
            return {(constant.place, max(layer, 0)): (None, constant.vectors)}
    return {}


def _is(constant: Constant, layer: int, position: int, label: str) -> bool:
    """Whether a bias node is this constant: node and constant share name, layer and position."""
    name = constant.name if constant.layer < 0 else f"{constant.name} L{constant.layer}"
    return (constant.layer, constant.position) == (layer, position) and (label == name or label.startswith(f"{name} @"))


def _hold_all(bench: Bench) -> dict[Site, Tensor]:
    """Every norm scale and MLP output of the clean run, and what replaced attentions put out."""
    sites: list[Site] = [*bench.model.scales(), *(("mlp_output", layer) for layer in range(bench.model.layers))]
    sites += [("attention_output", layer) for layer in bench.run.attended]
    _, seen = bench.model.run(bench.run.tokens[None], read=sites)
    return {site: seen[site] for site in sites}


def _leave_out(
    bench: Bench,
    held: dict[Site, Tensor],
    taken: Sequence[dict[Place, tuple[int | None, Tensor]]],
    targets: Int[np.ndarray, "target"],
) -> Float[Tensor, "row target"]:
    """What every target reads when, row by row, some vectors are not written."""
    run, dictionary = bench.run, bench.transcoders
    missing: dict[Place, Tensor] = {}
    for row, parts in enumerate(taken):
        for place, (position, vectors) in parts.items():
            into = missing.setdefault(place, run.residual.new_zeros(len(taken), *run.residual.shape))
            into[row, slice(None) if position is None else position] += vectors

    live: dict[Place, Tensor] = {}  # what the dictionary reads, layer by layer, as the run goes up

    def notice(place: Place) -> Edit:
        return lambda x: live.setdefault(place, x)

    attention = attention_of(dictionary)
    attended = () if attention is None else attention.numbers
    noticed = {(attention.reads, layer): notice(("attention", layer)) for layer in attended if attention is not None}

    def hold(site: Site, value: Tensor) -> Edit:
        name, layer = site
        skip = dictionary.skip(layer) if name == "mlp_output" else None

        def edit(now: Tensor) -> Tensor:
            if site in noticed:  # what reads a held output reads it before it is held
                noticed[site](now)
            out = value.expand(len(taken), *value.shape[1:])
            place = (name.removesuffix("_output"), layer)
            if place in missing:
                out = out - missing[place]
            if skip is not None:
                skipped = (live[("mlp", layer)] - run.inputs[layer]) @ skip.T
                writes = dictionary.at(layer).writes
                out = out + torch.stack([run.frozen.written(x, layer, everywhere, writes) for x in skipped])
            return out

        return edit

    everywhere = torch.arange(len(run.tokens), device=run.tokens.device)
    edits: dict[Site, Edit] = dict(hold_attention(run))
    edits |= {(dictionary.at(layer).reads, layer): notice(("mlp", layer)) for layer in range(bench.model.layers)}
    edits |= noticed
    edits |= {site: hold(site, value) for site, value in held.items()}
    for (place, layer), lacking in missing.items():
        if place != "mlp" and not (place == "attention" and layer in run.attended):
            site = ("token_embedding", 0) if place == "embedding" else ("attention_output", layer)
            edits[site] = lambda now, lacking=lacking: now - lacking
    logits, _ = bench.model.run(run.tokens.expand(len(taken), -1), edit=edits)
    read = logits.new_empty(len(taken), len(targets))
    for at, values in _read(bench, live, logits, targets):
        read[:, at] = values
    return read


def _read(
    bench: Bench, live: dict[Place, Tensor], logits: Float[Tensor, "row pos vocab"], targets: Int[np.ndarray, "target"]
) -> Iterator[tuple[Tensor, Float[Tensor, "row _"]]]:
    """The value of every target but for its constants, some targets at a time with where they stand among all."""
    nodes, dictionary, run = bench.graph.nodes, bench.transcoders, bench.run
    goals = nodes.where("logit")
    against = list(bench.graph.provenance["against"])
    is_logit = nodes.kind[targets] == "logit"
    for at in np.flatnonzero(is_logit):
        wrong = against[int(np.searchsorted(goals, targets[at]))]
        here = logits[:, int(nodes.position[targets[at]])]
        other = here.mean(-1) if wrong < 0 else here[:, wrong]
        yield torch.tensor([at]), (here[:, int(nodes.feature[targets[at]])] - other)[:, None]
    attends = nodes.kind[targets] == "attention"
    columns = (nodes.layer[targets], nodes.position[targets], attends)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for layer, position, attending in sorted({place for place, logit in zip(rows, is_logit, strict=True) if not logit}):
        here = (nodes.layer[targets] == layer) & (nodes.position[targets] == position) & (attends == attending)
        at = np.flatnonzero(here & ~is_logit)
        unit = torch.from_numpy(nodes.feature[targets[at]]).to(logits.device)
        attention = attention_of(dictionary)
        if attending and attention is not None:
            vectors, _ = attention.reading(layer, unit)
            patterns = run.attended[layer].patterns
            if patterns is None or not isinstance(attention, Lorsa):
                yield torch.from_numpy(at), live[("attention", layer)][:, position] @ vectors.T
                continue
            pattern = patterns[attention.head_of(unit), position]
            seen = torch.einsum("rqd,nd->rnq", live[("attention", layer)], vectors)
            yield torch.from_numpy(at), torch.einsum("rnq,nq->rn", seen, pattern)
            continue
        vectors, _ = dictionary.reading(layer, run.inputs[layer][position].expand(len(unit), -1), unit)
        yield torch.from_numpy(at), live[("mlp", layer)][:, position] @ vectors.T
