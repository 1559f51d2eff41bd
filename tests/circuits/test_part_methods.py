"""Scores of heads, MLPs and neurons as wholes, in every family, against patching them one by one."""

from dataclasses import replace

import pytest
import torch

from circuits.attribution import PART_METHODS
from circuits.attribution.atp import score_parts_by_gradient
from circuits.attribution.atp_star import patch_keys_alone, score_parts_with_corrections
from circuits.attribution.conductance import score_by_conductance
from circuits.attribution.exact_parts import patch_every_part
from circuits.components.ablations import resample
from circuits.components.edge_scores import read_logits
from circuits.components.layers import Layer, Projection
from circuits.components.metrics import logit_difference
from circuits.components.norms import SharedNorm
from circuits.components.opening import transformer_of
from circuits.components.pairs import Pairs
from circuits.components.parts import column_of, parts_of
from circuits.components.transformer import Transformer
from tests.circuits.test_edge_methods import PAIRS
from tests.circuits.test_transformer import OPEN
from tests.circuits.worlds import model_of


def nearby(share):
    """An ablation that goes only a share of the way to the corrupted run."""

    def ablate(transformer, pairs, *, neurons=False):
        clean, other = (
            vars(transformer.run(transformer.embed(each), neurons=True)) for each in (pairs.clean, pairs.corrupted)
        )
        moved = {
            name: [a + share * (b - a) for a, b in zip(column, other[name], strict=True)]
            for name, column in clean.items()
            if name != "after"
        }
        return replace(transformer.run(transformer.embed(pairs.clean)), **moved)

    return ablate


def patched_plainly(transformer, parts, positions):
    """The rise of the loss when each part is patched, one run of all layers for each."""
    clean, other = (transformer.run(transformer.embed(each), neurons=True) for each in (PAIRS.clean, PAIRS.corrupted))

    def loss(after):
        return -float(logit_difference(read_logits(transformer, after, PAIRS), PAIRS, after, torch.clone).sum())

    found = []
    for column in parts.columns:
        name, layer, count = column
        for part in range(count):
            for places in [[at] for at in range(6)] if positions else [list(range(6))]:
                values = column_of(clean, column).clone()
                rows = {"input": (), "mlp": (), "neurons": ()}.get(name, (part,))
                units = (part,) if name == "neurons" else ()
                for pair in range(2):
                    for place in places:
                        at = (pair, *rows, place, *units)
                        values[at] = column_of(other, column)[at]
                if name == "input":
                    after = transformer.go_on(values, 0).after
                else:
                    after = transformer.run(transformer.embed(PAIRS.clean), replace={(name, layer): values}).after
                found.append(loss(after) - loss(clean.after))
    scores = torch.tensor(found, dtype=torch.float64)
    return scores.unflatten(0, (-1, 6)) if positions else scores


@pytest.mark.parametrize("family", OPEN)
def test_patching_every_part_is_one_plain_run_for_each_and_gradients_are_its_first_order(family):
    transformer = transformer_of(model_of(family))
    parts = parts_of(transformer, apart=True)

    exact = patch_every_part(transformer, PAIRS, logit_difference, parts)

    torch.testing.assert_close(exact, patched_plainly(transformer, parts, False), rtol=1e-8, atol=1e-10)
    few = {"positions": True, "ablation": nearby(1e-6)}
    small = patch_every_part(transformer, PAIRS, logit_difference, parts, **few)
    found = score_parts_by_gradient(transformer, PAIRS, logit_difference, parts, **few)
    torch.testing.assert_close(found, small, rtol=1e-3, atol=1e-9)
    assert found.abs().max() > 1e-8
    whole = score_parts_by_gradient(transformer, PAIRS, logit_difference, parts)
    torch.testing.assert_close(whole, 1e6 * found.sum(-1), rtol=1e-6, atol=1e-9)


def test_neurons_at_positions_are_patched_one_by_one():
    transformer = transformer_of(model_of("llama"))
    parts = parts_of(transformer, neurons=True)

    exact = patch_every_part(transformer, PAIRS, logit_difference, parts, positions=True)

    every = patched_plainly(transformer, parts, True)
    torch.testing.assert_close(exact, every, rtol=1e-8, atol=1e-10)
    assert parts.names[:6] == ("input", "a0.h0", "a0.h1", "a0.h2", "a0.h3", "m0.n0")


