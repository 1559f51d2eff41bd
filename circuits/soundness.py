"""The check of a model when it is loaded: its frozen copy says what it says, and what is done to it counts."""

from __future__ import annotations

import hashlib
import os
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from circuits.attributing import attribute
from circuits.errors import NotConserved, UnfaithfulModel
from circuits.holding import hold_attention
from circuits.model import Model
from circuits.sites import Edit, Site
from circuits.tracing import Trace, trace
from circuits.transcoders.transcoders import Transcoders

LENGTH = 8  # tokens of the random prompt
UNITS = 4  # of the random dictionary, per layer
EXACT = 1e-3  # of the largest logit that an edit moves; norms that compute in float32 leave about 1e-6


def check_sound(model: Model) -> None:
    """Hold a model to its frozen copy on a random prompt; one that passed before, as it is now, is not asked again.

    The frozen copy must give the real logits, the inputs of every target must sum to its value, and a change of the
    residual stream in the real model, patterns and norms held, must move its logits as the copy says.

    Raises:
        UnfaithfulModel: it would be traced wrongly; the message has the figure.
    """
    passed = _passed(model)
    if passed.exists():
        return
    _examine(model)
    try:
        passed.parent.mkdir(parents=True, exist_ok=True)
        passed.touch()
    except OSError:  # no place to remember: it is asked again next time
        return


@torch.no_grad()
def _examine(model: Model) -> None:
    numbers = torch.Generator().manual_seed(0)
    prompt = torch.randint(model.vocabulary, (min(LENGTH, model.context),), generator=numbers).tolist()
    logits, _ = model.run(torch.tensor([prompt], device=model.device))
    if not bool(torch.isfinite(logits).all()):
        raise UnfaithfulModel(
            f"{model.name} says no numbers: its logits on a random prompt are infinite or NaN. Its weights hold such "
            "values, or leave the range of what they are computed in. Try dtype float64, or another copy of the model."
        )
    dictionary = _random_dictionary(model, numbers)
    try:
        attribute(model, dictionary, prompt)
    except NotConserved as reason:
        raise UnfaithfulModel(f"{model.name} cannot be traced: {reason}") from reason
    run = trace(model, dictionary, prompt)
    change = torch.randn(model.d_model, generator=numbers).to(run.residual) * run.frozen.embedding.std()
    real, expected = _moved(model, run, change), _said_to_move(run, change)
    off = float((real - expected).abs().max() / expected.abs().max())
    if not off <= EXACT:
        raise UnfaithfulModel(
            f"a change in the first layer of {model.name} moves its logits otherwise than its frozen copy says, by "
            f"{off:.1e} of the largest, {EXACT:.0e} is allowed: what is done to it does not count, so no graph of it "
            "could be tested. Please report it."
        )


def _moved(model: Model, run: Trace, change: torch.Tensor) -> torch.Tensor:
    """What a change of the first attention output does to the real logits, patterns, norms and MLP outputs held."""
    held = model.scales()
    held += [("mlp_output", layer) for layer in range(model.layers) if model.family.mlp != "none"]
    _, seen = model.run(run.tokens[None], read=[*held, ("attention_output", 0)])

    def hold(site: Site) -> Edit:
        return lambda _: seen[site].clone()

    edits = {**hold_attention(run), **{site: hold(site) for site in held}}
    first = seen[("attention_output", 0)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A forward hook edited hook_scale")  # that is what is wanted
        logits, _ = model.run(run.tokens[None], edit={**edits, ("attention_output", 0): lambda _: first + change})
        still, _ = model.run(run.tokens[None], edit={**edits, ("attention_output", 0): lambda _: first.clone()})
    moved = (logits - still)[0]
    return moved - moved.mean(-1, keepdim=True)


def _said_to_move(run: Trace, change: torch.Tensor) -> torch.Tensor:
    """The same by the frozen copy."""
    x = change.expand_as(run.residual)
    for attention in run.frozen.attention[1:]:
        x = x + attention.forward(x)
    return run.frozen.final_norm.apply(x) @ run.frozen.unembedding


def _random_dictionary(model: Model, numbers: torch.Generator) -> Transcoders:
    def draw(*shape: int) -> torch.Tensor:
        drawn = torch.randn(*shape, generator=numbers) / model.d_model**0.5
        return drawn.to(device=model.device, dtype=model.dtype)

    layers, width = range(model.layers), model.d_model
    return Transcoders(
        name="random",
        content_hash="random",
        W_enc=[draw(UNITS, width) for _ in layers],
        b_enc=[draw(UNITS) for _ in layers],
        threshold=[draw(UNITS) * 0 for _ in layers],
        W_dec=[draw(UNITS, 1, width) for _ in layers],
        b_dec=[draw(width) for _ in layers],
        W_skip=None,
        reads="mlp_input",
        writes="mlp_output",
        silent_positions=0,
    )


def _passed(model: Model) -> Path:
    """The file that stands for a model that passed: weights, settings, and all that computes with them, in its name."""
    config = getattr(model.network, "config", None) or model.network.cfg
    parts = [model.content_hash, str(config), str(model.family), str(model.dtype), model.device.type]
    for name in ("circuit-assay", "torch", "transformers", "transformer-lens"):
        try:
            parts.append(version(name))
        except PackageNotFoundError:
            parts.append("not installed")
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
    return _cache() / "sound" / key


def _cache() -> Path:
    """Where this user's programs keep what they can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "circuit-assay"
