"""Training transcoders: of every family and kind, stopped at any moment, and laws that hold at every step."""

from __future__ import annotations

import json
import signal
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import BadOption, BadRun, UnsupportedModel
from circuits.formats import load
from circuits.transcoders import checkpoints, running, train
from circuits.transcoders.batches import Draw
from circuits.transcoders.loading import load_transcoders
from circuits.transcoders.running import check_folder, run_training, settings_of
from circuits.transcoders.scaling import Batch
from circuits.transcoders.settings import Settings
from circuits.transcoders.teachers import Recorded, Whole
from circuits.transcoders.train import Plan, Training
from circuits.transcoders.trained import Trained
from graphs.errors import CannotWrite
from tests.circuits.worlds import EXPERTS, FAMILIES, model_of, native_of

SETTINGS = Settings("", "plt", "jumprelu", "self", features=24, active=4, steps=8, minutes=None, batch=4, seed=3)


class Line:
    """A world of one layer without a model behind it: what the MLP writes is a function of what it reads.

    It says 0 or 1, by the first number of what stands in for the MLP.
    """

    layers = 1

    def __init__(self, write):
        self.write = write

    def record(self, tokens: Int[Tensor, "row pos"]) -> Recorded:
        x = torch.randn(*tokens.shape, 4, generator=torch.Generator().manual_seed(int(tokens.sum())))
        return Recorded([x], [self.write(x)], self.say(self.write(x)))

    def imitated(self, tokens: Int[Tensor, "row pos"], transcoders: Trained) -> Float[Tensor, "row pos vocab"]:
        (x,) = self.record(tokens).inputs
        return self.say(transcoders.rebuild([transcoders.encode(x, 0)], x, 0))

    def say(self, y: Float[Tensor, "row pos d"]) -> Float[Tensor, "row pos vocab"]:
        return torch.stack([y[..., 0], torch.zeros_like(y[..., 0])], -1).log_softmax(-1)


class Turns:
    """Batches of 32 positions, each another."""

    def __init__(self):
        self.turn = 0

    def __call__(self) -> list[Batch]:
        self.turn += 1
        weight = torch.ones(4, 8)
        weight[:, 0] = 0
        return [Batch(torch.full((4, 8), self.turn), weight, weight)]


def training_of(kind="plt", write=torch.relu, products=None, **plan) -> Training:
    plan = Plan(**{"features": 12, "active": 2.0, "warm_up": 1, "rate": 1e-2, **plan})
    more = {} if products is None else {"products": products}
    return Training(Line(write), Turns(), plan, kind=kind, seed=0, **more)


def test_decoders_never_have_a_norm_above_one():
    # The outputs here are as large as features may write: without the bound, decoders grow past it.
    training = training_of(write=lambda x: 3 * torch.relu(x), imitate_from=0.0)
    largest = []
    for step in range(60):
        training.step(step / 60)
        largest.append(float(training.student.decoder[0].detach().flatten(1).norm(dim=1).max()))

    assert max(largest) <= 1 + 1e-6
    assert max(largest[30:]) > 0.999  # and some would, if they could


def test_topk_keeps_as_many_as_asked_for_on_every_token():
    training = training_of(activation="topk", active=3)
    for step in range(20):
        training.step(step / 20)
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    again = training_of(activation="topk", active=3)
    again.restore(training.state(), 20)

    assert again.trained().k == 3
    assert ((training.trained().encode(x, 0) != 0).sum(-1) == 3).all()


def test_a_skip_rebuilds_what_is_linear_and_features_alone_do_not():
    turned = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(5))).Q

    def error(kind: str) -> float:
        training = training_of(kind, write=lambda x: x @ turned, rate=3e-2, active=1.0)
        for step in range(200):
            training.step(step / 200)
            if step == 150:
                training.means.take()
        return training.means.take()["error 0"]

    assert error("skip") < 0.02
    assert error("plt") > 0.1


