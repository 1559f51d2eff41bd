"""A real model laid open as plain tensors, and held to itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from circuits.components.layers import Layer, Projection, Rotation
from circuits.components.norms import LiveNorm, SharedNorm
from circuits.components.transformer import Transformer
from circuits.errors import UnfaithfulModel, UnsupportedModel
from circuits.model import Model
from circuits.transcoders.neurons import ACTIVATIONS
from circuits.weights import Block, Norm

FAITHFUL = {torch.float32: 1e-3, torch.float64: 1e-4}  # of the spread of the logits: norms of the real run in float32
EPSILON = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon")


def transformer_of(model: Model) -> Transformer:
    """A model's weights, laid open.

    Raises:
        UnsupportedModel: its MLPs are experts or their activation is not known; or it is TransformerLens's own and
            turns its heads by position.
    """
    _check_known(model)
    config = getattr(model.network, "config", None)
    epsilon = next((getattr(config, name) for name in EPSILON if hasattr(config, name)), model.norm_epsilon)
    function, ratio = ACTIVATIONS.get(model.activation, ACTIVATIONS["relu"])  # without MLPs, any
    centred = model.family.norm == "layer"

    def live(norm: Norm | None) -> LiveNorm | None:
        return None if norm is None else LiveNorm(norm.gain, norm.bias, centred, epsilon)

    def layer(at: int, block: Block) -> Layer:
        attention = model.attention_scores(at)
        share = model.heads // len(attention.W_K)
        return Layer(
            query=Projection(attention.W_Q, attention.b_Q, 1),
            key=Projection(attention.W_K, attention.b_K, share),
            value=Projection(block.W_V, block.b_V, model.heads // len(block.W_V)),
            query_norm=_head_norm(attention.query_norm, attention.W_Q.shape[-1], 1, epsilon),
            key_norm=_head_norm(attention.key_norm, attention.W_K.shape[-1], share, epsilon),
            W_O=block.W_O,
            b_O=block.b_O,
            scale=attention.scale,
            cap=attention.cap,
            window=attention.window,
            rotation=None if attention.rotation is None else _remembered(attention.rotation, model),
            causal=model.causal,
            norm=live(block.attention_norm),
            post_norm=live(block.attention_post_norm),
            mlp_norm=live(block.mlp_norm),
            mlp_post_norm=live(block.mlp_post_norm),
            W_gate=block.W_gate,
            W_in=block.W_in,
            W_out=block.W_out,
            b_gate=block.b_gate,
            b_in=block.b_in,
            b_out=block.b_out,
            function=function,
            ratio=ratio,
        )

    return Transformer(
        name=model.name,
        layers=[layer(at, block) for at, block in enumerate(model.whole_blocks)],
        W_E=model.W_E,
        embedding_scale=_embedding_scale(model),
        W_pos=model.positions,
        W_U=model.W_U,
        b_U=model.b_U,
        final_norm=live(model.final_norm),
        parallel=model.parallel,
        cap=model.logit_cap,
    )


def _check_known(model: Model) -> None:
    """That every part of it is known here. Raises UnsupportedModel."""
    config = getattr(model.network, "config", None)
    if config is None and not model.learned_positions:
        raise UnsupportedModel(
            f"{model.name} is TransformerLens's own without learned positions: components are found in those that have."
        )
    if model.family.mlp == "experts":
        raise UnsupportedModel(f"{model.name} has experts for MLPs: components are found in models without.")
    if model.activation not in ACTIVATIONS and model.family.mlp != "none":
        raise UnsupportedModel(
            f"{model.name} uses the activation {model.activation!r}; the functions known are {', '.join(ACTIVATIONS)}."
        )


def _embedding_scale(model: Model) -> float:
    """What the model multiplies its token embeddings by, as the longest of them shows."""
    W_E = model.W_E
    longest = W_E.norm(dim=1).argmax()
    _, seen = model.run(longest[None, None], read=[("token_embedding", 0)])
    passed = seen[("token_embedding", 0)][0, 0]
    scale = float((W_E[longest] @ passed) / (W_E[longest] @ W_E[longest]))  # Gemma's √d_model, as its dtype rounds it
    return 1.0 if math.isclose(scale, 1.0, rel_tol=1e-6) else scale


@torch.no_grad()
def check_faithful(transformer: Transformer, model: Model, tokens: Int[Tensor, "batch pos"]) -> None:
    """Hold the open transformer to the real model on these prompts.

    Raises:
        UnfaithfulModel: their logits differ.
    """
    real, _ = model.run(tokens)
    ours = transformer.unembed(transformer.run(transformer.embed(tokens)).after)
    apart = float((ours - real).abs().max() / (real.max() - real.min()))
    if not apart <= FAITHFUL[model.dtype]:
        raise UnfaithfulModel(
            f"the components of {model.name} do not add up to it: its logits differ by {apart:.1e} of their spread, "
            f"{FAITHFUL[model.dtype]:.0e} is allowed. Some part of it is not known here; please report that."
        )


def _head_norm(gain: Tensor | None, d_head: int, share: int, epsilon: float) -> LiveNorm | SharedNorm | None:
    """The norm on every head's queries or keys, or on all of them at once. share: heads that read each group."""
    if gain is None or len(gain) == d_head:
        return None if gain is None else LiveNorm(gain, None, False, epsilon)
    return SharedNorm(gain.unflatten(0, (-1, d_head)).repeat_interleave(share, 0), epsilon)


def _remembered(rotation: Callable[[Tensor, Tensor], Any], model: Model) -> Rotation:
    """The model's own tables, made once a length."""
    known: dict[int, tuple[Tensor, Tensor]] = {}

    def tables(length: int) -> tuple[Tensor, Tensor]:
        if length not in known:
            like = torch.zeros(1, dtype=model.dtype, device=model.device)
            cosine, sine = rotation(like, torch.arange(length, device=model.device)[None])
            known[length] = (cosine[0], sine[0])
        return known[length]

    return tables
