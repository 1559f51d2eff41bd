"""Ablation of whole sets, against a plainer way: one unit after the other, one layer after the other."""

import pytest
import torch

from circuits import trace
from circuits.ablation import ablate_sets
from circuits.sampling import activations_on
from tests.circuits.worlds import dictionary_of, model_of


@pytest.mark.parametrize("kind", ["per-layer", "cross-layer"])
def test_what_is_active_takes_another_prompts_value_and_what_is_silent_stays_silent(kind: str):
    model = model_of("llama")
    dictionary = dictionary_of(model, kind)
    run = trace(model, dictionary, "a red fox runs")
    values = activations_on(model, dictionary, model.tokenize("a blue dog sleeps"))
    places = zip(run.layer.tolist(), run.position.tolist(), run.unit.tolist(), strict=True)
    clean = dict(zip(places, run.activation, strict=True))
    kept = {place for place in clean if place[2] % 2}

    (found,) = ablate_sets(model, dictionary, run, [torch.tensor(sorted(kept))], keep=True, fill=values)

    written = {layer: run.written[layer].clone() for layer in range(model.layers)}
    silent = anew = 0
    for layer in range(model.layers):
        held = {("mlp_output", below): lambda _, out=written[below]: out[None] for below in range(layer)}
        _, now = model.run(run.tokens[None], edit=held, read=[(dictionary.reads, layer), ("mlp_output", layer)])
        live = dictionary.activations(layer, now[(dictionary.reads, layer)][0])
        if kind == "per-layer":  # what the real MLP puts out, changed; else what it put out in the clean run
            written[layer] = now[("mlp_output", layer)][0].clone()
        for position in range(1, len(run.tokens)):  # the dictionary leaves the first alone
            for unit in range(dictionary.units):
                place, before, other = (layer, position, unit), live[position, unit], values[layer][position, unit]
                ablated = place not in kept and (place in clean or bool(before > 0))
                silent += place not in kept and not ablated and bool(other > 0)
                anew += ablated and place not in clean
                change = (other if ablated else before) - (before if kind == "per-layer" else clean.get(place, 0.0))
                for to in dictionary.written_layers(layer):
                    written[to][position] += change * dictionary.writing(layer, torch.tensor([unit]), to)[0]
    held = {("mlp_output", layer): lambda _, out=out: out[None] for layer, out in written.items()}
    expected, _ = model.run(run.tokens[None], edit=held)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert silent and anew  # the world holds both cases
