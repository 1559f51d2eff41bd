"""Path patching against the plain way: three runs of the real model with a hook on everything that is held or put."""

import numpy as np
import pytest
import torch

from circuits.attribution.exact_edges import patch_every_edge
from circuits.components.ablations import ABLATIONS
from circuits.components.edge_scores import components_of
from circuits.components.metrics import logit_difference
from circuits.components.opening import transformer_of
from circuits.components.path_patching import expand, patch_paths
from circuits.errors import BadOption
from circuits.sites import hook_at
from tests.circuits.test_edge_methods import PAIRS
from tests.circuits.worlds import model_of

SENDERS = [["a0.h1"], ["m0"], ["a0.h0", "a0.h2", "m1"], ["input"]]
RECEIVERS = [["a2.h1<q>"], ["m2"], ["logits"], ["a1.h0<q>", "a2.h3<q>", "m2"], ["m2", "logits"]]
OWN_KEYS = [["a2.h1<k>"], ["a1.h1<v>", "a2.h1"]]


def run_with(model, tokens, hooks):
    """What every head, query, key, value and MLP is in the real run, before hooks put another; and the logits."""
    seen, logits = {}, []

    def keep(name):
        def hook(x, hook=None):
            seen[name] = x.clone()
            return hooks[name](x.clone()) if name in hooks else x

        return hook

    places = {"embed": hook_at(model.family, ("token_embedding", 0))}
    for layer in range(model.layers):
        places[f"mixed{layer}"] = hook_at(model.family, ("mixed", layer))
        places[f"m{layer}"] = hook_at(model.family, ("mlp_output", layer))
        places |= {f"{letter}{layer}": f"blocks.{layer}.attn.{letter}.hook_out" for letter in "qkv"}
    listed = [(place, keep(name)) for name, place in places.items()]
    model._bridge.run_with_hooks(
        tokens, fwd_hooks=[*listed, ("unembed.hook_out", lambda x, hook: logits.append(x.clone()))]
    )
    return seen, logits[0]


def by_head(model, x):
    return x.view(*x.shape[:2], model.heads, -1)


def gain(logits):
    return float(logit_difference(logits[torch.arange(2), PAIRS.position], PAIRS, logits, torch.clone).mean())


def patched_by_hooks(model, base, donor, senders, receivers, frozen):
    (ours, plain), (theirs, _) = (run_with(model, tokens, {}) for tokens in (base, donor))

    def held_mixed(layer):
        def put(x):
            found = ours[f"mixed{layer}"].clone()
            for head in range(model.heads):
                if f"a{layer}.h{head}" in senders:
                    by_head(model, found)[:, :, head] = by_head(model, theirs[f"mixed{layer}"])[:, :, head]
            return found

        return put

    hooks = {f"mixed{layer}": held_mixed(layer) for layer in range(model.layers)}
    for layer in range(model.layers):
        if f"m{layer}" in senders:
            hooks[f"m{layer}"] = lambda x, at=layer: theirs[f"m{at}"]
        elif frozen:
            hooks[f"m{layer}"] = lambda x, at=layer: ours[f"m{at}"]
    if "input" in senders:
        hooks["embed"] = lambda x: theirs["embed"]
    path, end = run_with(model, base, hooks)

    def received(letter, layer, heads):
        def put(x):
            x[:, :, heads] = path[f"{letter}{layer}"][:, :, heads]
            return x

        return put

    hooks = {}
    for layer in range(model.layers):
        for letter in "qkv":
            heads = [head for head in range(model.heads) if f"a{layer}.h{head}<{letter}>" in receivers]
            if heads:
                hooks[f"{letter}{layer}"] = received(letter, layer, heads)
        if f"m{layer}" in receivers:
            hooks[f"m{layer}"] = lambda x, at=layer: path[f"m{at}"]
    if receivers == ["logits"]:
        return gain(end) - gain(plain)
    return gain(run_with(model, base, hooks)[1]) - gain(plain)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "gpt_neox", "qwen3"])