@pytest.mark.parametrize("family", OPEN)
@pytest.mark.parametrize("method", list(PART_METHODS))
def test_every_method_scores_every_part_and_pairs_add_up(family, method):
    transformer = transformer_of(model_of(family))
    parts = parts_of(transformer, apart=True)
    score = PART_METHODS[method]

    whole = score(transformer, PAIRS, logit_difference, parts)
    apart = [score(transformer, each, logit_difference, parts, positions=True) for each in PAIRS.split(1)]

    assert whole.shape == (len(parts.names),) and apart[0].shape == (len(parts.names), 6)
    assert whole.isfinite().all() and (whole != 0).sum() > 0.9 * len(whole)
    if method in ("atp", "conductance"):
        torch.testing.assert_close(sum(apart).sum(-1), whole)


def world_of(layers, heads=1, width=4):
    """A transformer of these layers without norms; tokens and logits are coordinates of the stream."""
    return Transformer(
        name="planted",
        layers=layers,
        W_E=torch.eye(width, dtype=torch.float64),
        embedding_scale=1.0,
        W_pos=None,
        W_U=torch.eye(width, dtype=torch.float64),
        b_U=None,
        final_norm=None,
        parallel=False,
    )


def layer_of(width=4, *, query=None, key=None, value=None, output=None, W_in=None, W_out=None, scale=1.0):
    nothing = torch.zeros(1, width, width, dtype=torch.float64)
    flat = torch.zeros(width, width, dtype=torch.float64)
    names = "query_norm key_norm b_O cap window rotation norm post_norm mlp_norm mlp_post_norm".split()
    names += "W_gate b_gate b_in b_out".split()
    return Layer(
        query=Projection(nothing if query is None else query[None], None, 1),
        key=Projection(nothing if key is None else key[None], None, 1),
        value=Projection(nothing if value is None else value[None], None, 1),
        W_O=nothing if output is None else output[None],
        scale=scale,
        causal=True,
        W_in=flat if W_in is None else W_in,
        W_out=flat if W_out is None else W_out,
        function=torch.relu,
        ratio=lambda x: (x > 0).to(x.dtype),
        **dict.fromkeys(names),
    )


def pair_of(clean, corrupted, right, wrong):
    one = [torch.tensor([each]) for each in (clean, corrupted, right, wrong, len(clean) - 1)]
    return Pairs(*one)


@pytest.mark.parametrize("scale", [1.0, 200.0])
@pytest.mark.parametrize("positions", [False, True])
def test_a_query_or_key_of_saturated_attention_is_found_where_gradients_see_nothing(scale, positions):
    # The last token looks where its own kind stands; all after the pattern is linear, so nothing else is to correct.
    eye = torch.eye(4, dtype=torch.float64)
    transformer = world_of([layer_of(query=eye, key=eye, value=eye, output=eye, scale=scale)])
    pairs = pair_of([0, 1, 2, 1], [0, 2, 1, 2], 1, 2)
    parts = parts_of(transformer, apart=True)
    rows = [parts.names.index(name) for name in ("a0.h0<q>", "a0.h0<k>")]

    options = {"positions": positions}
    exact = patch_every_part(transformer, pairs, logit_difference, parts, **options)[rows]
    plain = score_parts_by_gradient(transformer, pairs, logit_difference, parts, **options)[rows]
    found = score_parts_with_corrections(transformer, pairs, logit_difference, parts, **options)[rows]

    torch.testing.assert_close(found, exact.abs())
    assert found.max() > 0.3
    if scale > 1:
        assert plain.abs().max() < 1e-9


