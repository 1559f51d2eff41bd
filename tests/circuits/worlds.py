"""Small random models of every family and random dictionaries for them: worlds in which any law can be checked."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from circuits.model import Model, load_model
from circuits.transcoders.base import Dictionary
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
}
ALIKE = {"mistral": dict(_WIDE), "qwen2": {**_WIDE, "layer_types": ["full_attention"] * 3}}  # read as llama is
KINDS = ("neurons", "per-layer", "skip", "cross-layer")


@cache
def folder_of(family: str) -> Path:
    """A folder with a random model of the family and a word-level tokenizer, in Hugging Face layout."""
    torch.manual_seed(7)
    config = AutoConfig.for_model(family, **(FAMILIES | ALIKE)[family])
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        # Everything random, biases and gains too: a forgotten one must show.
        torch.nn.init.normal_(parameter, mean=float("norm" in name or "ln_" in name) * 0.5, std=0.3)
    folder = Path(mkdtemp(prefix=f"{family}-"))
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<bos>", unk_token="<unk>").save_pretrained(folder)
    return folder


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
