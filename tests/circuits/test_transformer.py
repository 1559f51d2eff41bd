"""The open transformer is the real model, in every family."""

import pytest
import torch

from circuits.components.norms import LiveNorm, SharedNorm
from circuits.components.opening import check_faithful, transformer_of
from circuits.errors import UnfaithfulModel, UnsupportedModel
from tests.circuits.worlds import ALIKE, EXPERTS, FAMILIES, NATIVE, model_of, native_of

OPEN = [*FAMILIES, *ALIKE]
TOKENS = torch.tensor([[1, 2, 5, 6, 10, 3, 7, 9], [1, 3, 6, 8, 10, 4, 4, 2]])


@pytest.mark.parametrize("family", OPEN)
def test_what_is_laid_open_gives_the_logits_and_the_inner_values_of_the_real_run(family):
    model = model_of(family)
    transformer = transformer_of(model)
    layers = range(model.layers)
    sites = [(name, layer) for layer in layers for name in ("mixed", "mlp_output")]
    logits, seen = model.run(TOKENS, read=sites)

    run = transformer.run(transformer.embed(TOKENS))

    torch.testing.assert_close(transformer.unembed(run.after), logits, rtol=1e-4, atol=1e-5)
    for layer in layers:
        mixed = run.mixed[layer].transpose(1, 2).flatten(2)
        torch.testing.assert_close(mixed, seen[("mixed", layer)].flatten(2), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(run.mlp[layer], seen[("mlp_output", layer)], rtol=1e-4, atol=1e-5)
    check_faithful(transformer, model, TOKENS)
    half = transformer.go_on(run.before[1], 1, keep=False)
    torch.testing.assert_close(half.after, run.after)
    assert not half.mlp
    # Of the last positions alone, which see the others as they were; and of these the last two only at the end.
    beside = transformer.go_on_beside(run, 1, torch.zeros(3, 2, 8, 16, dtype=run.after.dtype), tail=2)
    torch.testing.assert_close(beside, run.after[None, :, -2:].expand(3, -1, -1, -1))
    for first in (3, 6):
        stream = torch.cat((run.before[1], run.before[1] + 1))[:, first:]
        part = transformer.go_on(stream, 1, keep=False, past=run, tail=2)
        moved = torch.cat((run.before[1][:, :first], run.before[1][:, first:] + 1), 1)
        torch.testing.assert_close(part.after[:2], run.after[:, -2:])
        torch.testing.assert_close(part.after[2:], transformer.go_on(moved, 1).after[:, -2:])
        for layer in layers:
            added = torch.randn(2, 2, 8 - first, 16, dtype=run.after.dtype, generator=torch.Generator().manual_seed(3))
            whole = torch.cat((torch.zeros(2, 2, first, 16, dtype=run.after.dtype), added), 2)
            torch.testing.assert_close(
                transformer.go_on_beside(run.since(first), layer, added, tail=1),
                transformer.go_on_beside(run, layer, whole)[:, :, -1:],
            )


@pytest.mark.parametrize("family", list(EXPERTS))
def test_what_has_no_such_components_is_refused(family):
    with pytest.raises(UnsupportedModel, match="experts"):
        transformer_of(model_of(family))


@pytest.mark.parametrize("kind", list(NATIVE))
def test_a_native_model_is_laid_open_as_well(kind):
    model = native_of(kind)
    transformer = transformer_of(model)
    layers = range(model.layers)
    logits, seen = model.run(TOKENS, read=[("mixed", layer) for layer in layers])

    run = transformer.run(transformer.embed(TOKENS))

    torch.testing.assert_close(transformer.unembed(run.after), logits, rtol=1e-6, atol=1e-8)
    for layer in layers:
        mixed = run.mixed[layer].transpose(1, 2).flatten(2)
        torch.testing.assert_close(mixed, seen[("mixed", layer)].flatten(2), rtol=1e-6, atol=1e-8)
    check_faithful(transformer, model, TOKENS)


def test_a_part_that_was_forgotten_is_told():
    from dataclasses import replace

    model = model_of("llama")
    transformer = transformer_of(model)
    unturned = [replace(layer, rotation=None) for layer in transformer.layers]

    with pytest.raises(UnfaithfulModel, match="do not add up"):
        check_faithful(replace(transformer, layers=unturned), model, TOKENS)


def test_a_norm_that_heads_share_is_that_of_one_long_vector():
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gain = torch.rand(4, 6, dtype=torch.float64) + 0.5
    long = LiveNorm(gain.flatten(), None, False, 1e-5)(x.transpose(1, 2).flatten(2))

    torch.testing.assert_close(SharedNorm(gain, 1e-5)(x).transpose(1, 2).flatten(2), long)
    # Each of four heads has its copy of one of two keys: as long as these agree, it is the norm of the two.
    copies = SharedNorm(gain[:2].repeat_interleave(2, 0), 1e-5)(x[:, :2].repeat_interleave(2, 1))
    torch.testing.assert_close(copies[:, ::2], SharedNorm(gain[:2], 1e-5)(x[:, :2]))


def test_a_norm_carries_a_small_change_as_its_derivative_says():
    transformer = transformer_of(model_of("gpt2"))
    norm = transformer.layers[0].norm
    x, change = torch.randn(2, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    assert norm is not None
    expected = torch.autograd.functional.jvp(norm, x, change)[1]

    torch.testing.assert_close(norm.carry(change, x), expected)
