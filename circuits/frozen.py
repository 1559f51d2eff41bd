"""The model made linear around one prompt: attention patterns and norm denominators held, MLPs cut out.

What is left of the model between two MLPs is a linear map of the residual stream. This file has that map, forward (to
carry a contribution onward) and transposed (to carry a target's gradient back to everything that could have fed it).

Source: Ameisen et al. 2025, "Circuit Tracing", local replacement model; METHODS sections 2.1, 2.5 and 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from circuits.model import Model
from circuits.sites import Site
from circuits.weights import Block, Norm


@dataclass(frozen=True, eq=False)
class FrozenNorm:
    """A norm whose denominator is held: x -> gain * (x - mean x, for a layer norm) / scale + bias.

    Where the model has no norm, gain and scale are ones.

    gain [d_model]; bias [d_model] or None; scale [pos 1], as measured on the prompt.
    """

    gain: Float[Tensor, "d_model"]
    bias: Float[Tensor, "d_model"] | None
    scale: Float[Tensor, "pos 1"]
    centred: bool

    def normalise(self, x: Float[Tensor, "... pos d_model"]) -> Float[Tensor, "... pos d_model"]:
        """What the norm gives before its gain and bias."""
        return _centre(x, self.centred) / self.scale

    def apply(self, x: Float[Tensor, "... pos d_model"]) -> Float[Tensor, "... pos d_model"]:
        """The linear part: no bias."""
        return self.gain * self.normalise(x)

    def transpose(
        self, g: Float[Tensor, "... d_model"], position: Tensor | slice = slice(None), *, gained: bool = True
    ) -> Float[Tensor, "... d_model"]:
        """A gradient on the norm's output as a gradient on its input; `gained=False`: on its output before the gain.

        position: where the last but one axis of g stands in the prompt.
        """
        return self.pull(g, gained=gained) / self.scale[position]

    def pull(self, g: Float[Tensor, "... d_model"], *, gained: bool = True) -> Float[Tensor, "... d_model"]:
        """The same but for the scale, which is all that differs between positions."""
        return _centre(self.gain * g if gained else g, self.centred)

    def push(self, x: Float[Tensor, "n d_model"], position: Tensor) -> Float[Tensor, "n d_model"]:
        """The linear part, of vectors at these positions."""
        return self.gain * _centre(x, self.centred) / self.scale[position]


@dataclass(frozen=True, eq=False)
class AttentionWeights:
    """One layer's value path with the affine part of its norms folded in; the same for every prompt.

    value [d_model kv_head*d_head]: the norm's gain (and centring), then W_V. out [head*d_head d_model]: W_O, then the
    gain (and centring) of a norm on the output.
    """

    value: Float[Tensor, "d_model kv_width"]
    out: Float[Tensor, "head_width d_model"]
    heads: int
    kv_heads: int


@dataclass(frozen=True, eq=False)
class FrozenAttention:
    """One layer's attention with its pattern and norms held: `x -> mixing (x value) out`, a linear map of the stream.

    pattern [head query key]: as the model had it. mixing [head key query]: the pattern over both norms' scales, keys
    first, as the sweep back wants it.
    constant: what it adds whatever comes in, by the name of the bias it stems from. Each [pos d_model]
    """

    weights: AttentionWeights
    pattern: Float[Tensor, "head query key"]
    mixing: Float[Tensor, "head key query"]
    constant: dict[str, Float[Tensor, "pos d_model"]]

    def forward(self, x: Float[Tensor, "pos d_model"]) -> Float[Tensor, "pos d_model"]:
        """The linear part of what attention adds to the residual stream x."""
        return self.spread(x @ self.weights.value)

    def spread(self, value: Float[Tensor, "key kv_width"]) -> Float[Tensor, "query d_model"]:
        """Values moved by the pattern and written."""
        mixing = self.mixing.unflatten(0, (self.weights.kv_heads, -1))
        value = rearrange(value, "key (kv e) -> kv key e", kv=self.weights.kv_heads)
        mixed = einsum(mixing, value, "kv group key query, kv key e -> query kv group e")
        return mixed.flatten(1) @ self.weights.out

    def spread_each(self, x: Float[Tensor, "key d_model"]) -> Float[Tensor, "query key d_model"]:
        """`forward` with every key's part kept apart: its sum over keys is `forward(x)`."""
        mixing = self.mixing.unflatten(0, (self.weights.kv_heads, -1))
        value = rearrange(x @ self.weights.value, "key (kv e) -> kv key e", kv=self.weights.kv_heads)
        mixed = einsum(mixing, value, "kv group key query, kv key e -> query key kv group e")
        return mixed.flatten(2) @ self.weights.out


