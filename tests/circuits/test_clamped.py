"""Every edge by experiment: take one source away from the real model with all else clamped, and read each target."""

import numpy as np
import pytest
import torch

from circuits import attribute, trace
from circuits.interventions import hold_attention
from tests.circuits.worlds import FAMILIES, dictionary_of, model_of

PROMPT = "a red fox runs"


@pytest.mark.parametrize("kind", ["neurons", "per-layer", "cross-layer"])
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
    clean = read_targets(model, dictionary, run, graph, targets, {}, None)
    for source in sources:
        layer, position, unit = int(nodes.layer[source]), int(nodes.position[source]), int(nodes.feature[source])
        taken, token = {}, None
        if nodes.kind[source] == "token":
            token = position
        elif nodes.kind[source] == "error":
            taken[layer] = run.errors[layer, position]
        else:
            activation = float(nodes.activation[source])
            for to in dictionary.written_layers(layer):
                vector = activation * dictionary.writing(layer, torch.tensor([unit]), to)
                taken[to] = run.frozen.written(vector, to, torch.tensor([position]), dictionary.writes)[0]
        left = read_targets(
            model, dictionary, run, graph, targets, {to: (position, v) for to, v in taken.items()}, token
        )

        np.testing.assert_array_less(np.abs((clean - left) - dense[targets, source]), 1e-5 * scale + 1e-9)


def read_targets(model, dictionary, run, graph, targets, taken, token) -> np.ndarray:
    """The value of every target in the real model when some vectors, or one token's embedding, are left out."""
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
    logits, read = model.run(run.tokens[None], edit=edits, read=[(dictionary.reads, layer) for layer in layers])

    nodes, values = graph.nodes, []
    for row in targets:
        layer, position, unit = int(nodes.layer[row]), int(nodes.position[row]), int(nodes.feature[row])
        if nodes.kind[row] == "logit":
            values.append(float(logits[0, -1, unit] - logits[0, -1].mean()))
        else:
            vector, constant = dictionary.reading(layer, run.inputs[layer][position, None], torch.tensor([unit]))
            values.append(float((read[(dictionary.reads, layer)][0, position] * vector[0]).sum() + constant[0]))
    return np.array(values)
