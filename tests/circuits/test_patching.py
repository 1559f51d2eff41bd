"""Activation patching against the plain way: one hook, one run of the real model for each place."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuits.components.metrics import logit_difference
from circuits.components.patching import OVER, patch_activations
from circuits.components.transformer import transformer_of
from circuits.errors import BadOption
from tests.circuits.test_edge_methods import PAIRS
from tests.circuits.worlds import model_of

SITES = {"heads": "mixed", "mlps": "mlp_output", "attention": "attention_output"}


def metric_of(logits, pairs):
    return float(logit_difference(logits[torch.arange(2), pairs.position], pairs, logits, torch.clone).mean())


def patched_by_hooks(model, over, base, donor, pairs=PAIRS):
    """The metric of the base run with the donor's value in each place, and with none."""
    layers, length = range(model.layers), base.shape[1]
    plain, _ = model.run(base)
    found = np.zeros((model.layers, model.heads if over == "heads" else length))
    if over == "resid":
        streams = {}
        for layer in layers:
            keep = [(f"blocks.{layer}.hook_in", lambda x, hook, at=layer: streams.__setitem__(at, x.clone()))]
            model._bridge.run_with_hooks(donor, fwd_hooks=keep)
    else:
        sites = [(SITES[over], layer) for layer in layers]
        _, seen = model.run(donor, read=sites)
    for layer in layers:
        for place in range(found.shape[1]):

            def put(x, hook=None, layer=layer, place=place):
                x = x.clone()
                if over == "heads":
                    split = x.view(*x.shape[:2], model.heads, -1)
                    split[:, :, place] = seen[(SITES[over], layer)].view_as(split)[:, :, place]
                else:
                    source = streams[layer] if over == "resid" else seen[(SITES[over], layer)]
                    x[:, place] = source[:, place]
                return x

            if over == "resid":
                before_cap = []
                keep = ("unembed.hook_out", lambda x, hook, found=before_cap: found.append(x))
                model._bridge.run_with_hooks(base, fwd_hooks=[(f"blocks.{layer}.hook_in", put), keep])
                (logits,) = before_cap
            else:
                logits, _ = model.run(base, edit={(SITES[over], layer): put})
            found[layer, place] = metric_of(logits, pairs)
    return found, metric_of(plain, pairs)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gpt_neox"])
@pytest.mark.parametrize("over", list(OVER))
def test_every_place_is_what_a_hook_there_gives(family, over):
    model = model_of(family)
    ends = {"noising": (PAIRS.clean, PAIRS.corrupted), "denoising": (PAIRS.corrupted, PAIRS.clean)}
    for direction, (base, donor) in ends.items():
        expected, before = patched_by_hooks(model, over, base, donor)

        found = patch_activations(transformer_of(model), PAIRS, over=over, direction=direction)

        np.testing.assert_allclose(found.effect, expected - before, rtol=1e-3, atol=2e-4)
        apart = (found.clean - found.corrupted) * (1 if direction == "denoising" else -1)
        np.testing.assert_allclose(found.share, found.effect / apart)


def test_all_of_the_stream_where_the_prompts_differ_brings_all_back():
    pairs = next(iter(PAIRS.split(1)))
    only = torch.tensor([[1, 2, 5, 7, 10, 3]])
    one_apart = type(pairs)(pairs.clean, only, pairs.right, pairs.wrong, pairs.position)

    found = patch_activations(transformer_of(model_of("qwen3")), one_apart, over="resid")

    assert found.share[0, 3] == pytest.approx(1)
    np.testing.assert_allclose(found.share[0, [0, 1, 2, 4, 5]], 0, atol=1e-12)


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "gpt_neox", "qwen3"])
def test_what_is_not_run_again_moves_nothing(family):
    # The prompts begin alike and go on after the answers; one answer is read before its prompts differ.
    tokens = torch.tensor([[1, 2, 5, 6, 10, 3, 4, 8], [1, 3, 6, 8, 10, 4, 2, 2]])
    other = torch.tensor([[1, 2, 5, 7, 10, 3, 9, 8], [1, 3, 6, 8, 9, 5, 2, 4]])
    for position in ([5, 4], [5, 2]):
        late = replace(PAIRS, clean=tokens, corrupted=other, position=torch.tensor(position))
        model = model_of(family)
        for over in OVER:
            expected, before = patched_by_hooks(model, over, other, tokens, late)

            found = patch_activations(transformer_of(model), late, over=over)

            np.testing.assert_allclose(found.effect, expected - before, rtol=1e-3, atol=2e-4)


def test_few_places_at_once_are_the_same_as_many(monkeypatch):
    transformer = transformer_of(model_of("gemma2"))
    whole = {over: patch_activations(transformer, PAIRS, over=over).effect for over in OVER}

    monkeypatch.setattr("circuits.components.patching.ROWS", 1)

    for over, effect in whole.items():
        np.testing.assert_allclose(patch_activations(transformer, PAIRS, over=over).effect, effect, atol=1e-12)


@pytest.mark.parametrize("option", [{"over": "edges"}, {"direction": "sideways"}])
def test_what_cannot_be_patched_is_told(option):
    with pytest.raises(BadOption, match="must be one of"):
        patch_activations(transformer_of(model_of("llama")), PAIRS, **option)