@dataclass(frozen=True, eq=False)
class Frozen:
    """The frozen model of one prompt, everything but its MLPs.

    embedding, positions: what tokens and learned positions put into the residual stream (None without learned ones).
    attention, mlp_norm, mlp_post_norm, attention_norm, attention_post_norm: one per layer.
    unembedding: the demeaned unembedding matrix.
    looks: of the layers whose attention is replaced, and of no others: where the patterns of what replaces it look,
        over the scale of the norm that is read through; None where what replaces it reads its output, and so through
        the model's own. By layer, each [head query key]
    """

    embedding: Float[Tensor, "pos d_model"]
    positions: Float[Tensor, "pos d_model"] | None
    attention: list[FrozenAttention]
    mlp_norm: list[FrozenNorm]
    mlp_post_norm: list[FrozenNorm | None]
    attention_norm: list[FrozenNorm]
    attention_post_norm: list[FrozenNorm | None]
    final_norm: FrozenNorm
    unembedding: Float[Tensor, "d_model vocab"]
    unembedding_bias: Float[Tensor, "vocab"]
    parallel: bool
    causal: bool
    looks: dict[int, Float[Tensor, "head query key"] | None] = field(default_factory=dict)

    @property
    def layers(self) -> int:
        return len(self.attention)

    def mlp_input(self, residual: Float[Tensor, "pos d_model"], layer: int, site: str) -> Float[Tensor, "pos d_in"]:
        """What a dictionary reads at `site` of a layer when the stream before the MLP is `residual`."""
        norm = self.mlp_norm[layer]
        if site == "residual_mid":
            return residual
        if site == "mlp_normalised":
            return norm.normalise(residual)
        return norm.apply(residual) + (0 if norm.bias is None else norm.bias)

    def read_residual(
        self, vectors: Float[Tensor, "target d_in"], layer: int, position: Tensor, site: str
    ) -> tuple[Float[Tensor, "target d_model"], Float[Tensor, "target"]]:
        """Read vectors at a dictionary's input as ones of the residual stream, and what the norm's bias adds."""
        norm = self.mlp_norm[layer]
        nothing = vectors.new_zeros(len(vectors))
        if site == "residual_mid":
            return vectors, nothing
        if site == "mlp_normalised":
            return norm.transpose(vectors, position, gained=False), nothing
        return norm.transpose(vectors, position), nothing if norm.bias is None else vectors @ norm.bias

    def written(self, vectors: Float[Tensor, "n d_model"], layer: int, position: Tensor, site: str) -> Tensor:
        """Vectors written at a dictionary's output site, as they reach the residual stream."""
        norm = self.mlp_post_norm[layer]
        return vectors if site == "mlp_output" or norm is None else norm.push(vectors, position)

    def attention_input(
        self, residual: Float[Tensor, "pos d_model"], layer: int, site: str
    ) -> Float[Tensor, "pos d_model"]:
        """What is read at `site` of a layer's attention when the stream enters the layer as `residual`."""
        norm = self.attention_norm[layer]
        if site == "attention_normalised":
            return norm.normalise(residual)
        return norm.apply(residual) + (0 if norm.bias is None else norm.bias)

    def attention_written(
        self, vectors: Float[Tensor, "n d_model"], layer: int, position: Tensor, site: str
    ) -> Float[Tensor, "n d_model"]:
        """Vectors written at a site of a layer's attention, as they reach the residual stream."""
        norm = self.attention_post_norm[layer]
        return vectors if site == "attention_output" or norm is None else norm.push(vectors, position)


