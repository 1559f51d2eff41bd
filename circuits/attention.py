"""Which heads carried an edge: the exact split of its weight over the heads of each layer on the way.

    Σ_head load[layer, head] + bypass[layer] + later[layer] = weight,   for every layer

Each layer is a whole split of its own, a view of the same edge: loads of different layers must not be added up.

Source: METHODS section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from circuits.attribution.direct import read_targets
from circuits.errors import BadOption
from circuits.frozen import FrozenAttention
from circuits.sweep import Gradient, sweep_back
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary
from graphs.graph import AttributionGraph
from graphs.heads import Heads
from graphs.paths import edge_influence

SPLIT = ("feature", "neuron", "error", "token")
MOST_HEADS = 3  # told of an edge
MOST_EDGES = 2000  # split when a graph is traced
ROOM = 2**31  # bytes that splitting some edges at once may take
AT_ONCE = 128  # edges, whose values at every head are multiplied


@dataclass(frozen=True, eq=False)
class HeadLoadings:
    """The weight of some edges, split at each layer. All in the target's units, float64.

    load: what passed through each head. [edge layer head] bypass: what passed beside the layer's attention.
    later: what the source writes only after it. [edge layer] Layers that the edge does not cross hold zeros.
    """

    load: Float[np.ndarray, "edge layer head"]
    bypass: Float[np.ndarray, "edge layer"]
    later: Float[np.ndarray, "edge layer"]


@torch.no_grad()
def load_heads(
    run: Trace, dictionary: Dictionary, graph: AttributionGraph, edges: Int[np.ndarray, "edge"]
) -> HeadLoadings:
    """Split these edges of a graph over the heads they went through.

    run: the trace of the graph's own prompt. edges: rows of the graph's edge table; sources may be units, errors and
    tokens, targets units and whatever the goal holds.

    Takes one pass forward for the sources and one back for the targets, whatever the number of edges.

    Raises:
        BadOption: an edge comes from a bias, or attention is replaced.
    """
    if run.attended:
        replaced = ", ".join(map(str, sorted(run.attended)))
        raise BadOption(
            f"attention is replaced in layers {replaced}: no edge passes a head there. Split edges of a graph that was "
            "traced through the model's own attention."
        )
    unknown = np.flatnonzero(~np.isin(graph.nodes.kind[graph.source[edges]], SPLIT))
    if len(unknown):
        label = graph.nodes.label[graph.source[edges[unknown[0]]]]
        raise BadOption(f"edges from units, errors and tokens can be split over heads, found one from {label!r}.")
    layers = run.frozen.layers
    sources, of_source = np.unique(graph.source[edges], return_inverse=True)
    targets, of_target = np.unique(graph.target[edges], return_inverse=True)
    heads = run.frozen.attention[0].weights.heads
    load, bypass, later = (np.zeros((len(edges), layers, *more)) for more in ((heads,), (), ()))

    chunk, order = read_targets(run, dictionary, graph, targets)
    row = np.argsort(order)[of_target]
    written = _written(run, dictionary, graph, sources)
    before, beside = _carry_forward(run, dictionary, written)
    mlp_gradients: dict[int, Tensor] = {}
    for place, layer, gradient in sweep_back(run.frozen, dictionary, chunk, stop_early=False):
        g = _dense(gradient, len(run.tokens))
        if place == "mlp":
            mlp_gradients[layer] = g
        elif place == "attention":
            crossed = np.flatnonzero((row < gradient.live) & (graph.nodes.layer[graph.source[edges]] < layer))
            if not len(crossed):
                continue
            split = _through_heads(run.frozen.attention[layer], before[layer], g)
            for some in np.split(crossed, range(AT_ONCE, len(crossed), AT_ONCE)):
                t, s = (torch.from_numpy(index[some]) for index in (row, of_source))
                passed = einsum(split[0][s], split[1][t], "n key h e, n key h e -> n h")
                load[some, layer] = passed.double().cpu().numpy()
            t, s = (torch.from_numpy(index[crossed]) for index in (row, of_source))
            bypass[crossed, layer] = (beside[layer][s] * g[t]).sum((-1, -2)).double().cpu().numpy()
    for layer in range(layers):
        for to, vectors in written.items():
            if to >= layer and to >= 0:
                g = mlp_gradients[to]
                reaches = np.flatnonzero((row < len(g)) & (graph.nodes.layer[graph.source[edges]] < layer))
                t, s = (torch.from_numpy(index[reaches]) for index in (row, of_source))
                later[reaches, layer] += (vectors[s] * g[t]).sum((-1, -2)).double().cpu().numpy()
    for edge in np.flatnonzero(graph.nodes.kind[graph.target[edges]] == "error"):
        source, target = (int(ends[edges[edge]]) for ends in (graph.source, graph.target))
        later[edge] -= _taken_off(run, graph, written, source, int(of_source[edge]), target)
    return HeadLoadings(load, bypass, later)


def strongest_heads(
    run: Trace, dictionary: Dictionary, graph: AttributionGraph, edges: Int[np.ndarray, "edge"], most: int = MOST_HEADS
) -> list[list[tuple[int, int, float]]]:
    """For each edge the heads that carried most of it: (layer, head, load), largest first. Raises as `load_heads`."""
    found = []
    while len(found) < len(edges):
        for each in load_heads(run, dictionary, graph, _with_room(run, graph, edges[len(found) :])).load:
            order = np.argsort(-np.abs(each), axis=None, kind="stable")[:most]
            places = [np.unravel_index(at, each.shape) for at in order]
            carried = [(int(layer), int(head), float(each[layer, head])) for layer, head in places]
            found.append([(layer, head, load) for layer, head, load in carried if load])
    return found


def find_heads(run: Trace, dictionary: Dictionary, graph: AttributionGraph) -> Heads | None:
    """Through which heads a graph's edges came: of the MOST_EDGES that carry most of the goal, as far as there is ROOM.

    None where no edge can be said to pass a head: attention is replaced, or all edges come from biases.
    """
    edges = can_be_split(graph)
    if run.attended or not len(edges):
        return None
    edges = edges[np.argsort(-edge_influence(graph)[edges], kind="stable")][:MOST_EDGES]
    edges = _with_room(run, graph, edges)
    return gather_heads(graph, edges, strongest_heads(run, dictionary, graph, edges))


def gather_heads(
    graph: AttributionGraph, edges: Int[np.ndarray, "edge"], found: Sequence[Sequence[tuple[int, int, float]]]
) -> Heads:
    """What `strongest_heads` found of some edges of a graph, as it is kept with it."""
    passed = [at for at, carried in enumerate(found) if carried]
    return Heads(
        source=graph.source[edges[passed]].tolist(),
        target=graph.target[edges[passed]].tolist(),
        carried=[found[at] for at in passed],
        split=len(edges),
        of=len(can_be_split(graph)),
    )


def _with_room(run: Trace, graph: AttributionGraph, edges: Int[np.ndarray, "edge"]) -> Int[np.ndarray, "some"]:
    """The first of these edges, at least one: as many as ROOM allows whose ends are carried through all layers."""
    new = np.zeros(len(edges), dtype=np.int64)  # of a source: what it wrote, and what came of it before and beside
    for ends, held in ((graph.source, 3), (graph.target, 1)):
        new[np.unique(ends[edges], return_index=True)[1]] += held
    needed = np.cumsum(new) * run.frozen.layers * run.residual.nbytes
    return edges[: max(1, int(np.searchsorted(needed, ROOM, side="right")))]


def can_be_split(graph: AttributionGraph) -> Int[np.ndarray, "edge"]:
    """The edges that could have passed a head: from tokens, units and errors; rows of the edge table."""
    return np.flatnonzero(np.isin(graph.nodes.kind[graph.source], SPLIT))


def _taken_off(
    run: Trace, graph: AttributionGraph, written: dict[int, Tensor], source: int, row: int, target: int
) -> Float[np.ndarray, "layer"]:
    """What an error's edge owes to the source's writing at the error's own place, at each layer the edge crosses."""
    assert run.errors is not None
    found = np.zeros(run.frozen.layers)
    layer, position = int(graph.nodes.layer[target]), int(graph.nodes.position[target])
    unit = graph.nodes.kind[source] in ("feature", "neuron") and graph.nodes.position[source] == position
    if unit and layer in written:
        missed = run.errors[layer, position]
        crossed = slice(int(graph.nodes.layer[source]) + 1, layer + (not run.frozen.parallel))
        found[crossed] = float(written[layer][row, position] @ missed / missed.norm())
    return found


