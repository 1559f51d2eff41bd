"""Features of replaced attention changed in the real model: what they write is, and everything after answers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuits.assaying import assay
from circuits.attributing import attribute
from circuits.changes import ERROR, Intervention
from circuits.errors import BadIntervention
from circuits.interventions import change_node, intervene
from circuits.tracing import trace
from circuits.transcoders.with_attention import attention_of
from graphs.nodes import OF_ATTENTION
from graphs.pruning import prune
from tests.circuits.test_replaced_attention import world_of

worlds = pytest.mark.parametrize(
    "world", ["llama", "gpt2, not the first", "gemma2", "parallel, one layer", "autoencoders, norm behind"]
)


@worlds
@pytest.mark.parametrize("what", ["feature", "error"])
def test_a_change_is_added_to_what_attention_puts_out(world: str, what: str):
    model, dictionary, prompt = world_of(world)
    run, attention = trace(model, dictionary, prompt), attention_of(dictionary)
    assert attention is not None
    layer = attention.numbers[-1]
    row = run.units_at("attention", layer).stop - 1
    position, unit = int(run.position[row]), int(run.unit[row]) % 2**40
    vector = run.attended[layer].missed[position]
    if what == "feature":
        vector = run.activation[row] * attention.writing(layer, torch.tensor([unit]))[0]

    change = Intervention(layer, position, unit if what == "feature" else ERROR, factor=-1.0, attention=True)
    (out,) = intervene(model, dictionary, run, [[change]])

    def taken(now: torch.Tensor) -> torch.Tensor:
        now = now.clone()
        now[0, position] -= 2 * vector
        return now

    expected, _ = model.run(run.tokens[None], edit={(attention.writes, layer): taken})
    torch.testing.assert_close(out, expected[0], rtol=1e-5, atol=1e-6)


def test_an_activation_may_be_set_or_taken_from_other_prompts():
    model, dictionary, prompt = world_of("llama")
    run, attention = trace(model, dictionary, prompt), attention_of(dictionary)
    assert attention is not None
    row = run.units_at("attention", 1).start
    position, unit, activation = int(run.position[row]), int(run.unit[row]) % 2**40, float(run.activation[row])
    other = [1, 4, 6, 2, 3, 7]
    acts = attention.activations(1, trace(model, dictionary, other).attended[1].inputs)
    there = float(acts[position, unit])

    set_, scaled, resampled, chosen, silent = intervene(
        model,
        dictionary,
        run,
        [
            [Intervention(1, position, unit, value=0.5 * activation, attention=True)],
            [Intervention(1, position, unit, factor=0.5, attention=True)],
            [Intervention(1, position, unit, prompts=(tuple(other),), attention=True)],
            [Intervention(1, position, unit, value=there, attention=True)],
            [Intervention(1, position, unit, factor=1.0, attention=True)],
        ],
    )

    torch.testing.assert_close(set_, scaled)
    torch.testing.assert_close(resampled, chosen, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(silent, run.logits, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(set_, run.logits)


@worlds
def test_with_all_else_held_the_last_layers_features_move_logits_by_their_edges(world: str):
    model, dictionary, prompt = world_of(world)
    run = trace(model, dictionary, prompt)
    graph = attribute(model, dictionary, prompt)
    nodes, dense = graph.nodes, graph.to_dense()
    logit = int(nodes.where("logit")[-1])
    last = max(run.attended)
    rows = [*nodes.where("attention"), *nodes.where("error")[nodes.feature[nodes.where("error")] == OF_ATTENTION]]
    rows = [int(row) for row in rows if nodes.layer[row] == last]
    window = range(model.layers)
    held = {"attention": "frozen", "norms": "frozen", "window": window}
    out = intervene(model, dictionary, run, [[change_node(nodes, row, 0.0)] for row in rows], **held)

    if last == model.layers - 1:  # attention of a later layer would carry it too
        lost = (run.logits - out)[:, -1]
        moved = (lost[:, nodes.feature[logit]] - lost.mean(-1)).numpy()
        np.testing.assert_allclose(moved, dense[logit, rows], atol=2e-5 * np.abs(dense[logit]).max())
    else:
        assert not torch.allclose(out, run.logits.expand_as(out))


def test_what_cannot_be_changed_is_refused_by_name():
    model, dictionary, prompt = world_of("llama, one layer")
    run = trace(model, dictionary, prompt)
    bad = {
        "attention is replaced in layers 1": Intervention(2, 0, 3, attention=True),
        "that unit is not active there": Intervention(1, 0, 999, attention=True),
        "has units 0 to 7": Intervention(1, 0, 8, value=1.0, attention=True),
        "an error is a vector": Intervention(1, 0, ERROR, value=1.0, attention=True),
        "must be a finite number": Intervention(1, 0, 0, value=float("nan"), attention=True),
        "positions one by one": Intervention(1, 0, 0, value=1.0, onward=True, attention=True),
    }
    for message, change in bad.items():
        with pytest.raises(BadIntervention, match=message):
            intervene(model, dictionary, run, [[change]])
    row = run.units_at("attention", 1).start
    twice = Intervention(1, int(run.position[row]), int(run.unit[row]) % 2**40, attention=True)
    with pytest.raises(BadIntervention, match="changes the same unit twice: L1/attn/"):
        intervene(model, dictionary, run, [[twice, replace(twice, factor=0.5)]])


def test_the_assay_ablates_attention_features_one_by_one():
    model, dictionary, prompt = world_of("llama")
    graph = prune(attribute(model, dictionary, prompt), nodes=0.95)

    found = assay(
        model, dictionary, graph, deep=True, experiments=["ablations", "between", "disturbances"], controls=20
    )

    kinds = {graph.nodes.kind[each.node] for each in found.ablations}
    assert {"attention", "feature", "error"} <= kinds
    assert all("attention is replaced" in found.skipped[name] for name in ("between", "disturbances"))
