"""The weights of TransformerLens's bridge around a model, read as ours: what a family lacks is None."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from circuits.families import Family
from circuits.sites import Site, hook_at
from circuits.weights import AttentionScores, Block, Norm


@dataclass(frozen=True, eq=False)
class BridgeWeights:
    """device, dtype: where weights are wanted, those of MLPs left where they lie, and in what gains are."""

    bridge: Any
    family: Family
    device: torch.device
    dtype: torch.dtype

    def block(self, layer: int) -> Block:
        """The weights of a layer."""
        block, width = self.bridge.blocks[layer], self.bridge.cfg.d_model
        attention, mlp = block.attn, block.mlp if self.family.mlp == "dense" else None
        none = torch.zeros(width, 0, device=self.device, dtype=self.dtype)
        post_norms = self.family.post_norms
        return Block(
            W_V=attention.W_V.detach().to(self.device),
            W_O=attention.W_O.detach().to(self.device),
            b_V=self._here(_maybe(attention, "b_V")),
            b_O=self._here(_maybe(attention, "b_O")),
            W_gate=_maybe(mlp, "W_gate"),
            W_in=none if mlp is None else mlp.W_in.detach(),
            W_out=none.T if mlp is None else mlp.W_out.detach(),
            b_gate=_maybe(mlp, "b_gate"),
            b_in=_maybe(mlp, "b_in"),
            b_out=_maybe(mlp, "b_out"),
            attention_norm=self._norm_at(block, ("attention_scale", layer)),
            attention_post_norm=self._norm_at(block, ("attention_post_scale", layer)) if post_norms else None,
            mlp_norm=self._norm_at(block, ("mlp_scale", layer)),
            mlp_post_norm=self._norm_at(block, ("mlp_post_scale", layer)) if post_norms else None,
        )

    def final_norm(self) -> Norm | None:
        """The norm before the unembedding, None where there is none."""
        return self._norm_at(self.bridge, ("final_scale", 0))

    def attention_scores(self, layer: int) -> AttentionScores:
        """How the heads of a layer come to their patterns."""
        network = self.bridge.original_model
        bridge, config = self.bridge.blocks[layer].attn, getattr(network, "config", None)
        module = bridge._original_component
        if config is None:  # TransformerLens's own, that divides
            return AttentionScores(
                W_Q=bridge.W_Q.detach().to(self.device),
                W_K=bridge.W_K.detach().to(self.device),
                b_Q=self._here(_maybe(bridge, "b_Q")),
                b_K=self._here(_maybe(bridge, "b_K")),
                query_norm=None,
                key_norm=None,
                scale=1 / module.scale,
                cap=module.attn_scores_soft_cap if module.attn_scores_soft_cap > 0 else None,
                window=None,
                rotation=None,
            )
        window = getattr(module, "sliding_window", getattr(config, "sliding_window", None))
        if getattr(config, "attention_layers", None):
            window = config.window_size if config.attention_layers[layer] == "local" else None
        rotation = getattr(network.base_model, "rotary_emb", None)
        if rotation is not None and getattr(rotation, "layer_types", None):  # one table for each kind of layer
            rotation = partial(rotation, layer_type=module.layer_type)
        unscaled = config.model_type == "gpt_neo"
        return AttentionScores(
            W_Q=bridge.W_Q.detach().to(self.device),
            W_K=bridge.W_K.detach().to(self.device),
            b_Q=self._here(_maybe(bridge, "b_Q")),
            b_K=self._here(_maybe(bridge, "b_K")),
            query_norm=self._norm(bridge.q_norm).gain if hasattr(bridge, "q_norm") else None,
            key_norm=self._norm(bridge.k_norm).gain if hasattr(bridge, "k_norm") else None,
            scale=1.0 if unscaled else module.scaling,
            cap=getattr(config, "attn_logit_softcapping", None),
            window=window,
            rotation=rotation,
        )

    def _norm_at(self, parent: Any, site: Site) -> Norm | None:
        """The norm whose denominator is at a site."""
        hook = hook_at(self.family, site)
        return None if hook is None else self._norm(getattr(parent, hook.split(".")[-2]))

    def _norm(self, norm: Any) -> Norm:
        gain = _maybe(norm, "w")
        if gain is None:  # it only divides
            return Norm(torch.ones(self.bridge.cfg.d_model, device=self.device, dtype=self.dtype), None)
        return Norm(gain.to(self.device, self.dtype) + self.family.gain_offset, self._here(_maybe(norm, "b")))

    def _here(self, tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(self.device)


def _maybe(module: Any, name: str) -> Tensor | None:
    """A weight that some families lack: None or an AttributeError both mean it is not there."""
    try:
        weight = getattr(module, name)
    except AttributeError:
        return None
    return None if weight is None else weight.detach()
