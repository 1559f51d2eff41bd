"""Activation patching against the plain way: one hook, one run of the real model for each place."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuits.components.ablations import ABLATIONS
from circuits.components.metrics import logit_difference
from circuits.components.opening import transformer_of
from circuits.components.patching import OVER, UNITS, patch_activations
from circuits.errors import BadOption
from circuits.sites import hook_at
from tests.circuits.test_edge_methods import PAIRS
from tests.circuits.worlds import model_of, native_of

SITES = {"heads": "mixed", "mlps": "mlp_output", "attention": "attention_output"}
LATE = replace(  # the prompts begin alike and go on after the answers
    PAIRS,
    clean=torch.tensor([[1, 2, 5, 6, 10, 3, 4, 8], [1, 3, 6, 8, 10, 4, 2, 2]]),
    corrupted=torch.tensor([[1, 2, 5, 7, 10, 3, 9, 8], [1, 3, 6, 8, 9, 5, 2, 4]]),
    position=torch.tensor([5, 4]),
)


def metric_of(logits, pairs):
    return float(logit_difference(logits[torch.arange(2), pairs.position], pairs, logits, torch.clone).mean())


def hook_of(model, over, layer):
    if over in SITES:
        return hook_at(model.family, (SITES[over], layer))
    return f"blocks.{layer}.{'hook_in' if over == 'resid' else 'mlp.out.hook_in'}"


def run_with(model, tokens, hooks):
    """The logits of the real model, before any soft cap."""
    found = []
    last = ("unembed.hook_out", lambda x, hook: found.append(x.clone()))
    model._bridge.run_with_hooks(tokens, fwd_hooks=[*hooks, last])
    return found[0]


def patched_by_hooks(model, over, base, donor, pairs=PAIRS, *, positions=False, layers=None, only=None):
    """The metric of the base run with the donor's value in each place, one hook and one run each; and with none.

    layers, only: which layers, and heads or neurons of these; by default all.
    """
    layers = range(model.layers) if layers is None else layers
    names = [hook_of(model, over, layer) for layer in layers]
    theirs = {}
    keep = [(name, lambda x, hook, name=name: theirs.__setitem__(name, x.clone())) for name in names]
    run_with(model, donor, keep)
    length, width = base.shape[1], theirs[names[0]].shape[-1]
    units = {"heads": model.heads, "neurons": width}.get(over, 1)  # parts of what stands at a position
    here = [slice(at, at + 1) for at in range(length)] if positions or over not in UNITS else [slice(None)]
    only = range(units) if only is None or over not in UNITS else only
    found = np.zeros((len(layers), len(only), len(here)))
    for layer, unit, place in np.ndindex(*found.shape):

        def put(x, hook, at=(slice(None), here[place], only[unit]), other=theirs[names[layer]]):
            x = x.clone()
            x.view(*x.shape[:2], units, -1)[at] = other.view(*x.shape[:2], units, -1)[at]
            return x

        found[layer, unit, place] = metric_of(run_with(model, base, [(names[layer], put)]), pairs)
    shape = [count for count, kept in ((len(only), over in UNITS), (len(here), len(here) > 1)) if kept]
    return found.reshape(len(layers), *shape), metric_of(run_with(model, base, []), pairs)


def some_of(found, over):
    """The heads to look at, or one in seven of the many neurons; or, of what has no parts, every position."""
    return range(0, found.effect.shape[1], 7 if over == "neurons" else 1)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gpt_neox"])
@pytest.mark.parametrize("over", list(OVER))
def test_every_place_is_what_a_hook_there_gives(family, over):
    model = model_of(family)
    ends = {"noising": (PAIRS.clean, PAIRS.corrupted), "denoising": (PAIRS.corrupted, PAIRS.clean)}
    for direction, (base, donor) in ends.items():
        found = patch_activations(transformer_of(model), PAIRS, over=over, direction=direction)
        some = some_of(found, over)
        expected, before = patched_by_hooks(model, over, base, donor, only=some)

        np.testing.assert_allclose(found.effect[:, some], expected - before, rtol=1e-3, atol=2e-4)
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
    model = model_of(family)
    for position in ([5, 4], [5, 2]):  # one answer is read before its prompts differ
        late = replace(LATE, position=torch.tensor(position))
        for over in OVER:
            found = patch_activations(transformer_of(model), late, over=over)
            some = some_of(found, over)
            expected, before = patched_by_hooks(model, over, late.corrupted, late.clean, late, only=some)

            np.testing.assert_allclose(found.effect[:, some], expected - before, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gpt_neox", "two-way"])
def test_heads_and_neurons_at_one_position_are_what_hooks_there_give(family):
    model = native_of(family) if family == "two-way" else model_of(family)
    layer = 0 if family == "two-way" else 1  # a way through earlier positions takes two more layers
    for over, neurons, kept in (("heads", None, [0, 1, 2, 3]), ("neurons", [11, 0], [0, 11])):
        for direction, position in (("noising", [5, 4]), ("denoising", [5, 2])):
            late = replace(LATE, position=torch.tensor(position))
            ends = {"noising": (late.clean, late.corrupted), "denoising": (late.corrupted, late.clean)}
            place = {"positions": True, "layers": [layer]}
            expected, before = patched_by_hooks(model, over, *ends[direction], late, only=kept, **place)

            how = {"over": over, "neurons": neurons, "direction": direction}
            found = patch_activations(transformer_of(model), late, **how, **place)

            assert found.units == tuple(kept) and found.layers == (layer,)
            np.testing.assert_allclose(found.effect, expected - before, rtol=1e-3, atol=2e-4)


def test_all_neurons_at_every_position_are_the_mlp_where_nothing_bends_after_it():
    # What the last layer's MLP adds is read through a norm alone; without one, effects of its neurons add up.
    transformer = transformer_of(native_of("no-norms"))
    whole = patch_activations(transformer, PAIRS, over="mlps", layers=[1]).effect

    by_neuron = patch_activations(transformer, PAIRS, over="neurons", positions=True, layers=[1]).effect

    np.testing.assert_allclose(by_neuron.sum(1), whole, atol=1e-12)
    anywhere = patch_activations(transformer, PAIRS, over="neurons", layers=[1]).effect
    np.testing.assert_allclose(by_neuron.sum(2), anywhere, atol=1e-12)
    assert np.abs(whole).max() > 0.01


@pytest.mark.parametrize("ablation", ["zero", "mean", "mean-by-position"])
def test_a_head_or_neuron_may_be_ablated_at_one_position(ablation):
    transformer = transformer_of(model_of("gemma2"))
    ablate = ABLATIONS[ablation](transformer, [PAIRS], lambda name, done, total: None)
    told = ablate(transformer, PAIRS, neurons=True)
    places = {"heads": ("mixed", (slice(None), 2, 3)), "neurons": ("neurons", (slice(None), 3, 2))}
    for over, (column, at) in places.items():

        def put(ours, at=at, theirs=getattr(told, column)[1]):  # noqa: B008
            ours = ours.clone()
            ours[at] = theirs[at]
            return ours

        after = transformer.run(transformer.embed(PAIRS.clean), replace={(column, 1): put}).after

        how = {"over": over, "positions": True, "direction": "noising", "ablation": ablate}
        found = patch_activations(transformer, PAIRS, **how)

        assert found.clean + found.effect[1, 2, 3] == pytest.approx(metric_of(transformer.unembed(after), PAIRS))


def test_few_places_at_once_are_the_same_as_many(monkeypatch):
    transformer = transformer_of(model_of("gemma2"))
    kinds = [*({"over": over} for over in OVER), *({"over": over, "positions": True} for over in UNITS)]
    whole = [patch_activations(transformer, PAIRS, **how).effect for how in kinds]
    told = []

    monkeypatch.setattr("circuits.components.patching.ROWS", 1)

    for how, effect in zip(kinds, whole, strict=True):
        found = patch_activations(transformer, PAIRS, **how, progress=lambda *at: told.append(at))
        np.testing.assert_allclose(found.effect, effect, atol=1e-12)
    assert told[-1] == (3 * 24 * 5, 3 * 24 * 5)  # layers, neurons, positions from the first that differs
    assert [done for done, total in told if total == 3 * 4] == list(range(1, 13))


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ({"over": "edges"}, "must be one of"),
        ({"direction": "sideways"}, "must be one of"),
        ({"over": "mlps", "positions": True}, "mlps is by position as it is"),
        ({"neurons": [1]}, "found heads"),
        ({"layers": [3]}, "layers of .* are 0 to 2, found 3"),
        ({"over": "neurons", "neurons": [-1]}, "neurons of .* are 0 to 23, found -1"),
        ({"layers": []}, "found none"),
    ],
)
def test_what_cannot_be_patched_is_told(option, complaint):
    with pytest.raises(BadOption, match=complaint):
        patch_activations(transformer_of(model_of("llama")), PAIRS, **option)


def test_more_places_than_a_sweep_takes_are_refused_before_any_run(monkeypatch):
    monkeypatch.setattr("circuits.components.patching.MOST", 100)
    transformer = transformer_of(model_of("llama"))
    monkeypatch.setattr(type(transformer), "run", None)

    with pytest.raises(BadOption, match=r"3 × 24 × 5 places are 360 runs, at most 100 .* fewer layers or neurons"):
        patch_activations(transformer, PAIRS, over="neurons", positions=True)


def test_a_model_without_mlps_has_no_neurons():
    with pytest.raises(BadOption, match="no MLPs"):
        patch_activations(transformer_of(native_of("attention-only")), PAIRS, over="neurons")


def test_a_metric_that_is_no_number_is_told_before_anything_is_patched(monkeypatch):
    transformer = transformer_of(model_of("llama"))
    monkeypatch.setattr(type(transformer), "go_on_beside", None)

    def metric(logits, pairs, clean, say):
        return torch.tensor([1.0, torch.nan])

    with pytest.raises(BadOption, match=r"metric of pair 2 is nan: a finite number is wanted"):
        patch_activations(transformer, PAIRS, metric=metric)
