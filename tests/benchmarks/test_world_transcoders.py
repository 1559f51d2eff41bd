"""Training transcoders on a toy: they come to match it, as sparse as asked for, and come back from disk."""

from functools import cache

import torch

from benchmarks.world.imitating import imitator
from benchmarks.world.language import make_language
from benchmarks.world.prompts import all_prompts
from benchmarks.world.reading import load_transcoders
from benchmarks.world.running import mlps
from benchmarks.world.training import Shape, make_model
from circuits.transcoders.saving import save_cross_layer, save_per_layer
from circuits.transcoders.teachers import Modules, recorded, replaced
from circuits.transcoders.train import Plan, train

LANGUAGE = make_language()
PROMPTS = {
    name: pool if len(pool) < 2000 else pool[:: len(pool) // 300] for name, pool in all_prompts(LANGUAGE).items()
}
PLAN = Plan(features=48, active=6, steps=150, warm_up=5, imitate_from=0.9)


def toy():
    model = make_model(len(LANGUAGE.words), Shape(layers=2, width=16, heads=2, hidden=24), seed=0)
    for parameter in model.parameters():
        parameter.data *= 3  # so that its MLPs do something
    return model.eval().requires_grad_(False)


@cache
def trained(cross_layer, run=0):
    """`run` tells two trainings apart that are otherwise the same."""
    seen = []
    model = toy()
    draw = imitator(LANGUAGE, PROMPTS, seed=0, scale=0.1)
    found = train(
        Modules(model, mlps(model)), draw, PLAN,
        kind="clt" if cross_layer else "plt", seed=0, every=20, report=lambda step, numbers: seen.append(numbers),
    )  # fmt: skip
    return model, found.map(lambda tensor: tensor.detach()), seen


def test_errors_fall_and_as_many_features_fire_as_asked_for():
    _, _, seen = trained(False)

    assert seen[-1]["error 0"] < 0.5 * seen[0]["error 0"]
    too_many = [numbers["active 0"] - PLAN.active for numbers in (seen[0], seen[-1])]
    assert abs(too_many[1]) < 0.5 * too_many[0]  # it starts dense on purpose


def test_cross_layer_features_write_to_all_later_layers():
    _, found, _ = trained(True)

    assert [decoder.shape for decoder in found.decoder] == [(48, 2, 16), (48, 1, 16)]


def test_training_is_the_same_for_the_same_seed():
    (_, one, _), (_, other, _) = trained(False, run=1), trained(False)

    assert all(torch.equal(a, b) for a, b in zip(one.encoder, other.encoder, strict=True))


def test_both_layouts_come_back_as_they_were(tmp_path):
    for cross_layer, save in ((False, save_per_layer), (True, save_cross_layer)):
        _, found, _ = trained(cross_layer)
        save(found, tmp_path / str(cross_layer), model_name="toy")
        again = load_transcoders(tmp_path / str(cross_layer))
        for name in ("encoder", "encoder_bias", "threshold", "decoder"):
            for a, b in zip(getattr(found, name), getattr(again, name), strict=True):
                assert torch.equal(a, b)
        assert torch.equal(found.decoder_bias, again.decoder_bias)


def test_a_replaced_model_keeps_its_first_position_and_uses_nothing_else_of_its_mlps():
    model, found, _ = trained(True)
    tokens = torch.tensor([LANGUAGE.ids(PROMPTS["two-hop"][0].words)])
    before = model(input_ids=tokens).logits
    with recorded(mlps(model)) as (inputs, outputs), replaced(mlps(model), found) as active:
        after = model(input_ids=tokens).logits
        rebuilt = found.decode([found.encode(x, layer) for layer, x in enumerate(inputs)], 1)

    assert torch.allclose(before[:, 0], after[:, 0], atol=1e-4)
    assert torch.allclose(rebuilt, found.decode(active, 1), atol=1e-5)
    assert len(outputs) == 2