@pytest.mark.parametrize("activation", ["jumprelu", "topk"])
@pytest.mark.parametrize("push", [True, False])
def test_features_that_fell_silent_are_raised(activation: str, push: bool, monkeypatch: pytest.MonkeyPatch):
    if not push:
        monkeypatch.setattr(train, "PUSH", 0.0)
    training = training_of(activation=activation, active_at_start=1.0, silent_after=5)
    bias = training.student.encoder_bias[0].detach()
    bias[:6] -= 2  # nothing here lifts them over a threshold
    training.state()["silent"][0, :6] = 6
    before = bias.clone()
    training.step(0.1)

    assert (bias[:6] > before[:6]).tolist() == [push] * 6
    assert push or torch.equal(bias[:6], before[:6])


def test_features_that_fell_silent_fire_again():
    training = training_of(silent_after=5, rate=3e-2, decay_from=0.99)
    training.student.encoder_bias[0].detach()[:6] -= 2
    fired = torch.zeros(6, dtype=torch.bool)
    for step in range(150):
        training.step(step / 300)
        fired |= training.state()["silent"][0, :6] == 0

    assert fired.all()


def test_the_divergence_is_heard_before_it_counts():
    training = training_of(imitate_from=0.5)
    training.step(0.1)
    assert "divergence" not in training.means.take()
    training.step(0.1, listen=True)
    assert training.means.take()["divergence"] > 0


def test_products_in_bfloat16_leave_weights_in_float32_and_train_as_well():
    half = training_of(products=partial(torch.autocast, "cpu", torch.bfloat16), imitate_from=0.2)
    full = training_of(imitate_from=0.2)
    for step in range(200):
        half.step(step / 200)
        full.step(step / 200)
        if step == 150:
            half.means.take()
            full.means.take()

    assert all(weight.dtype == torch.float32 for weight in half.student.weights.values())
    assert not torch.equal(half.student.encoder[0], full.student.encoder[0])
    assert half.means.take()["error 0"] == pytest.approx(full.means.take()["error 0"], rel=0.3)


# -- whole runs -------------------------------------------------------------------------------------------------------


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """The set in a folder, and its log without the seconds."""
    found = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    lines = [line.split(",") for line in (folder / "training.csv").read_text().splitlines()]
    return found | {"log": repr([line[:2] + line[3:] for line in lines]).encode()}


# Kinds differ in what is written, not in the model: one family with norms behind its MLPs, one in parallel, one plain.
ALL_KINDS = [(family, kind) for family in ("llama", "gemma2", "gpt_neox") for kind in ("clt", "skip")]