def freeze(model: Model, seen: dict[Site, Tensor]) -> Frozen:
    """The frozen model of the one prompt whose run left `seen`: embeddings, patterns and every norm's scale."""
    centred = model.family.norm == "layer"
    stream = seen[("token_embedding", 0)][0]

    def held(norm: Norm | None, site: Site) -> FrozenNorm:
        if norm is None:
            return FrozenNorm(torch.ones_like(stream[0]), None, torch.ones_like(stream[:, :1]), False)
        return FrozenNorm(norm.gain, norm.bias, seen[site][0].to(model.dtype), centred)

    def held_post(norm: Norm | None, site: Site) -> FrozenNorm | None:
        return None if norm is None else held(norm, site)

    blocks = list(enumerate(model.blocks))
    attention_norm = [held(block.attention_norm, ("attention_scale", layer)) for layer, block in blocks]
    attention_post_norm = [
        held_post(block.attention_post_norm, ("attention_post_scale", layer)) for layer, block in blocks
    ]
    return Frozen(
        embedding=seen[("token_embedding", 0)][0],
        positions=_batched(seen[("position_embedding", 0)])[0] if model.learned_positions else None,
        attention=[
            _freeze_attention(
                block,
                _fold(model)[layer],
                seen[("pattern", layer)][0].to(model.dtype),
                attention_norm[layer],
                attention_post_norm[layer],
            )
            for layer, block in blocks
        ],
        mlp_norm=[held(block.mlp_norm, ("mlp_scale", layer)) for layer, block in blocks],
        mlp_post_norm=[held_post(block.mlp_post_norm, ("mlp_post_scale", layer)) for layer, block in blocks],
        attention_norm=attention_norm,
        attention_post_norm=attention_post_norm,
        final_norm=held(model.final_norm, ("final_scale", 0)),
        unembedding=_demean(model),
        unembedding_bias=model.b_U - model.b_U.mean(),
        parallel=model.parallel,
        causal=model.causal,
    )


def sites_to_freeze(model: Model) -> list[Site]:
    """What a run must read so that `freeze` can work."""
    whole = ["token_embedding"] + (["position_embedding"] if model.learned_positions else [])
    return [
        *((name, 0) for name in whole),
        *(("pattern", layer) for layer in range(model.layers)),
        *model.scales(),
    ]


# What depends on the weights alone is made once a model, and forgotten with it.
_FOLDED: WeakKeyDictionary[Model, list[AttentionWeights]] = WeakKeyDictionary()
_DEMEANED: WeakKeyDictionary[Model, Tensor] = WeakKeyDictionary()


def _fold(model: Model) -> list[AttentionWeights]:
    if model not in _FOLDED:
        centred = model.family.norm == "layer"

        def folded(block: Block) -> AttentionWeights:
            value = rearrange(block.W_V, "kv d e -> (kv e) d")
            if block.attention_norm is not None:
                value = _centre(block.attention_norm.gain * value, centred)
            out = rearrange(block.W_O, "h e d -> (h e) d")
            if block.attention_post_norm is not None:
                out = block.attention_post_norm.gain * _centre(out, centred)
            return AttentionWeights(value.T.contiguous(), out.contiguous(), len(block.W_O), len(block.W_V))

        _FOLDED[model] = [folded(block) for block in model.blocks]
    return _FOLDED[model]


def _demean(model: Model) -> Float[Tensor, "d_model vocab"]:
    if model not in _DEMEANED:
        _DEMEANED[model] = model.W_U - model.W_U.mean(dim=1, keepdim=True)
    return _DEMEANED[model]


def _freeze_attention(
    block: Block, weights: AttentionWeights, pattern: Tensor, norm: FrozenNorm, post_norm: FrozenNorm | None
) -> FrozenAttention:
    keys = pattern if post_norm is None else pattern / post_norm.scale
    mixing = (keys / norm.scale.T).transpose(1, 2).contiguous()
    frozen = FrozenAttention(weights, pattern, mixing, {})
    # Values that are the same at every key: rows of a pattern need not sum to one, so they go through the pattern too.
    # The mixing divides by the scale that a value read from the stream has; these have none.
    if norm.bias is not None:
        frozen.constant["norm"] = frozen.spread(
            norm.scale * einsum(norm.bias, block.W_V, "d, kv d e -> kv e").flatten()
        )
    attention = []
    if block.b_V is not None:
        attention.append(frozen.spread(norm.scale * block.b_V.flatten()))
    if block.b_O is not None:
        everywhere = block.b_O.expand(len(norm.scale), -1)
        attention.append(post_norm.apply(everywhere) if post_norm else everywhere)
    if attention:
        frozen.constant["attention"] = torch.stack(attention).sum(0)
    if post_norm is not None and post_norm.bias is not None:
        frozen.constant["post-norm"] = post_norm.bias.expand(len(norm.scale), -1)
    return frozen


def _centre(x: Tensor, centred: bool) -> Tensor:
    return x - x.mean(dim=-1, keepdim=True) if centred else x


def _batched(x: Tensor) -> Tensor:
    """Some families' position embedding comes without a batch axis."""
    return x if x.ndim == 3 else x[None]