@pytest.mark.parametrize("mlps", ["live", "frozen"])
def test_every_path_is_what_hooks_in_the_real_model_give(family, mlps):
    model = model_of(family)
    transformer = transformer_of(model)
    shares_keys = family not in ("gpt2", "gpt_neox")
    receivers = RECEIVERS[:4] + ([] if shares_keys else OWN_KEYS)
    for direction, ends in (
        ("noising", (PAIRS.clean, PAIRS.corrupted)),
        ("denoising", (PAIRS.corrupted, PAIRS.clean)),
    ):
        found = patch_paths(transformer, PAIRS, SENDERS, receivers, direction=direction, mlps=mlps)

        for row, senders in enumerate(SENDERS):
            for column, to in enumerate(receivers):
                names = expand(components_of(transformer), to)
                expected = patched_by_hooks(model, *ends, senders, names, mlps == "frozen")
                assert found.effect[row, column] == pytest.approx(expected, rel=2e-3, abs=3e-4)
        apart = (found.clean - found.corrupted) * (1 if direction == "denoising" else -1)
        np.testing.assert_allclose(found.share, found.effect / apart)


@pytest.mark.parametrize("ablation", ["resample", "mean"])
def test_with_all_else_frozen_a_path_is_one_edge(ablation):
    transformer = transformer_of(model_of("gemma2"))
    components = components_of(transformer)
    ablate = ABLATIONS[ablation](transformer, [PAIRS], lambda name, done, total: None)
    exact = patch_every_edge(transformer, PAIRS, logit_difference, ablation=ablate)

    senders, receivers = ["input", "a0.h1", "m0"], ["a1.h0<q>", "a1.h2<k>", "a2.h3<v>", "m1", "logits"]
    found = patch_paths(
        transformer,
        PAIRS,
        [[each] for each in senders],
        [[each] for each in receivers],
        direction="noising",
        mlps="frozen",
        ablation=ablate,
    )

    for row, sender in enumerate(senders):
        for column, receiver in enumerate(receivers):
            score = exact[components.edge(f"{sender}->{receiver}")]
            assert found.effect[row, column] == pytest.approx(-float(score) / 2, rel=1e-6, abs=1e-9)


def test_the_logits_beside_other_receivers_read_what_both_add():
    transformer = transformer_of(model_of("gpt2"))
    last = {"direction": "noising", "mlps": "frozen"}

    # The last MLP's output reaches nothing but the logits, and those are one norm and one matrix from the stream.
    both = patch_paths(transformer, PAIRS, [["a0.h1"]], [["m2", "logits"]], **last)
    base = transformer.run(transformer.embed(PAIRS.clean))
    donor = transformer.run(transformer.embed(PAIRS.corrupted))
    change = (donor.mixed[0][:, 1] - base.mixed[0][:, 1]) @ transformer.layers[0].W_O[1]
    mlp = transformer.layers[2].mlp(base.mlp_input[2] + change)
    logits = transformer.unembed(base.after + change + mlp - base.mlp[2])

    assert both.effect[0, 0] == pytest.approx(gain(logits) - both.clean)


@pytest.mark.parametrize(
    ("senders", "receivers", "option", "complaint"),
    [
        (["a9.h0"], ["logits"], {}, "no sender 'a9.h0'"),
        (["a0.h0<q>"], ["logits"], {}, "no sender"),
        (["m0"], ["a0.h9"], {}, "no receiver 'a0.h9'"),
        (["m0"], ["a0.h1<q>"], {}, "nothing leads from m0 to a0.h1<q>"),
        (["m0"], ["logits"], {"mlps": "melted"}, "one of live, frozen"),
        (["m0"], ["logits"], {"direction": "sideways"}, "direction must be one of"),
        (["m0"], ["logits"], {"ablation": lambda transformer, pairs: None}, "ablations are for noising"),
    ],
)
def test_what_is_no_path_is_told(senders, receivers, option, complaint):
    with pytest.raises(BadOption, match=complaint):
        patch_paths(transformer_of(model_of("llama")), PAIRS, [senders], [receivers], **option)
