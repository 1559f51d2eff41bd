"""Models of Hugging Face as the settings and weights of a HookedTransformer, which is what peers run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import save_file
from torch import Tensor

from circuits.errors import CircuitError
from circuits.hub.fetching import fetch_model
from circuits.hub.published import SHIPPED, shipped_models
from circuits.model import Model

ROTARY = ("llama", "qwen3", "gemma2", "gemma3_text")
WEIGHTS = "model.safetensors"


class NotTranslated(CircuitError, ValueError):
    """A peer can be handed no model, or no dictionary, of this kind."""


@contextmanager
def without_float32() -> Iterator[None]:
    """Run a float64 model in float64 throughout: transformers casts norms, softmax and rotations to float32."""
    with patch.object(torch, "float32", torch.float64), patch.object(Tensor, "float", Tensor.double):
        yield


def folder_of(model: Model) -> Path:
    """Where a loaded model's files lie.

    Raises:
        NotTranslated: it came from no files.
    """
    if model.name in shipped_models():
        return SHIPPED / model.name / "model"
    return Path(model.name) if Path(model.name).is_dir() else fetch_model(model.name).folder


def write_hooked(source: Path, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Write a model's weights into a job's folder. Returns its settings.

    Raises:
        NotTranslated: its architecture is not known here.
    """
    settings, weights = _translate(source, dtype)
    save_file({name: tensor.clone().contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    return settings


def _translate(folder: Path, dtype: torch.dtype) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A Hugging Face model as the settings and weights of a HookedTransformer."""
    from transformers import AutoModelForCausalLM

    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    config = network.config
    state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    if config.model_type == "gpt2":
        return _translate_gpt2(config, state)
    if config.model_type == "gpt_neox":
        return _translate_neox(config, state, _rotary(network, network.gpt_neox.rotary_emb, dtype)[None])
    if config.model_type not in ROTARY:
        raise NotTranslated(
            f"weights of {config.model_type} are not translated for peers: only those of gpt2, gpt_neox, "
            f"{', '.join(ROTARY)} are."
        )
    return _translate_rotary(config, state, _rotary(network, network.model.rotary_emb, dtype))


def _rotary(network: Any, rotate: Any, dtype: torch.dtype) -> dict[str | None, dict[str, Tensor]]:
    """Its own tables: in float64 they would differ by a float32 rounding, and patterns with them.

    One for each kind of layer that has its own (Gemma 3), else one under None.
    """
    position = torch.arange(network.config.max_position_embeddings)[None]
    kinds = {name: {"layer_type": name} for name in getattr(rotate, "layer_types", ())} or {None: {}}
    found = {}
    for kind, option in kinds.items():
        with without_float32() if dtype == torch.float64 else nullcontext():
            cos, sin = rotate(torch.zeros(1, dtype=dtype), position, **option)
        found[kind] = {"rotary_cos": cos[0], "rotary_sin": sin[0]}
    return found


def _translate_gpt2(config: Any, state: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    heads, width = config.n_head, config.n_embd
    settings = {
        "n_layers": config.n_layer,
        "d_model": width,
        "n_ctx": config.n_positions,
        "d_head": width // heads,
        "n_heads": heads,
        "d_mlp": 4 * width,
        "d_vocab": config.vocab_size,
        "act_fn": "gelu_new",
        "normalization_type": "LN",
        "eps": config.layer_norm_epsilon,
    }
    found = {
        "embed.W_E": state["transformer.wte.weight"],
        "pos_embed.W_pos": state["transformer.wpe.weight"],
        "ln_final.w": state["transformer.ln_f.weight"],
        "ln_final.b": state["transformer.ln_f.bias"],
        "unembed.W_U": state["lm_head.weight"].T,
        "unembed.b_U": state["lm_head.weight"].new_zeros(config.vocab_size),
    }
    for layer in range(config.n_layer):
        ours, theirs = f"transformer.h.{layer}.", f"blocks.{layer}."
        for norm in ("1", "2"):
            found[f"{theirs}ln{norm}.w"] = state[f"{ours}ln_{norm}.weight"]
            found[f"{theirs}ln{norm}.b"] = state[f"{ours}ln_{norm}.bias"]
        weights = state[f"{ours}attn.c_attn.weight"].chunk(3, dim=1)
        biases = state[f"{ours}attn.c_attn.bias"].chunk(3)
        for name, weight, bias in zip("QKV", weights, biases, strict=True):
            found[f"{theirs}attn.W_{name}"] = weight.unflatten(1, (heads, -1)).transpose(0, 1)
            found[f"{theirs}attn.b_{name}"] = bias.unflatten(0, (heads, -1))
        found[f"{theirs}attn.W_O"] = state[f"{ours}attn.c_proj.weight"].unflatten(0, (heads, -1))
        found[f"{theirs}attn.b_O"] = state[f"{ours}attn.c_proj.bias"]
        for name, weight in (("in", "c_fc"), ("out", "c_proj")):
            found[f"{theirs}mlp.W_{name}"] = state[f"{ours}mlp.{weight}.weight"]
            found[f"{theirs}mlp.b_{name}"] = state[f"{ours}mlp.{weight}.bias"]
    return settings, found


def _translate_neox(
    config: Any, state: dict[str, Tensor], rotary: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Pythia: attention and MLP side by side, part of each head rotated."""
    heads, width, layers = config.num_attention_heads, config.hidden_size, config.num_hidden_layers
    settings = {
        "n_layers": layers,
        "d_model": width,
        "n_ctx": config.max_position_embeddings,
        "d_head": width // heads,
        "n_heads": heads,
        "d_mlp": config.intermediate_size,
        "d_vocab": config.vocab_size,
        "act_fn": config.hidden_act,
        "normalization_type": "LN",
        "positional_embedding_type": "rotary",
        "rotary_dim": rotary["rotary_cos"].shape[1],
        "rotary_adjacent_pairs": False,
        "parallel_attn_mlp": config.use_parallel_residual,
        "eps": config.layer_norm_eps,
    }
    found = {
        "embed.W_E": state["gpt_neox.embed_in.weight"],
        "ln_final.w": state["gpt_neox.final_layer_norm.weight"],
        "ln_final.b": state["gpt_neox.final_layer_norm.bias"],
        "unembed.W_U": state["lm_head.weight"].T,
        "unembed.b_U": state["lm_head.weight"].new_zeros(config.vocab_size),
    }
    for layer in range(layers):
        ours, theirs = f"gpt_neox.layers.{layer}.", f"blocks.{layer}."
        found |= {f"{theirs}attn.{name}": table for name, table in rotary.items()}
        for norm, name in (("1", "input_layernorm"), ("2", "post_attention_layernorm")):
            found[f"{theirs}ln{norm}.w"] = state[f"{ours}{name}.weight"]
            found[f"{theirs}ln{norm}.b"] = state[f"{ours}{name}.bias"]
        weights = state[f"{ours}attention.query_key_value.weight"].unflatten(0, (heads, 3, -1))
        biases = state[f"{ours}attention.query_key_value.bias"].unflatten(0, (heads, 3, -1))
        for at, name in enumerate("QKV"):
            found[f"{theirs}attn.W_{name}"] = weights[:, at].transpose(1, 2)
            found[f"{theirs}attn.b_{name}"] = biases[:, at]
        found[f"{theirs}attn.W_O"] = state[f"{ours}attention.dense.weight"].T.unflatten(0, (heads, -1))
        found[f"{theirs}attn.b_O"] = state[f"{ours}attention.dense.bias"]
        for name, weight in (("in", "h_to_4h"), ("out", "4h_to_h")):
            found[f"{theirs}mlp.W_{name}"] = state[f"{ours}mlp.dense_{weight}.weight"].T
            found[f"{theirs}mlp.b_{name}"] = state[f"{ours}mlp.dense_{weight}.bias"]
    return settings, found


def _translate_rotary(
    config: Any, state: dict[str, Tensor], rotary: dict[str | None, dict[str, Tensor]]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Llama, Qwen 3, Gemma 2 and 3: gated, grouped queries, root mean square norms, no biases."""
    heads, width, layers = config.num_attention_heads, config.hidden_size, config.num_hidden_layers
    gemma = config.model_type.startswith("gemma")
    normed = "model.layers.0.self_attn.q_norm.weight" in state
    groups = config.num_key_value_heads
    grouped = "_" if groups != heads else ""
    settings = {
        "n_layers": layers,
        "d_model": width,
        "n_ctx": config.max_position_embeddings,
        "d_head": config.head_dim,
        "n_heads": heads,
        "n_key_value_heads": groups if grouped else None,
        "d_mlp": config.intermediate_size,
        "d_vocab": config.vocab_size,
        "act_fn": "gelu_pytorch_tanh" if gemma else config.hidden_act,
        "normalization_type": "RMS",
        "positional_embedding_type": "rotary",
        "rotary_dim": config.head_dim,
        "gated_mlp": True,
        "final_rms": True,
        "eps": config.rms_norm_eps,
        "use_qk_norm": normed,
    }
    if gemma:
        settings |= {
            "attn_scale": config.query_pre_attn_scalar**0.5,
            "attn_scores_soft_cap": config.attn_logit_softcapping or -1.0,
            "output_logits_soft_cap": config.final_logit_softcapping or -1.0,
            "use_normalization_before_and_after": True,
            "use_local_attn": True,
            "window_size": config.sliding_window,
            "attn_types": ["local" if kind == "sliding_attention" else "global" for kind in config.layer_types],
        }

    def gain(name: str) -> Tensor:
        return state[name] + float(gemma)

    embedding = state["model.embed_tokens.weight"]
    found = {
        "embed.W_E": embedding * torch.tensor(width**0.5, dtype=embedding.dtype) if gemma else embedding,
        "ln_final.w": gain("model.norm.weight"),
        "unembed.W_U": state["lm_head.weight"].T,
        "unembed.b_U": embedding.new_zeros(config.vocab_size),
    }
    norms = {"ln1": "input_layernorm", "ln2": "post_attention_layernorm"}
    if gemma:
        norms |= {"ln1_post": "post_attention_layernorm", "ln2": "pre_feedforward_layernorm"}
        norms |= {"ln2_post": "post_feedforward_layernorm"}
    for layer in range(layers):
        ours, theirs = f"model.layers.{layer}.", f"blocks.{layer}."
        found |= {f"{theirs}{name}.w": gain(f"{ours}{norm}.weight") for name, norm in norms.items()}
        kind = None if None in rotary else config.layer_types[layer]
        found |= {f"{theirs}attn.{name}": table for name, table in rotary[kind].items()}
        if normed:
            found |= {f"{theirs}attn.{name}_norm.w": gain(f"{ours}self_attn.{name}_norm.weight") for name in "qk"}
        for name, count, under in (("Q", heads, ""), ("K", groups, grouped), ("V", groups, grouped)):
            weight = state[f"{ours}self_attn.{name.lower()}_proj.weight"]
            found[f"{theirs}attn.{under}W_{name}"] = weight.unflatten(0, (count, -1)).transpose(1, 2)
            found[f"{theirs}attn.{under}b_{name}"] = weight.new_zeros(count, config.head_dim)
        found[f"{theirs}attn.W_O"] = state[f"{ours}self_attn.o_proj.weight"].T.unflatten(0, (heads, -1))
        found[f"{theirs}attn.b_O"] = embedding.new_zeros(width)
        for name, weight in (("gate", "gate"), ("in", "up"), ("out", "down")):
            found[f"{theirs}mlp.W_{name}"] = state[f"{ours}mlp.{weight}_proj.weight"].T
        found[f"{theirs}mlp.b_in"] = embedding.new_zeros(config.intermediate_size)
        found[f"{theirs}mlp.b_out"] = embedding.new_zeros(width)
    return settings, found
