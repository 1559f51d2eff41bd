"""The places in a model that can be read and changed, and what fires there."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from circuits.families import Family

# Our name for a place in the model -> the hook of TransformerLens 4 that fires there. Per layer unless it is in WHOLE.
SITES = {
    "attention_scale": "blocks.{}.ln1.hook_scale",
    "attention_post_scale": "blocks.{}.ln1_post.hook_scale",
    "mlp_scale": "blocks.{}.ln2.hook_scale",
    "mlp_post_scale": "blocks.{}.ln2_post.hook_scale",
    "pattern": "blocks.{}.attn.hook_pattern",
    "value": "blocks.{}.attn.v.hook_out",
    "mixed": "blocks.{}.attn.o.hook_in",
    "attention_input": "blocks.{}.attn.hook_in",
    "attention_normalised": "blocks.{}.ln1.hook_normalized",
    "attention_raw": "blocks.{}.attn.hook_out",
    "attention_output": "blocks.{}.hook_attn_out",
    "mlp_input": "blocks.{}.mlp.hook_in",
    "mlp_normalised": "blocks.{}.ln2.hook_normalized",
    "residual_pre": "blocks.{}.hook_in",
    "residual_mid": "blocks.{}.ln2.hook_in",
    "mlp_raw": "blocks.{}.mlp.hook_out",
    "mlp_output": "blocks.{}.hook_mlp_out",
}
WHOLE = {
    "token_embedding": "embed.hook_out",
    "position_embedding": "pos_embed.hook_out",
    "residual_end": "ln_final.hook_in",
    "final_scale": "ln_final.hook_scale",
    "logits": "unembed.hook_out",
}

Site = tuple[str, int]  # (name, layer); the layer of a WHOLE site is 0
Edit = Callable[[Tensor], Tensor]


def hook_at(family: Family, site: Site) -> str | None:
    """The hook of TransformerLens that fires at a site, None where this family has no such place."""
    name, layer = site
    hook = family.sites.get(name, WHOLE.get(name) or SITES[name])
    return None if hook is None else hook.format(layer)
