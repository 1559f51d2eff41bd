"""What the engine is measured on: random models of six families in two sizes, random dictionaries for them, `world`.

Weights are random, so nothing here means anything; sizes, sparsity and architecture are those of real ones. Some
dozens of features of each layer are active at a position, as in published transcoders.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.peers.scratch import scratch_folder
from circuits.model import Model, load_model
from circuits.tracing import trace
from circuits.transcoders.loading import load_transcoders
from circuits.transcoders.transcoders import Transcoders

VOCABULARY = 1000
DALLAS = "the capital of the state containing dallas is"


@dataclass(frozen=True)
class Case:
    """One model, dictionary and prompt.

    family: "llama", "gpt2", "gemma2", "gemma3", "qwen3", "gpt_neox", or "world" for the shipped model.
    kind: "per-layer", "skip" or "cross-layer". reads, writes: sites of a random dictionary (`circuits.sites.SITES`).
    tokens: how long the prompt is (of `world`: as long as its sentence). units: features a layer; active: how many
    of them at a position.
    """

    family: str
    layers: int = 4
    width: int = 128
    heads: int = 4
    units: int = 2048
    tokens: int = 16
    active: int = 40
    kind: str = "per-layer"
    reads: str = "mlp_input"
    writes: str = "mlp_output"
    head: int | None = None  # how wide a head is; None: so that all together are as wide as the model

    @property
    def name(self) -> str:
        if self.family == "world":
            return f"world {self.kind}"
        sites = "".join(f" {site}" for site in (self.reads, self.writes) if site not in ("mlp_input", "mlp_output"))
        return f"{self.family} {self.layers}L d{self.width} T{self.tokens} {self.kind}{sites}"


@dataclass(frozen=True)
class Made:
    """A case made real."""

    case: Case
    folder: Path
    model: Model
    dictionary: Transcoders
    tokens: list[int]


def make(case: Case, dtype: str = "float32", device: str = "cpu") -> Made:
    """The model, its dictionary and a prompt; the same ones every time."""
    if case.family == "world":
        model = load_model("world", device=device, dtype=dtype)
        name = "world" if case.kind == "per-layer" else "world/cross-layer"
        dictionary = load_transcoders(name, model)
        return Made(case, _shipped(), model, dictionary, model.tokenize(DALLAS).tolist())
    folder = write_model(case)
    model = load_model(folder, device=device, dtype=dtype)
    numbers = torch.Generator().manual_seed(5)
    tokens = torch.randint(0, VOCABULARY, (case.tokens,), generator=numbers).tolist()
    return Made(case, folder, model, _draw_dictionary(case, model, tokens), tokens)


def _shipped() -> Path:
    from circuits.hub.published import SHIPPED

    return SHIPPED / "world" / "model"


def write_model(case: Case) -> Path:
    """A random model in Hugging Face layout; every gain and bias random too, so that a forgotten one shows."""
    from transformers import AutoConfig, AutoModelForCausalLM

    head = case.head or case.width // case.heads
    grouped = {
        "hidden_size": case.width,
        "intermediate_size": 4 * case.width,
        "num_hidden_layers": case.layers,
        "num_attention_heads": case.heads,
        "num_key_value_heads": case.heads // 2,
        "head_dim": head,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": max(256, case.tokens),
        "tie_word_embeddings": False,
    }
    plain = {"n_embd": case.width, "n_layer": case.layers, "n_head": case.heads, "n_positions": max(256, case.tokens)}
    windows = {"query_pre_attn_scalar": head, "sliding_window": 128}
    settings = {
        "llama": grouped,
        "qwen3": grouped,
        "gemma2": {**grouped, **windows},
        "gemma3_text": {**grouped, **windows, "sliding_window_pattern": 2},
        "gpt_neox": {name: value for name, value in grouped.items() if name not in ("num_key_value_heads", "head_dim")},
        "gpt2": {**plain, "vocab_size": VOCABULARY, "tie_word_embeddings": False},
    }
    kind = {"gemma3": "gemma3_text"}.get(case.family, case.family)
    torch.manual_seed(7)
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings[kind]))
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            is_gain = "weight" in name
            torch.nn.init.normal_(parameter, mean=float(is_gain and "gemma" not in kind), std=0.1)
        else:
            embeds = any(word in name for word in ("embed_tokens", "embed_in", "wte"))
            torch.nn.init.normal_(parameter, std=0.02 if embeds else case.width**-0.5)
    folder = scratch_folder(f"{case.family}-")
    network.save_pretrained(folder)
    _write_tokenizer(folder)
    return folder


def _write_tokenizer(folder: Path) -> None:
    """A word for each token, so that loaders are content; prompts here are token ids."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(folder)


def _draw_dictionary(case: Case, model: Model, tokens: list[int]) -> Transcoders:
    """Features that fire about as often as trained ones and rebuild something of the size of the MLP's output."""
    numbers = torch.Generator().manual_seed(11)

    def draw(*shape: int, scale: float) -> torch.Tensor:
        return (scale * torch.randn(*shape, generator=numbers)).to(model.W_U)

    layers, width = range(case.layers), case.width
    reach = [case.layers - layer if case.kind == "cross-layer" else 1 for layer in layers]
    silent = Transcoders(
        name=case.name,
        content_hash="random",
        W_enc=[draw(case.units, width, scale=width**-0.5) for _ in layers],
        b_enc=[draw(case.units, scale=0.1) for _ in layers],
        threshold=[model.W_U.new_full((case.units,), 1e9) for _ in layers],
        W_dec=[draw(case.units, written, width, scale=width**-0.5 / 4) for written in reach],
        b_dec=[draw(width, scale=0.1) for _ in layers],
        W_skip=[draw(width, width, scale=0.3 * width**-0.5) for _ in layers] if case.kind == "skip" else None,
        reads=case.reads,
        writes=case.writes,
        silent_positions=1,
    )
    inputs = trace(model, silent, tokens).inputs  # what features read is the real model's, whatever they write
    share = 1 - case.active / case.units
    threshold = []
    for layer in layers:
        before = inputs[layer][1:] @ silent.W_enc[layer].T + silent.b_enc[layer]
        highest, at = before.flatten().sort().values, int(share * before.numel())
        level = (highest[at - 1] + highest[at]) / 2  # between two, so that rounding decides about nobody
        threshold.append(model.W_U.new_full((case.units,), float(level)))
    return replace(silent, threshold=threshold)
