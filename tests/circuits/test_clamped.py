"""Every edge by experiment: take one source away from the real model with all else clamped, and read each target."""

import numpy as np
import pytest
import torch

from circuits import attribute, trace
from circuits.holding import hold_attention
from circuits.targets import Direction, Error
from tests.circuits.oracle import norms_in_float64
from tests.circuits.worlds import FAMILIES, dictionary_of, model_of

PROMPT = "a red fox runs"


@pytest.mark.parametrize("kind", ["neurons", "per-layer", "cross-layer", "autoencoder", "mixed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_taking_a_source_away_moves_each_target_by_its_edge(family: str, kind: str):
    """Patterns, norm scales and MLP outputs are held at the clean run's; the source's own writes are left out.

    What a target reads then falls by exactly the weight of the edge. Norms of most families compute in float32.
    """
    model = model_of(family)
    dictionary = dictionary_of(model, kind)
    run = trace(model, dictionary, PROMPT)
    graph = attribute(model, dictionary, PROMPT)
    nodes, dense = graph.nodes, graph.to_dense()
    targets = graph.nodes.where("feature", "neuron", "logit")
    scale = np.abs(dense[targets]).max(1)

    sources = np.concatenate([nodes.where(name)[::13] for name in ("token", "error", "feature", "neuron")])
    readings = readings_of(dictionary, run, graph, targets)
    clean = read_targets(model, run, readings, {}, None)
    for source in sources:
        left = read_targets(model, run, readings, *what_it_writes(dictionary, run, graph, source))

        np.testing.assert_array_less(np.abs((clean - left) - dense[targets, source]), 1e-5 * scale + 1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_taking_a_source_away_moves_a_direction_by_its_edge(family: str):
    model = model_of(family)
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    generator = torch.Generator().manual_seed(5)
    vector = torch.randn(len(model.W_U), generator=generator).to(model.W_U.dtype)
    inside = attribute(model, dictionary, PROMPT, targets=[Direction(vector, "residual_mid", model.layers - 1, -1)])
    last = attribute(model, dictionary, PROMPT, targets=[Direction(model.W_U[:, 3] - model.W_U[:, 7])])

    def read(graph, taken, token) -> float:
        logits, seen = run_clamped(model, run, taken, token, [("residual_mid", model.layers - 1)])
        if graph is last:
            return float(logits[0, -1, 3] - logits[0, -1, 7])
        return float(seen[("residual_mid", model.layers - 1)][0, -1] @ vector)

    for graph in (inside, last):
        (target,) = np.flatnonzero(graph.goal)
        weights = graph.to_dense()[target]
        clean = read(graph, {}, None)
        for source in np.concatenate([graph.nodes.where(name)[::5] for name in ("token", "error", "feature")])[::3]:
            left = read(graph, *what_it_writes(dictionary, run, graph, source))

            assert clean - left == pytest.approx(weights[source], abs=1e-5 * np.abs(weights).max() + 1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_taking_a_source_away_moves_an_error_by_its_edge(family: str):
    """What the MLP puts out along the error, its neurons' slopes held, less what the units of that place write."""
    model = model_of(family)
    dictionary, neurons = dictionary_of(model, "per-layer"), dictionary_of(model, "neurons")
    layer, position = 1, 3
    with norms_in_float64():
        run, whole = trace(model, dictionary, PROMPT), trace(model, neurons, PROMPT)
        graph = attribute(model, dictionary, PROMPT, targets=[Error(layer, position)])
    (target,) = np.flatnonzero(graph.goal)
    weights = graph.to_dense()[target]
    along = run.errors[layer, position] / run.errors[layer, position].norm()
    here = (whole.layer == layer) & (whole.position == position)
    units, inputs = whole.unit[here], whole.inputs[layer][position, None]
    vectors, constants = neurons.reading(layer, inputs.expand(len(units), -1), units)
    slopes = whole.activation[here] / (vectors @ inputs[0] + constants)
    written = run.frozen.written(neurons.writing(layer, units, layer), layer, torch.tensor([position]), neurons.writes)

    def read(taken, token) -> float:
        with norms_in_float64():
            _, seen = run_clamped(model, run, taken, token, [(neurons.reads, layer)])
        return float((slopes * (vectors @ seen[(neurons.reads, layer)][0, position])) @ (written @ along))

    clean, found = read({}, None), []
    below = np.isin(graph.nodes.kind, ("token", "error", "feature")) & (graph.nodes.layer < layer)
    for source in np.flatnonzero(below)[::2]:
        left = read(*what_it_writes(dictionary, run, graph, source))

        found.append(clean - left)
        assert clean - left == pytest.approx(weights[source], abs=1e-6 * np.abs(weights).max())
    assert np.abs(found).max() > 0


def what_it_writes(dictionary, run, graph, source) -> tuple[dict, int | None]:
    """What a source adds to MLP outputs, layer -> (position, vector); or the position of the token that it is."""
    nodes = graph.nodes
    layer, position, unit = int(nodes.layer[source]), int(nodes.position[source]), int(nodes.feature[source])
    if nodes.kind[source] == "token":
        return {}, position
    if nodes.kind[source] == "error":
        return {layer: (position, run.errors[layer, position])}, None
    taken = {}
    for to in dictionary.written_layers(layer):
        vector = float(nodes.activation[source]) * dictionary.writing(layer, torch.tensor([unit]), to)
        taken[to] = position, run.frozen.written(vector, to, torch.tensor([position]), dictionary.at(to).writes)[0]
    return taken, None


def readings_of(dictionary, run, graph, targets) -> list[tuple]:
    """Each target as what a row of `targets` is read from: (site or None of a logit, position, vector, constant)."""
    nodes, readings = graph.nodes, []
    for row in targets:
        layer, position, unit = int(nodes.layer[row]), int(nodes.position[row]), int(nodes.feature[row])
        if nodes.kind[row] == "logit":
            readings.append((None, -1, unit, 0.0))
        else:
            vector, constant = dictionary.reading(layer, run.inputs[layer][position, None], torch.tensor([unit]))
            readings.append(((dictionary.at(layer).reads, layer), position, vector[0], float(constant[0])))
    return readings


def read_targets(model, run, readings, taken, token) -> np.ndarray:
    """The value of every target in the real model when some vectors, or one token's embedding, are left out."""
    sites = list(dict.fromkeys(site for site, *_ in readings if site))
    logits, read = run_clamped(model, run, taken, token, sites)
    centred = logits[0, -1] - logits[0, -1].mean()
    values = []
    for site, position, vector, constant in readings:
        values.append(float(read[site][0, position] @ vector) + constant if site else float(centred[vector]))
    return np.array(values)


def run_clamped(model, run, taken, token, wanted) -> tuple[torch.Tensor, dict]:
    """Logits, and what stands at the sites wanted; patterns, scales and MLP outputs held, some vectors left out."""
    layers = range(model.layers)
    scales = ["attention_scale", "mlp_scale"]
    scales += ["attention_post_scale", "mlp_post_scale"] if model.family.post_norms else []
    held = [(name, layer) for layer in layers for name in scales] + [("final_scale", 0)]
    _, seen = model.run(run.tokens[None], read=[*held, *(("mlp_output", layer) for layer in layers)])
    edits = {site: (lambda s, site=site: seen[site].clone()) for site in held} | hold_attention(run)
    for layer in layers:
        output = seen[("mlp_output", layer)].clone()
        if layer in taken:
            position, vector = taken[layer]
            output[0, position] -= vector
        edits[("mlp_output", layer)] = lambda _, output=output: output
    if token is not None:
        edits[("token_embedding", 0)] = lambda x: torch.where(torch.arange(x.shape[1])[:, None] == token, 0 * x, x)
    return model.run(run.tokens[None], edit=edits, read=wanted)
