"""One record per model family: what a frozen, linear copy must know that the configuration does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Family:
    """How a family differs from the plain transformer of METHODS section 3.

    norm: "rms" or "layer" (a layer norm also subtracts the mean, which is linear and needs no freezing).
    gain_offset: added to a norm's stored weight to get its gain (Gemma stores the gain minus one).
    post_norms: attention and MLP outputs pass a norm of their own before they join the residual stream.
    mlp: "dense"; "experts", whose neurons are not read one by one; or "none", for attention alone.
    sites: places whose hook is not the usual one of `circuits.model`. None: the family has no such place, which for a
        norm's scale means that there is no norm.

    Whether attention and MLP run in parallel is a setting of each checkpoint, not of the family: see `Model.parallel`.
    """

    norm: str
    gain_offset: float = 0.0
    post_norms: bool = False
    mlp: str = "dense"
    sites: Mapping[str, str | None] = field(default_factory=dict)


# One norm before both attention and MLP.
_SHARED = {
    "mlp_scale": "blocks.{}.ln1.hook_scale",
    "mlp_normalised": "blocks.{}.ln1.hook_normalized",
    "residual_mid": "blocks.{}.ln1.hook_in",
}
# Attention and MLP read the residual stream as it is.
_BARE = {
    "attention_scale": None,
    "attention_normalised": "blocks.{}.attn.hook_in",
    "mlp_scale": None,
    "mlp_normalised": "blocks.{}.mlp.hook_in",
    "residual_mid": "blocks.{}.mlp.hook_in",
}
NO_NORMS = {**_BARE, "final_scale": None}
NO_MLP = dict.fromkeys(("mlp_scale", "mlp_input", "mlp_normalised", "residual_mid", "mlp_raw", "mlp_output"))

FAMILIES = {
    "GPT2LMHeadModel": Family("layer"),
    "GPTNeoForCausalLM": Family("layer"),
    "GPTNeoXForCausalLM": Family("layer"),
    "LlamaForCausalLM": Family("rms"),
    "MistralForCausalLM": Family("rms"),
    "Qwen2ForCausalLM": Family("rms"),
    "Qwen3ForCausalLM": Family("rms"),
    "Gemma2ForCausalLM": Family("rms", gain_offset=1.0, post_norms=True),
    "Gemma3ForCausalLM": Family("rms", gain_offset=1.0, post_norms=True),
    "PhiForCausalLM": Family("layer", sites=_SHARED),
    "Olmo2ForCausalLM": Family("rms", post_norms=True, sites=_BARE),
    "GptOssForCausalLM": Family("rms", mlp="experts"),
    "Qwen3MoeForCausalLM": Family("rms", mlp="experts"),
}
