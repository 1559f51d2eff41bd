"""Work handed to circuit-tracer in its own environment through files, and its results read back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.peers.cases import Made
from benchmarks.peers.processes import Process, Spent, is_installed
from benchmarks.peers.scratch import scratch_folder
from graphs.graph import AttributionGraph

PEER = "circuit_tracer"
HOOKS = {
    "mlp_input": "mlp.hook_in",
    "mlp_normalised": "ln2.hook_normalized",
    "residual_mid": "hook_resid_mid",
    "mlp_raw": "mlp.hook_out",
    "mlp_output": "hook_mlp_out",
}
INSTALL = "circuit-tracer is not installed: run benchmarks/peers/circuit_tracer/install"


def installed() -> bool:
    """Whether the peer's environment is there."""
    return is_installed(PEER)


@contextmanager
def without_float32() -> Iterator[None]:
    """Run a float64 model in float64 throughout: transformers casts norms, softmax and rotations to float32."""
    with patch.object(torch, "float32", torch.float64), patch.object(Tensor, "float", Tensor.double):
        yield


class Peer(Process):
    """Circuit-tracer with one job, waiting for orders."""

    def __init__(self, folder: Path) -> None:
        super().__init__(PEER, folder)

    def attribute(self, *, save: Path | None = None, **options: Any) -> Spent:
        """One attribution, with circuit-tracer's own options."""
        return self.do("attribute", options=options, save=save)

    def prune(self, nodes: float, edges: float, *, save: Path | None = None) -> Spent:
        """Prune the job's graph, or the one attributed last."""
        return self.do("prune", nodes=nodes, edges=edges, save=save)

    def score(self, save: Path) -> None:
        """Influence, replacement and completeness of the same graph."""
        self.do("score", save=save)

    def intervene(
        self, interventions: Sequence[tuple], save: Path, *, generate: int = 0, **options: Any
    ) -> dict[str, np.ndarray]:
        """Its interventions, (layer, position or [first, None], feature, value), with its own options: the logits and
        activations, and with `generate` the tokens that it then says."""
        self.do("intervene", interventions=interventions, generate=generate, options=options, save=save)
        return dict(np.load(save))


def write_attribution(made: Made, dtype: str = "float32") -> Path:
    """A job folder with a model, a dictionary and a prompt."""
    folder = scratch_folder("job-")
    dictionary, layers = made.dictionary, range(made.model.layers)
    tensors = {
        f"{name}.{layer}": getattr(dictionary, name)[layer]
        for name in ("W_enc", "b_enc", "threshold", "W_dec", "b_dec")
        for layer in layers
    }
    if dictionary.W_skip is not None:
        tensors |= {f"W_skip.{layer}": dictionary.W_skip[layer] for layer in layers}
    model, weights = _translate(made.folder, getattr(torch, dtype))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "dictionary.safetensors")
    save_file({name: tensor.clone().contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    shape = {
        "units": dictionary.units,
        "cross_layer": dictionary.cross_layer,
        "skip": dictionary.W_skip is not None,
        "input_hook": HOOKS[dictionary.reads],
        "output_hook": HOOKS[dictionary.writes],
    }
    job = {"dtype": dtype, "threads": 1, "tokens": made.tokens, "model": model, "dictionary": shape}
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return folder


def write_graph(graph: AttributionGraph, dtype: str = "float32") -> tuple[Path, np.ndarray]:
    """A job folder with a graph to prune, its biases left out; and the row of our table that each peer node has."""
    folder = scratch_folder("job-")
    order = peer_order(graph)
    place = np.full(len(graph.nodes), -1)
    place[order[order >= 0]] = np.flatnonzero(order >= 0)
    drawn = (place[graph.source] >= 0) & (place[graph.target] >= 0)
    logits = graph.nodes.where("logit")
    np.savez(
        folder / "graph.npz",
        source=place[graph.source[drawn]],
        target=place[graph.target[drawn]],
        weight=graph.weight[drawn],
        logit_probabilities=graph.goal[logits],
    )
    job = {
        "dtype": dtype,
        "threads": 1,
        "features": int((graph.nodes.kind == "feature").sum()),
        "layers": int(graph.nodes.layer[logits[0]]),
        "tokens": len(graph.tokens),
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return folder, order


def peer_order(graph: AttributionGraph) -> np.ndarray:
    """For each node of the peer's table the row of ours: features, errors by layer and position, tokens, logits.

    -1 for the errors at positions that the dictionary leaves out, which we do not have.
    """
    nodes, length = graph.nodes, len(graph.tokens)
    logits = nodes.where("logit")
    errors = np.full((int(nodes.layer[logits[0]]), length), -1)
    rows = nodes.where("error")
    errors[nodes.layer[rows], nodes.position[rows]] = rows
    return np.concatenate([nodes.where("feature"), errors.ravel(), nodes.where("token"), logits])


# -- models ---------------------------------------------------------------------------------------------------------


def _translate(folder: Path, dtype: torch.dtype) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A Hugging Face model as the settings and weights of a HookedTransformer."""
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    config = network.config
    state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    if config.model_type == "gpt2":
        return _translate_gpt2(config, state)
    if config.model_type == "gpt_neox":
        return _translate_neox(config, state, _rotary(network, network.gpt_neox.rotary_emb, dtype)[None])
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
