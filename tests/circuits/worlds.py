"""Small random models of every family and random dictionaries for them: worlds in which any law can be checked."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from benchmarks.peers.scratch import scratch_folder
from circuits.model import Model, load_model
from circuits.transcoders.autoencoders import Autoencoders
from circuits.transcoders.base import Dictionary
from circuits.transcoders.mixed import Mixed, Part
from circuits.transcoders.neurons import Neurons
from circuits.transcoders.transcoders import Transcoders

WORDS = "<unk> <bos> a red blue fox dog runs sleeps here there now".split()
_LLAMA = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
_ROPE = {"max_position_embeddings": 32, "vocab_size": len(WORDS), "bos_token_id": 1}
_WIDE = {**_LLAMA, **_ROPE, "num_key_value_heads": 2, "head_dim": 6, "tie_word_embeddings": False}
FAMILIES = {
    "llama": dict(_WIDE),
    "qwen3": dict(_WIDE),
    "gemma2": {**_WIDE, "query_pre_attn_scalar": 6, "sliding_window": 4},
    "gemma3_text": {**_WIDE, "query_pre_attn_scalar": 6, "sliding_window": 4},
    "gpt2": {"n_embd": 16, "n_layer": 3, "n_head": 4, "n_positions": 32, "vocab_size": len(WORDS), "bos_token_id": 1},
    "gpt_neox": {**_LLAMA, **_ROPE},
    "gpt_neo": {
        "hidden_size": 16,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 3,
        **_ROPE,
    },
    "phi": {**_LLAMA, **_ROPE, "partial_rotary_factor": 0.5},
    "olmo2": {**_LLAMA, **_ROPE, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 1},
}
# What the MLP is made of makes no difference to what surrounds it, and it is no neurons.
EXPERTS = {
    "gpt_oss": {
        **_WIDE,
        "head_dim": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "qwen3_moe": {**_WIDE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8},
}
ALIKE = {"mistral": dict(_WIDE), "qwen2": {**_WIDE, "layer_types": ["full_attention"] * 3}}  # read as llama is
NATIVE = {
    "plain": {},
    "attention-only": {"attn_only": True},
    "no-norms": {"normalization_type": None},
    "no-gain": {"normalization_type": "LNPre"},
    "bare": {"attn_only": True, "normalization_type": None},
    "two-way": {"attention_dir": "bidirectional", "n_layers": 3},
}
KINDS = ("neurons", "per-layer", "skip", "cross-layer", "autoencoder", "mixed")


@cache
def folder_of(family: str) -> Path:
    """A folder with a random model of the family and a word-level tokenizer, in Hugging Face layout."""
    torch.manual_seed(7)
    config = AutoConfig.for_model(family, **(FAMILIES | EXPERTS | ALIKE)[family])
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        # Everything random, biases and gains too: a forgotten one must show.
        torch.nn.init.normal_(parameter, mean=float("norm" in name or "ln_" in name) * 0.5, std=0.3)
    folder = scratch_folder(f"{family}-")
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<bos>", unk_token="<unk>").save_pretrained(folder)
    return folder


@cache
def native_of(kind: str, dtype: str = "float64") -> Model:
    """A random TransformerLens-native model, one of NATIVE, loaded from its configuration and state dict."""
    settings = {"n_layers": 2, "d_model": 16, "n_ctx": 32, "d_head": 4, "n_heads": 4, "d_vocab": len(WORDS)}
    settings |= {"d_mlp": 24, "act_fn": "relu", "attn_only": False, "normalization_type": "LN", **NATIVE[kind]}
    folder = scratch_folder(f"{kind}-")
    (folder / "config.json").write_text(json.dumps(settings))
    numbers = torch.Generator().manual_seed(3)
    shapes: dict[str, tuple[int, ...]] = {}
    shapes |= {
        "embed.W_E": (len(WORDS), 16),
        "pos_embed.W_pos": (32, 16),
        "unembed.W_U": (16, len(WORDS)),
    }
    shapes["unembed.b_U"] = (len(WORDS),)
    for layer in range(settings["n_layers"]):
        at = f"blocks.{layer}"
        shapes |= {f"{at}.attn.W_{each}": (4, 16, 4) for each in "QKV"} | {f"{at}.attn.W_O": (4, 4, 16)}
        shapes |= {f"{at}.attn.b_{each}": (4, 4) for each in "QKV"} | {f"{at}.attn.b_O": (16,)}
        if not settings["attn_only"]:
            shapes |= {f"{at}.mlp.W_in": (16, 24), f"{at}.mlp.W_out": (24, 16)}
            shapes |= {f"{at}.mlp.b_in": (24,), f"{at}.mlp.b_out": (16,)}
        if settings["normalization_type"] == "LN":
            norms = [f"{at}.ln1"] if settings["attn_only"] else [f"{at}.ln1", f"{at}.ln2"]
            shapes |= {f"{norm}.{part}": (16,) for norm in norms for part in "wb"}
    if settings["normalization_type"] == "LN":
        shapes |= {"ln_final.w": (16,), "ln_final.b": (16,)}
    weights = {name: 0.3 * torch.randn(shape, generator=numbers) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    return load_model(folder, device="cpu", dtype=dtype)


@cache
def model_of(family: str, dtype: str = "float64") -> Model:
    """The random model of a family, loaded."""
    return load_model(folder_of(family), device="cpu", dtype=dtype)


def dictionary_of(
    model: Model, kind: str, *, reads: str = "mlp_input", writes: str = "mlp_output", silent: int = 1, units: int = 12
) -> Dictionary:
    """A random dictionary of one of KINDS for a model. Thresholds are positive, biases are not small."""
    if kind == "neurons":
        return Neurons(model)
    if kind == "autoencoder":
        found = dictionary_of(model, "per-layer", reads=writes, writes=writes, silent=silent, units=units)
        assert isinstance(found, Transcoders)
        return Autoencoders(found, model)
    if kind == "mixed":
        return mixed_of(model, silent=silent)
    numbers = torch.Generator().manual_seed(11)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=numbers, dtype=torch.float64).to(model.dtype)

    width, layers = model.d_model, range(model.layers)
    return Transcoders(
        name=kind,
        content_hash="random",
        W_enc=[draw(units, width) for _ in layers],
        b_enc=[draw(units) for _ in layers],
        threshold=[draw(units).abs() * 0.1 for _ in layers],
        W_dec=[draw(units, model.layers - layer if kind == "cross-layer" else 1, width) for layer in layers],
        b_dec=[draw(width) for _ in layers],
        W_skip=[0.3 * draw(width, width) for _ in layers] if kind == "skip" else None,
        reads=reads,
        writes=writes,
        silent_positions=silent,
    )


def mixed_of(model: Model, first_kind: str = "per-layer", *, silent: int = 1) -> Mixed:
    """Transcoders of the first layer, neurons in the next, and autoencoders in the last of three or more.

    No two of them read, or write, at the same site or leave alone as many positions.
    """
    first = dictionary_of(model, first_kind, reads="residual_mid", writes="mlp_output", silent=silent + 1)
    last = dictionary_of(model, "per-layer", reads="mlp_output", writes="mlp_output", silent=silent, units=7)
    assert isinstance(first, Transcoders) and isinstance(last, Transcoders)
    of_last = range(2, model.layers)
    parts = [Part(first.only([0]), [0])]
    parts += [Part(Autoencoders(last.only(of_last), model), of_last)] if of_last else []
    return Mixed([*parts, Part(Neurons(model), range(model.layers))])