@pytest.mark.parametrize(("family", "kind"), [*((family, "plt") for family in (*FAMILIES, *EXPERTS)), *ALL_KINDS])
def test_a_set_of_every_kind_for_every_family_comes_back_as_it_was_trained(family: str, kind: str, tmp_path: Path):
    model = model_of(family, "float32")
    held: list[Training] = []
    original = running._finish

    def finish(*given):
        held.append(given[3])
        return original(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_finish", finish)
        outcome = run_training(model, replace(SETTINGS, kind=kind), tmp_path / "set")
    trained = held[0].trained().map(lambda tensor: tensor.detach())
    found = load(tmp_path / "set")
    x = torch.randn(model.layers, 5, model.d_model, generator=torch.Generator().manual_seed(0))
    acts, out = found.reconstruct(x)
    active = [trained.encode(x[layer], layer) for layer in range(model.layers)]

    assert found.cross_layer == (kind == "clt") and (found.W_skip is not None) == (kind == "skip")
    assert (found.reads, found.writes) == ("mlp_input", "mlp_output")
    torch.testing.assert_close(acts, torch.stack(active))
    rebuilt = [trained.rebuild(active, x[layer], layer) for layer in range(model.layers)]
    torch.testing.assert_close(out, torch.stack(rebuilt), rtol=1e-4, atol=1e-4)
    assert len(outcome.fvu) == model.layers and outcome.steps == 8 and outcome.kl > 0
    load_transcoders(tmp_path / "set", model, force=True)


def test_a_native_model_can_have_transcoders_and_attention_alone_cannot(tmp_path: Path):
    assert len(run_training(native_of("plain", "float32"), SETTINGS, tmp_path / "set").l0) == 2
    with pytest.raises(UnsupportedModel, match=r"attention only: there is no MLP"):
        run_training(native_of("attention-only", "float32"), SETTINGS, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("activation", ["jumprelu", "topk"])
def test_a_set_that_was_trained_long_enough_passes_the_test_of_sets(activation: str, tmp_path: Path):
    model = model_of("llama", "float32")
    settings = replace(SETTINGS, features=64, active=6, steps=150, batch=16, activation=activation)
    outcome = run_training(model, settings, tmp_path / "set")
    load_transcoders(tmp_path / "set", model)  # which refuses what does not fit

    assert outcome.fits
    assert sum(outcome.l0) / 3 == pytest.approx(6, rel=0.3 if activation == "jumprelu" else 1e-6)
    record = json.loads((tmp_path / "set" / "training.json").read_text())
    assert record["fvu"] == outcome.fvu and record["settings"]["features"] == 64
    assert "KL, all MLPs replaced" in (tmp_path / "set" / "training.svg").read_text()
    assert not (tmp_path / "set" / "training").exists()


class Killed(Exception):
    """As if by kill -9: nothing is saved."""


def stop_at(step: int, how: str):
    def report(_: float, numbers: dict[str, float]) -> None:
        if numbers["step"] == step:
            if how == "kill":
                raise Killed
            signal.raise_signal(signal.SIGINT if how == "ctrl-c" else signal.SIGTERM)

    return report


@pytest.mark.parametrize("kind", ["plt", "clt"])
@pytest.mark.parametrize("how", ["ctrl-c", "kill", "kill, saved before"])
def test_a_training_that_was_stopped_ends_as_one_that_was_not(
    how: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model, settings = model_of("llama", "float32"), replace(SETTINGS, kind=kind, steps=12)
    run_training(model, settings, tmp_path / "whole")
    if how == "kill, saved before":
        monkeypatch.setattr(running, "SAVE_EVERY", 0.0)
        monkeypatch.setattr(running, "SAVE_SHARE", 0.0)
    for step in (5, 9):
        with suppress(KeyboardInterrupt, Killed):
            run_training(model, settings, tmp_path / "cut", report=stop_at(step, how.partition(",")[0]))
        assert settings_of(tmp_path / "cut") == settings
        assert (tmp_path / "cut" / running.CHECKPOINT).exists() == (how != "kill")
        assert not list((tmp_path / "cut").glob("*.safetensors"))
    run_training(model, settings, tmp_path / "cut", data="not looked at")

    assert folder_bytes(tmp_path / "cut") == folder_bytes(tmp_path / "whole")


def test_ctrl_c_is_heeded_after_the_step_and_what_was_done_is_kept(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        run_training(model_of("llama", "float32"), SETTINGS, tmp_path, report=stop_at(5, "ctrl-c"))
    _, notes = checkpoints.load_tensors(tmp_path / running.CHECKPOINT)
    assert notes["steps"] == 5
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model, saves = model_of("llama", "float32"), iter(range(100))
    run_training(model, SETTINGS, tmp_path / "whole")
    monkeypatch.setattr(running, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(running, "SAVE_SHARE", 0.0)
    real = checkpoints.save_file

    def full(tensors, path, notes):
        real(tensors, path, notes)
        if next(saves) == 4:  # the texts, then a checkpoint at every step
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(CannotWrite, match=r"No space left on device\. What was saved before is whole.*--resume"):
        run_training(model, SETTINGS, tmp_path / "cut")
    assert checkpoints.load_tensors(tmp_path / "cut" / running.CHECKPOINT)[1]["steps"] == 3
    assert not list((tmp_path / "cut" / running.WORK).glob(".*"))
    run_training(model, SETTINGS, tmp_path / "cut")

    assert folder_bytes(tmp_path / "cut") == folder_bytes(tmp_path / "whole")


def test_a_disk_that_is_too_small_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(running.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(CannotWrite, match=r"takes up to .* kB of disk, 1.0 kB are free"):
        run_training(model_of("llama", "float32"), SETTINGS, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_damaged_checkpoint_is_told(tmp_path: Path):
    model = model_of("llama", "float32")
    with suppress(KeyboardInterrupt):
        run_training(model, SETTINGS, tmp_path, report=stop_at(5, "ctrl-c"))
    path = tmp_path / running.CHECKPOINT
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BadRun, match=r"checkpoint.safetensors is damaged .* train again"):
        run_training(model, SETTINGS, tmp_path)


def test_minutes_are_counted_by_the_clock_that_is_given(tmp_path: Path):
    ticks = iter(range(10_000))
    settings = replace(SETTINGS, steps=None, minutes=1.0)
    shares: list[float] = []
    run_training(
        model_of("llama", "float32"),
        settings,
        tmp_path,
        report=lambda share, _: shares.append(share),
        clock=lambda: float(next(ticks)),
    )
    assert shares[-1] == 1.0 and shares == sorted(shares)
    assert next(ticks) < 120  # it stopped soon after the sixtieth


def test_a_folder_is_not_taken_from_anything_else(tmp_path: Path):
    check_folder(tmp_path / "new", resume=False)
    check_folder(tmp_path, resume=False)
    with pytest.raises(BadRun, match=r"holds no training: there is nothing to go on with"):
        check_folder(tmp_path, resume=True)
    (tmp_path / "config.yaml").write_text("model_kind: transcoder_set")
    with pytest.raises(BadRun, match=r"is not empty \(it holds config.yaml\)"):
        check_folder(tmp_path, resume=False)
    with suppress(KeyboardInterrupt):
        run_training(model_of("llama", "float32"), SETTINGS, tmp_path / "run", report=stop_at(5, "ctrl-c"))
    with pytest.raises(BadRun, match=r"not finished: go on with --resume"):
        check_folder(tmp_path / "run", resume=False)
    check_folder(tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"active": 13}, "of 24 features at most half can be active at a token, 13 were asked for"),
        ({"features": 16, "active": 4}, r"as wide|as many features as the model is wide \(16\).* give one more, 17"),
        ({"kind": "clt", "activation": "topk"}, "cross-layer layout knows no TopK"),
        ({"activation": "topk", "active": 2.5}, "TopK keeps a whole number"),
        ({"kind": "sae"}, "a kind is one of plt, clt, skip"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changed: dict, complaint: str, tmp_path: Path):
    with pytest.raises(BadOption, match=complaint):
        run_training(model_of("llama", "float32"), replace(SETTINGS, **changed), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_every_text_is_drawn_once_a_round_and_a_place_can_be_gone_back_to():
    from circuits.texts import Texts

    texts = Texts(torch.arange(10)[:, None].repeat(1, 5), torch.full((10,), 5))
    draw = Draw(texts, 3, 7, torch.device("cpu"))
    seen = [draw()[0].tokens[:, 0].tolist() for _ in range(6)]
    again = Draw(texts, 3, 7, torch.device("cpu"))
    again.drawn = 4

    assert len({each for batch in seen[:3] for each in batch}) == 9
    assert seen[:3] != seen[3:]
    assert [again()[0].tokens[:, 0].tolist() for _ in range(2)] == seen[4:]
    assert draw.tokens == 6 * 15


@pytest.mark.parametrize("family", ["gemma2", "gpt_neox", "llama"])
def test_what_is_imitated_is_the_model_with_every_output_but_the_first_position_replaced(family: str):
    # Features that are never active, and biases that stand in for the outputs: the same by way of an edit.
    model = model_of(family, "float32")
    teacher = Whole(model)
    tokens = torch.tensor([[1, 4, 7, 2, 9]])
    seen = teacher.record(tokens)
    width = model.d_model
    nothing = Trained(
        tuple(torch.zeros(2, width) for _ in range(model.layers)),
        tuple(torch.zeros(2) for _ in range(model.layers)),
        tuple(torch.ones(2) for _ in range(model.layers)),
        tuple(torch.zeros(2, 1, width) for _ in range(model.layers)),
        torch.stack([out[0, 3] for out in seen.outputs]),
    )
    _, same = model.run(tokens)
    edits = {
        ("mlp_output", layer): lambda out, layer=layer: torch.cat(
            [out[:, :1], nothing.decoder_bias[layer].expand_as(out[:, 1:])], dim=1
        )
        for layer in range(model.layers)
    }
    changed, _ = model.run(tokens, edit=edits)

    torch.testing.assert_close(teacher.imitated(tokens, nothing).exp(), model.probabilities(changed), atol=1e-6, rtol=0)
    torch.testing.assert_close(seen.log_p.exp(), model.probabilities(same[("logits", 0)]), atol=1e-6, rtol=0)
