"""Interventions in the real model against plainer ways to do the same thing, and their complaints."""

import numpy as np
import pytest
import torch

from circuits import attribute, intervene, trace
from circuits.errors import BadIntervention
from circuits.interventions import Intervention
from tests.circuits.worlds import FAMILIES, dictionary_of, model_of

PROMPT = "a red fox runs"


def some_units(run, count: int = 6) -> list[Intervention]:
    chosen = np.linspace(0, len(run.layer) - 1, count).astype(int)
    return [Intervention(int(run.layer[i]), int(run.position[i]), int(run.unit[i])) for i in chosen]


@pytest.mark.parametrize("attention", ["live", "frozen"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_factor_of_one_changes_nothing(family: str, attention: str):
    model = model_of(family)
    dictionary = dictionary_of(model, "cross-layer")
    run = trace(model, dictionary, PROMPT)
    untouched = [[Intervention(each.layer, each.position, each.unit, 1.0)] for each in some_units(run)]

    logits = intervene(model, dictionary, run, untouched, attention=attention)

    torch.testing.assert_close(logits, run.logits.expand_as(logits), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
def test_many_at_once_are_what_each_is_alone(family: str):
    model = model_of(family)
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    units = some_units(run)

    together = intervene(model, dictionary, run, [[unit] for unit in units])

    for row, unit in enumerate(units):
        torch.testing.assert_close(together[row], intervene(model, dictionary, run, [[unit]])[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_ablating_a_last_layer_neuron_is_the_model_without_that_neuron(family: str):
    model = model_of(family)
    neurons = dictionary_of(model, "neurons")
    last, unit = model.layers - 1, 3
    run = trace(model, neurons, PROMPT)

    ablated = intervene(
        model, neurons, run, [[Intervention(last, position, unit) for position in range(len(run.tokens))]]
    )

    x = run.inputs[last]
    acts = neurons.activations(last, x)
    acts[:, unit] = 0
    plain = neurons.decode(last, acts, last) + neurons.bias(last)
    logits, _ = model.run(run.tokens[None], edit={("mlp_raw", last): lambda _: plain[None]})
    torch.testing.assert_close(ablated, logits, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["per-layer", "neurons"])
def test_with_attention_held_a_last_layer_ablation_does_what_its_edge_says(kind: str):
    """After the last MLP only the final norm is left: with its scale held too, the change is the edge's weight."""
    model = model_of("llama")
    dictionary = dictionary_of(model, kind)
    run = trace(model, dictionary, PROMPT)
    graph = attribute(model, dictionary, PROMPT)
    nodes = graph.nodes
    logit = len(nodes) - 1
    edges = np.flatnonzero((graph.target == logit) & (nodes.layer[graph.source] == model.layers - 1))
    edge = max(
        (e for e in edges if nodes.kind[graph.source[e]] in ("feature", "neuron")), key=lambda e: abs(graph.weight[e])
    )
    source = graph.source[edge]

    one = Intervention(model.layers - 1, int(nodes.position[source]), int(nodes.feature[source]))
    delta = -dictionary.writing(one.layer, torch.tensor([one.unit]), one.layer)[0] * float(nodes.activation[source])
    norm = run.frozen.final_norm
    change = (norm.gain * delta / norm.scale[one.position]) @ run.frozen.unembedding[:, int(nodes.feature[logit])]

    np.testing.assert_allclose(float(change), -graph.weight[edge], rtol=1e-9)


def test_holding_attention_keeps_what_the_patterns_were():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    early = next(unit for unit in some_units(run) if unit.layer == 0)

    live = intervene(model, dictionary, run, [[Intervention(early.layer, early.position, early.unit, -5.0)]])
    held = intervene(
        model, dictionary, run, [[Intervention(early.layer, early.position, early.unit, -5.0)]], attention="frozen"
    )

    assert not torch.allclose(live, held, atol=1e-4)
    before = early.position
    torch.testing.assert_close(live[0, :before], run.logits[:before])  # causality: nothing earlier moves


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (Intervention(0, 1, 999), "not active there"),
        (Intervention(9, 1, 0), "has layers 0 to 2"),
        (Intervention(0, 40, 0), "positions 0 to"),
        (Intervention(0, -1, 0), "positions 0 to"),
        (Intervention(0, 1, 0, float("nan")), "finite number"),
        (Intervention(0, 1, 0, float("inf")), "finite number"),
    ],
)
def test_what_is_not_there_cannot_be_changed(wrong: Intervention, complaint: str):
    model = model_of("llama")
    with pytest.raises(BadIntervention, match=complaint):
        intervene(model, dictionary_of(model, "per-layer"), PROMPT, [[wrong]])


def test_one_unit_cannot_be_given_two_factors_in_one_set_but_can_in_two():
    model = model_of("llama")
    dictionary = dictionary_of(model, "per-layer")
    run = trace(model, dictionary, PROMPT)
    unit = some_units(run)[0]
    half = Intervention(unit.layer, unit.position, unit.unit, 0.5)

    with pytest.raises(BadIntervention, match=r"same unit twice: .* × 0 and .* × 0\.5"):
        intervene(model, dictionary, run, [[unit, half]])
    assert len(intervene(model, dictionary, run, [[unit], [half]])) == 2
