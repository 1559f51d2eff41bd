"""The model made linear around one prompt: attention patterns and norm denominators held, MLPs cut out.

What is left of the model between two MLPs is a linear map of the residual stream. This file has that map, forward (to
carry a contribution onward) and transposed (to carry a target's gradient back to everything that could have fed it).

Source: Ameisen et al. 2025, "Circuit Tracing", local replacement model; METHODS sections 2.1, 2.5 and 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import einsum, rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor

from circuits.model import Block, Model, Norm, Site


@dataclass(frozen=True, eq=False)
class FrozenNorm:
    """A norm whose denominator is held: x -> gain * (x - mean x, for a layer norm) / scale + bias.

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
        return _centre(self.gain * g if gained else g, self.centred) / self.scale[position]


@dataclass(frozen=True, eq=False)
class FrozenAttention:
    """One layer's attention with its pattern and norms held: a linear map of the residual stream.

    pattern [head query key]; W_V [kv_head d_model d_head]; W_O [head d_head d_model].
    constant: what it adds whatever comes in, by the name of the bias it stems from. Each [pos d_model]
    """

    pattern: Float[Tensor, "head query key"]
    W_V: Float[Tensor, "kv_head d_model d_head"]
    W_O: Float[Tensor, "head d_head d_model"]
    norm: FrozenNorm
    post_norm: FrozenNorm | None
    constant: dict[str, Float[Tensor, "pos d_model"]]

    def forward(self, x: Float[Tensor, "pos d_model"]) -> Float[Tensor, "pos d_model"]:
        """The linear part of what attention adds to the residual stream x."""
        value = einsum(self.norm.apply(x), self.W_V, "key d, kv d e -> kv key e")
        out = self.mix(value)
        return self.post_norm.apply(out) if self.post_norm else out

    def mix(self, value: Float[Tensor, "kv_head key d_head"]) -> Float[Tensor, "query d_model"]:
        """Values moved by the pattern and written by W_O, all heads summed, before any post-norm."""
        value = repeat(value, "kv key e -> (kv group) key e", group=len(self.pattern) // len(value))
        return einsum(self.pattern, value, self.W_O, "h query key, h key e, h e d -> query d")

    def transpose(self, g: Float[Tensor, "target query d_model"]) -> Float[Tensor, "target key d_model"]:
        """A gradient on what attention adds, as a gradient on the residual stream it reads."""
        length = g.shape[1]
        if self.post_norm:
            g = self.post_norm.transpose(g, slice(length))
        pattern = self.pattern[:, :length, :length]
        z = einsum(g, self.W_O, "t query d, h e d -> t h query e")
        z = einsum(z, pattern, "t h query e, h query key -> t h key e")
        z = reduce(z, "t (kv group) key e -> t kv key e", "sum", kv=len(self.W_V))
        return self.norm.transpose(einsum(z, self.W_V, "t kv key e, kv d e -> t key d"), slice(length))


@dataclass(frozen=True, eq=False)
class Frozen:
    """The frozen model of one prompt, everything but its MLPs.

    embedding, positions: what tokens and learned positions put into the residual stream (None without learned ones).
    attention, mlp_norm, mlp_post_norm: one per layer. unembedding: the demeaned unembedding matrix.
    """

    embedding: Float[Tensor, "pos d_model"]
    positions: Float[Tensor, "pos d_model"] | None
    attention: list[FrozenAttention]
    mlp_norm: list[FrozenNorm]
    mlp_post_norm: list[FrozenNorm | None]
    final_norm: FrozenNorm
    unembedding: Float[Tensor, "d_model vocab"]
    unembedding_bias: Float[Tensor, "vocab"]
    parallel: bool

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
        if site == "mlp_output" or norm is None:
            return vectors
        return norm.gain * _centre(vectors, norm.centred) / norm.scale[position]


def freeze(model: Model, seen: dict[Site, Tensor]) -> Frozen:
    """The frozen model of the one prompt whose run left `seen`: embeddings, patterns and every norm's scale."""
    norms = {"centred": model.family.norm == "layer"}

    def held(norm: Norm, site: Site) -> FrozenNorm:
        return FrozenNorm(norm.gain, norm.bias, seen[site][0].to(model.dtype), **norms)

    def held_post(norm: Norm | None, site: Site) -> FrozenNorm | None:
        return None if norm is None else held(norm, site)

    blocks = list(enumerate(model.blocks))
    return Frozen(
        embedding=seen[("token_embedding", 0)][0],
        positions=_batched(seen[("position_embedding", 0)])[0] if model.learned_positions else None,
        attention=[
            _freeze_attention(
                block,
                seen[("pattern", layer)][0],
                held(block.attention_norm, ("attention_scale", layer)),
                held_post(block.attention_post_norm, ("attention_post_scale", layer)),
            )
            for layer, block in blocks
        ],
        mlp_norm=[held(block.mlp_norm, ("mlp_scale", layer)) for layer, block in blocks],
        mlp_post_norm=[held_post(block.mlp_post_norm, ("mlp_post_scale", layer)) for layer, block in blocks],
        final_norm=held(model.final_norm, ("final_scale", 0)),
        unembedding=model.W_U - model.W_U.mean(dim=1, keepdim=True),
        unembedding_bias=model.b_U - model.b_U.mean(),
        parallel=model.parallel,
    )


def sites_to_freeze(model: Model) -> list[Site]:
    """What a run must read so that `freeze` can work."""
    per_layer = ["pattern", "attention_scale", "mlp_scale"]
    if model.family.post_norms:
        per_layer += ["attention_post_scale", "mlp_post_scale"]
    whole = ["token_embedding", "final_scale"] + (["position_embedding"] if model.learned_positions else [])
    return [(name, 0) for name in whole] + [(name, layer) for layer in range(model.layers) for name in per_layer]


def _freeze_attention(block: Block, pattern: Tensor, norm: FrozenNorm, post_norm: FrozenNorm | None) -> FrozenAttention:
    frozen = FrozenAttention(pattern.to(block.W_V.dtype), block.W_V, block.W_O, norm, post_norm, {})
    length = pattern.shape[-1]

    def spread(value: Float[Tensor, "kv_head d_head"]) -> Tensor:
        """The same value at every key; rows of a pattern need not sum to one, so it goes through the pattern too."""
        out = frozen.mix(repeat(value, "kv e -> kv key e", key=length))
        return post_norm.apply(out) if post_norm else out

    def everywhere(vector: Float[Tensor, "d_model"]) -> Tensor:
        out = repeat(vector, "d -> pos d", pos=length)
        return post_norm.apply(out) if post_norm else out

    if norm.bias is not None:
        frozen.constant["norm"] = spread(einsum(norm.bias, block.W_V, "d, kv d e -> kv e"))
    attention = []
    if block.b_V is not None:
        attention.append(spread(rearrange(block.b_V, "kv e -> kv e")))
    if block.b_O is not None:
        attention.append(everywhere(block.b_O))
    if attention:
        frozen.constant["attention"] = torch.stack(attention).sum(0)
    if post_norm is not None and post_norm.bias is not None:
        frozen.constant["post-norm"] = repeat(post_norm.bias, "d -> pos d", pos=length)
    return frozen


def _centre(x: Tensor, centred: bool) -> Tensor:
    return x - x.mean(dim=-1, keepdim=True) if centred else x


def _batched(x: Tensor) -> Tensor:
    """Some families' position embedding comes without a batch axis."""
    return x if x.ndim == 3 else x[None]
