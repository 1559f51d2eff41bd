"""One record per model family: what a frozen, linear copy must know that the configuration does not say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """How a family differs from the plain transformer of METHODS section 3.

    norm: "rms" or "layer" (a layer norm also subtracts the mean, which is linear and needs no freezing).
    gain_offset: added to a norm's stored weight to get its gain (Gemma stores the gain minus one).
    post_norms: attention and MLP outputs pass a norm of their own before they join the residual stream.

    Whether attention and MLP run in parallel is a setting of each checkpoint, not of the family: see `Model.parallel`.
    """

    norm: str
    gain_offset: float = 0.0
    post_norms: bool = False


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
}