def _through_heads(attention: FrozenAttention, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Per head, the values of what comes in, and the gradient of what goes out moved to the keys."""
    weights = attention.weights
    value = rearrange(x @ weights.value, "source key (kv e) -> source key kv e", kv=weights.kv_heads)
    value = value.repeat_interleave(weights.heads // weights.kv_heads, dim=2)
    z = rearrange(g @ weights.out.T, "target query (h e) -> target query h e", h=weights.heads)
    return value, einsum(attention.mixing, z, "h key query, target query h e -> target key h e")


def _written(
    run: Trace, dictionary: Dictionary, graph: AttributionGraph, sources: Int[np.ndarray, "source"]
) -> dict[int, Float[Tensor, "source pos d_model"]]:
    """What each source puts into the residual stream, by the layer after whose MLP it stands; -1 for embeddings."""
    nodes = graph.nodes
    found: dict[int, Tensor] = {}

    def at(layer: int) -> Tensor:
        nothing = run.residual.new_zeros(len(sources), *run.residual.shape)
        return found.setdefault(layer, nothing)

    for i, source in enumerate(sources):
        kind, layer, position = nodes.kind[source], int(nodes.layer[source]), int(nodes.position[source])
        if kind == "token":
            at(-1)[i, position] = run.frozen.embedding[position]
        elif kind == "error" and run.errors is not None:
            at(layer)[i, position] = run.errors[layer, position]
        elif kind in ("feature", "neuron"):
            unit = torch.tensor([int(nodes.feature[source])], device=run.tokens.device)
            here = torch.tensor([position], device=run.tokens.device)
            for to in dictionary.written_layers(layer):
                vector = float(nodes.activation[source]) * dictionary.writing(layer, unit, to)
                at(to)[i, position] = run.frozen.written(vector, to, here, dictionary.at(to).writes)[0]
    return found


def _carry_forward(
    run: Trace, dictionary: Dictionary, written: dict[int, Tensor]
) -> tuple[list[Float[Tensor, "source pos d_model"]], list[Float[Tensor, "source pos d_model"]]]:
    """Each source's part of what every layer's attention reads, and of what goes on beside that attention.

    The two differ in parallel blocks alone, where a skip leads past the attention too.
    """
    some = next(iter(written.values()))
    x = written.get(-1, torch.zeros_like(some))
    before, beside = [], []
    for layer, attention in enumerate(run.frozen.attention):
        attended = torch.stack([attention.forward(each) for each in x])
        skipped = _skip(run, dictionary, layer, x if run.frozen.parallel else x + attended)
        before.append(x)
        beside.append(x + skipped if run.frozen.parallel else x)
        x = x + attended + skipped
        if layer in written:
            x = x + written[layer]
    return before, beside


def _skip(run: Trace, dictionary: Dictionary, layer: int, x: Tensor) -> Float[Tensor, "source pos d_model"]:
    """What the dictionary's skip makes of parts of the stream before an MLP."""
    skip = dictionary.skip(layer)
    if skip is None:
        return torch.zeros_like(x)
    norm, here = run.frozen.mlp_norm[layer], dictionary.at(layer)
    everywhere = torch.arange(x.shape[1], device=x.device)
    read = {"residual_mid": lambda y: y, "mlp_input": norm.apply, "mlp_normalised": norm.normalise}[here.reads]
    return torch.stack([run.frozen.written(read(each) @ skip.T, layer, everywhere, here.writes) for each in x])


def _dense(gradient: Gradient, length: int) -> Float[Tensor, "live pos d_model"]:
    """The gradient of the live targets at every position, zero where they have none."""
    found = gradient.g.new_zeros(gradient.live, length, gradient.g.shape[1])
    for position in range(length):
        targets, g = gradient.at(position)
        found[targets, position] = g
    return found