@pytest.mark.parametrize("positions", [False, True])
def test_where_heads_share_a_norm_a_query_or_key_is_found_with_what_it_does_to_the_other_heads(positions):
    numbers = torch.Generator().manual_seed(6)
    query, key, value, output = 3 * torch.randn(4, 3, 4, 4, generator=numbers, dtype=torch.float64)
    norm = SharedNorm(torch.rand(3, 4, generator=numbers, dtype=torch.float64) + 0.5, 1e-6)
    layer = replace(
        layer_of(),
        **{name: Projection(each, None, 1) for name, each in (("query", query), ("key", key), ("value", value))},
        W_O=output,
        query_norm=norm,
        key_norm=norm,
    )
    transformer = world_of([layer])
    pairs, parts = pair_of([0, 1, 2, 1], [0, 2, 1, 3], 1, 2), parts_of(transformer, apart=True)
    rows = [at for at, name in enumerate(parts.names) if name.endswith(("<q>", "<k>"))]

    exact = patch_every_part(transformer, pairs, logit_difference, parts, positions=positions)[rows]
    found = score_parts_with_corrections(transformer, pairs, logit_difference, parts, positions=positions)[rows]

    torch.testing.assert_close(found, exact.abs())
    assert found.max() > 0.3


def test_effects_that_cancel_in_the_gradient_are_found_by_dropping_a_layer():
    #   m0 writes 1 on the clean prompt and -1 on the other; logit 1 reads it, and m1 takes away what is above zero
    to_first, take_away = (torch.zeros(4, 4, dtype=torch.float64) for _ in range(2))
    to_first[2, 0], to_first[3, 1] = 1, 1
    write, off = to_first.clone(), take_away.clone()
    write[:] = 0
    write[0, 1], write[1, 1] = 1, -1
    take_away[1, 0], off[0, 1] = 1, -1
    transformer = world_of([layer_of(W_in=to_first, W_out=write), layer_of(W_in=take_away, W_out=off)])
    pairs = pair_of([2], [3], 1, 0)
    parts = parts_of(transformer)
    row = parts.names.index("m0")

    exact = patch_every_part(transformer, pairs, logit_difference, parts)[row]
    plain = score_parts_by_gradient(transformer, pairs, logit_difference, parts)[row]
    found = score_parts_with_corrections(transformer, pairs, logit_difference, parts)[row]

    assert (float(exact), float(plain), float(found)) == (1.0, 0.0, 2.0)


@pytest.mark.parametrize("size", [1.0, 40.0, 400.0])
def test_one_key_patched_is_the_softmax_taken_anew(size):
    numbers = torch.Generator().manual_seed(1)
    before, after, gradient = size * torch.randn(3, 2, 7, 7, generator=numbers, dtype=torch.float64)
    unseen = torch.ones(7, 7, dtype=torch.bool).triu(1)
    before, after = (each.masked_fill(unseen, -torch.inf) for each in (before, after))
    expected = torch.zeros(2, 7, dtype=torch.float64)
    for key in range(7):
        one = before.clone()
        one[..., key] = after[..., key]
        expected[:, key] = ((one.softmax(-1) - before.softmax(-1)) * gradient).sum((-1, -2))

    found = patch_keys_alone(before, after, gradient)

    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * size)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
def test_conductance_adds_up(family):
    transformer = transformer_of(model_of(family))
    ends = [transformer.run(transformer.embed(each)).after for each in (PAIRS.clean, PAIRS.corrupted)]
    clean, corrupted = (
        logit_difference(read_logits(transformer, after, PAIRS), PAIRS, after, torch.clone).sum() for after in ends
    )
    components, neurons = parts_of(transformer), parts_of(transformer, neurons=True)

    found = score_by_conductance(transformer, PAIRS, logit_difference, components, steps=40)
    inside = score_by_conductance(transformer, PAIRS, logit_difference, neurons, steps=40)

    assert float(found[0]) == pytest.approx(float(clean - corrupted), rel=5e-2)
    for layer in range(3):
        own = [at for at, name in enumerate(neurons.names) if name.startswith(f"m{layer}.")]
        assert float(inside[own].sum()) == pytest.approx(float(found[components.names.index(f"m{layer}")]))


def test_few_parts_at_once_are_the_same_as_many(monkeypatch):
    transformer = transformer_of(model_of("gemma2"))
    parts = parts_of(transformer, apart=True)
    whole = patch_every_part(transformer, PAIRS, logit_difference, parts, positions=True)

    monkeypatch.setattr("circuits.attribution.exact_parts.ROWS", 1)

    few = patch_every_part(transformer, PAIRS, logit_difference, parts, positions=True)
    torch.testing.assert_close(few, whole)
    assert torch.equal(resample(transformer, PAIRS).after, transformer.run(transformer.embed(PAIRS.corrupted)).after)
