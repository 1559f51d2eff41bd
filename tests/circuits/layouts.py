"""A small random set in every published layout, each with its arithmetic written out again, plainly."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

LAYERS, WIDTH, UNITS, K = 3, 6, 10, 3

Plain = Callable[[Tensor], tuple[Tensor, Tensor]]  # x [layer pos d] -> activations, outputs
_INPUT = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "mlp.hook_out"}


class Lot:
    """Numbers drawn by lot, the same every time."""

    def __init__(self) -> None:
        self._numbers = torch.Generator().manual_seed(3)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._numbers)


def jump(h: Tensor, threshold: Tensor | float = 0.0) -> Tensor:
    return h * (h > threshold)


def largest(h: Tensor, rank: Tensor | float = 1.0) -> Tensor:
    """h where it is among the K largest of h * rank, else 0."""
    at = (h * rank).topk(K).indices
    return torch.zeros_like(h).scatter(-1, at, h.gather(-1, at))


def per_layer(encode: Callable[[int, Tensor], Tensor], decode: Callable[[int, Tensor, Tensor], Tensor]) -> Plain:
    def plain(x: Tensor) -> tuple[Tensor, Tensor]:
        acts = torch.stack([encode(layer, each) for layer, each in enumerate(x)])
        return acts, torch.stack([decode(layer, acts[layer], each) for layer, each in enumerate(x)])

    return plain


def write_yaml(path: Path, **settings: object) -> None:
    path.write_text(yaml.safe_dump({**_INPUT, **settings}))


def write_json(path: Path, settings: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings))


def circuit_tracer_plt(folder: Path, *, topk: bool = False, turned: bool = False, configured: bool = True) -> Plain:
    draw = Lot()
    sets = []
    for layer in range(LAYERS):
        tensors = {"W_enc": draw(UNITS, WIDTH), "W_dec": draw(UNITS, WIDTH), "b_enc": draw(UNITS), "b_dec": draw(WIDTH)}
        tensors["W_skip"] = draw(WIDTH, WIDTH)
        if configured and not topk:
            tensors["activation_function.threshold"] = draw(UNITS).abs()
        sets.append(tensors)
        stored = {**tensors, "W_dec": tensors["W_dec"].T.contiguous()} if turned else tensors
        save_file(stored, folder / f"layer_{layer}.safetensors")
    if configured:
        write_yaml(
            folder / "config.yaml", model_kind="transcoder_set", **({"activation": "topk", "k": K} if topk else {})
        )

    def encode(layer: int, x: Tensor) -> Tensor:
        h = x @ sets[layer]["W_enc"].T + sets[layer]["b_enc"]
        return largest(h) if topk else jump(h, sets[layer].get("activation_function.threshold", 0.0))

    return per_layer(encode, lambda i, a, x: a @ sets[i]["W_dec"] + sets[i]["b_dec"] + x @ sets[i]["W_skip"].T)


def circuit_tracer_list(folder: Path) -> Plain:
    plain = gemma_scope(folder / "google" / "scope")
    listed = sorted((folder / "google" / "scope").rglob("params.npz"))
    addresses = [f"hf://{path.relative_to(folder).as_posix()}" for path in listed]
    (folder / "wrapper").mkdir()
    write_yaml(folder / "wrapper" / "config.yaml", model_kind="transcoder_set", transcoders=addresses)
    return plain


def circuit_tracer_clt(folder: Path) -> Plain:
    draw = Lot()
    encoders = [(draw(UNITS, WIDTH), draw(UNITS), draw(UNITS).abs(), draw(WIDTH)) for _ in range(LAYERS)]
    decoders = [draw(UNITS, LAYERS - layer, WIDTH) for layer in range(LAYERS)]
    for i, (W, b, threshold, b_dec) in enumerate(encoders):
        tensors = {f"W_enc_{i}": W, f"b_enc_{i}": b, f"threshold_{i}": threshold, f"b_dec_{i}": b_dec}
        save_file(tensors, folder / f"W_enc_{i}.safetensors")
        save_file({f"W_dec_{i}": decoders[i]}, folder / f"W_dec_{i}.safetensors")
    write_yaml(folder / "config.yaml", model_kind="cross_layer_transcoder")
    return cross_layer(
        lambda i, x: jump(x @ encoders[i][0].T + encoders[i][1], encoders[i][2]),
        lambda s, t, a: a @ decoders[s][:, t - s],
        lambda t, x: encoders[t][3],
    )


def cross_layer(
    encode: Callable[[int, Tensor], Tensor],
    write: Callable[[int, int, Tensor], Tensor],
    rest: Callable[[int, Tensor], Tensor],
) -> Plain:
    def plain(x: Tensor) -> tuple[Tensor, Tensor]:
        acts = [encode(layer, each) for layer, each in enumerate(x)]
        out = [sum(write(s, t, acts[s]) for s in range(t + 1)) + rest(t, x) for t in range(len(x))]
        return torch.stack(acts), torch.stack(out)

    return plain


def circuit_tracer_sweep(folder: Path) -> Plain:
    draw = Lot()
    encoders = [{"W_enc": draw(UNITS, WIDTH), "b_enc": draw(UNITS)} for _ in range(LAYERS)]
    decoders = [
        {"b_dec": draw(WIDTH), **{f"W_dec_from_{s}": draw(WIDTH, UNITS) for s in range(t + 1)}} for t in range(LAYERS)
    ]
    for i in range(LAYERS):
        save_file(encoders[i], folder / f"encoder_layer_{i}.safetensors")
        save_file(decoders[i], folder / f"decoder_layer_{i}.safetensors")
    return cross_layer(
        lambda i, x: jump(x @ encoders[i]["W_enc"].T + encoders[i]["b_enc"]),
        lambda s, t, a: a @ decoders[t][f"W_dec_from_{s}"].T,
        lambda t, x: decoders[t]["b_dec"],
    )


def gemma_scope(folder: Path) -> Plain:
    draw = Lot()
    sets = []
    for layer in range(LAYERS):
        tensors = {"W_enc": draw(WIDTH, UNITS), "W_dec": draw(UNITS, WIDTH), "b_enc": draw(UNITS), "b_dec": draw(WIDTH)}
        tensors["threshold"] = draw(UNITS).abs()
        sets.append(tensors)
        place = folder / f"layer_{layer}" / "width_16k" / f"average_l0_{10 + layer}"
        place.mkdir(parents=True)
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        (np.savez_compressed if layer == 1 else np.savez)(place / "params.npz", **arrays)
    return per_layer(
        lambda i, x: jump(x @ sets[i]["W_enc"] + sets[i]["b_enc"], sets[i]["threshold"]),
        lambda i, a, x: a @ sets[i]["W_dec"] + sets[i]["b_dec"],
    )


def gemma_scope_2(folder: Path) -> Plain:
    draw = Lot()
    sets = []
    for layer in range(LAYERS):
        tensors = {"w_enc": draw(WIDTH, UNITS), "w_dec": draw(UNITS, WIDTH), "b_enc": draw(UNITS), "b_dec": draw(WIDTH)}
        tensors |= {"threshold": draw(UNITS).abs(), "affine_skip_connection": draw(WIDTH, WIDTH)}
        sets.append(tensors)
        place = folder / f"layer_{layer}_width_16k_l0_small_affine"
        write_json(place / "config.json", gemma_scope_2_settings(layer, UNITS, "transcoder"))
        save_file(tensors, place / "params.safetensors")
    return per_layer(
        lambda i, x: jump(x @ sets[i]["w_enc"] + sets[i]["b_enc"], sets[i]["threshold"]),
        lambda i, a, x: a @ sets[i]["w_dec"] + sets[i]["b_dec"] + x @ sets[i]["affine_skip_connection"],
    )


def gemma_scope_2_settings(layer: int | str, width: int, kind: str) -> dict:
    return {
        "hf_hook_point_in": f"model.layers.{layer}.pre_feedforward_layernorm.output",
        "hf_hook_point_out": f"model.layers.{layer}.post_feedforward_layernorm.output",
        "width": width,
        "model_name": "google/gemma-3-270m-pt",
        "architecture": "jump_relu",
        "l0": 20,
        "affine_connection": True,
        "type": kind,
    }


def gemma_scope_2_clt(folder: Path) -> Plain:
    draw = Lot()
    sets = []
    for layer in range(LAYERS):
        tensors = {"w_enc": draw(WIDTH, UNITS), "w_dec": draw(UNITS, LAYERS, WIDTH), "b_enc": draw(UNITS)}
        tensors |= {"b_dec": draw(WIDTH), "threshold": draw(UNITS).abs(), "affine_skip_connection": draw(WIDTH, WIDTH)}
        tensors["w_dec"][:, :layer] = 0
        sets.append(tensors)
        save_file(tensors, folder / f"params_layer_{layer}.safetensors")
    write_json(folder / "config.json", gemma_scope_2_settings("{all}", UNITS * LAYERS, "clt"))
    return cross_layer(
        lambda i, x: jump(x @ sets[i]["w_enc"] + sets[i]["b_enc"], sets[i]["threshold"]),
        lambda s, t, a: a @ sets[s]["w_dec"][:, t],
        lambda t, x: sets[t]["b_dec"] + x[t] @ sets[t]["affine_skip_connection"],
    )


def saelens(folder: Path) -> Plain:
    draw = Lot()
    sets = []
    for layer in range(LAYERS):
        tensors = {"W_enc": draw(WIDTH, UNITS), "W_dec": draw(UNITS, WIDTH), "b_enc": draw(UNITS), "b_dec": draw(WIDTH)}
        tensors |= {"threshold": draw(UNITS), "W_skip": draw(WIDTH, WIDTH)}  # some thresholds are negative
        sets.append(tensors)
        hooks = {"hook_name": f"blocks.{layer}.ln2.hook_normalized", "hook_name_out": f"blocks.{layer}.hook_mlp_out"}
        settings = {"architecture": "jumprelu_skip_transcoder", "d_in": WIDTH, "d_sae": UNITS, "d_out": WIDTH}
        place = folder / f"blocks.{layer}.ln2.hook_normalized"
        write_json(place / "cfg.json", {**settings, "normalize_activations": "none", "metadata": hooks})
        save_file(tensors, place / "sae_weights.safetensors")
    return per_layer(
        lambda i, x: jump(torch.relu(x @ sets[i]["W_enc"] + sets[i]["b_enc"]), sets[i]["threshold"]),
        lambda i, a, x: a @ sets[i]["W_dec"] + sets[i]["b_dec"] + x @ sets[i]["W_skip"].T,
    )


def sparsify(folder: Path) -> Plain:
    draw = Lot()
    sets = []
    for layer in range(LAYERS):
        tensors = {"encoder.weight": draw(UNITS, WIDTH), "encoder.bias": draw(UNITS), "W_dec": draw(UNITS, WIDTH)}
        tensors |= {"b_dec": draw(WIDTH), "W_skip": draw(WIDTH, WIDTH)}
        sets.append(tensors)
        settings = {"num_latents": UNITS, "k": K, "d_in": WIDTH, "skip_connection": True}
        if layer:
            settings["transcode"] = True  # the first is older than this key: there the bias is subtracted
        write_json(folder / f"layers.{layer}.mlp" / "cfg.json", settings)
        save_file(tensors, folder / f"layers.{layer}.mlp" / "sae.safetensors")

    def encode(layer: int, x: Tensor) -> Tensor:
        at = x if layer else x - sets[layer]["b_dec"]
        return torch.relu(largest(at @ sets[layer]["encoder.weight"].T + sets[layer]["encoder.bias"]))

    return per_layer(encode, lambda i, a, x: a @ sets[i]["W_dec"] + sets[i]["b_dec"] + x @ sets[i]["W_skip"].T)


def clt_training(folder: Path, *, tied: bool = False) -> Plain:
    draw = Lot()
    sets = []
    for layer in range(LAYERS):
        targets = range(LAYERS - layer)
        tensors = {"encoder.weight": draw(UNITS, WIDTH), "encoder.bias": draw(UNITS)}
        for j in targets:
            tensors |= {f"post_encs.{j}": draw(UNITS), f"post_enc_scales.{j}": draw(UNITS)}
        for j in [None] if tied else targets:
            end = "" if j is None else f"s.{j}"
            tensors |= {
                f"W_dec{end}": draw(UNITS, WIDTH),
                f"b_dec{end}": draw(WIDTH),
                f"W_skip{end}": draw(WIDTH, WIDTH),
            }
        sets.append(tensors)
        settings = {"num_latents": UNITS, "k": K, "d_in": WIDTH, "skip_connection": True, "transcode": True}
        settings |= {"n_targets": len(targets), "coalesce_topk": "concat" if tied else "none"}
        write_json(folder / f"layers.{layer}.mlp" / "cfg.json", settings)
        save_file(tensors, folder / f"layers.{layer}.mlp" / "sae.safetensors")

    def write(s: int, t: int, a: Tensor) -> Tensor:
        latent = (a + sets[s][f"post_encs.{t - s}"] * (a > 0)) * sets[s][f"post_enc_scales.{t - s}"]
        return latent @ (sets[t]["W_dec"] if tied else sets[s][f"W_decs.{t - s}"])

    def rest(t: int, x: Tensor) -> Tensor:
        if tied:
            return sets[t]["b_dec"] + x[t] @ sets[t]["W_skip"].T
        parts = [sets[s][f"b_decs.{t - s}"] + x[s] @ sets[s][f"W_skips.{t - s}"].T for s in range(t + 1)]
        return torch.stack(parts).sum(0)

    return cross_layer(
        lambda i, x: torch.relu(largest(x @ sets[i]["encoder.weight"].T + sets[i]["encoder.bias"])), write, rest
    )


def dunefsky(folder: Path) -> Plain:
    draw = Lot()
    sets = []
    for layer in range(LAYERS):
        tensors = {"W_enc": draw(WIDTH, UNITS), "W_dec": draw(UNITS, WIDTH), "b_enc": draw(UNITS), "b_dec": draw(WIDTH)}
        tensors["b_dec_out"] = draw(WIDTH)
        sets.append(tensors)
        name = f"final_sparse_autoencoder_gpt2-small_blocks.{layer}.ln2.hook_normalized_24576.pt"
        torch.save({"cfg": {"d_in": WIDTH}, "state_dict": tensors}, folder / name)
    return per_layer(
        lambda i, x: torch.relu((x - sets[i]["b_dec"]) @ sets[i]["W_enc"] + sets[i]["b_enc"]),
        lambda i, a, x: a @ sets[i]["W_dec"] + sets[i]["b_dec_out"],
    )


def llama_scope_2(folder: Path) -> Plain:
    draw = Lot()
    sets = []
    for layer in range(LAYERS):
        tensors = {"W_E": draw(WIDTH, UNITS), "W_D": draw(UNITS, WIDTH), "b_E": draw(UNITS), "b_D": draw(WIDTH)}
        inward, outward = f"blocks.{layer}.ln2.hook_normalized", f"blocks.{layer}.hook_mlp_out"
        sets.append((tensors, math.sqrt(WIDTH) / 2.0, 3.0 / math.sqrt(WIDTH)))
        norms = {inward: torch.tensor(2.0), outward: torch.tensor(3.0)}
        norms = {f"dataset_average_activation_norm.{hook}": norm for hook, norm in norms.items()}
        settings = {
            "sae_type": "sae",
            "act_fn": "topk",
            "top_k": K,
            "d_model": WIDTH,
            "norm_activation": "dataset-wise",
        }
        settings |= {"sparsity_include_decoder_norm": True, "hook_point_in": inward, "hook_point_out": outward}
        write_json(folder / f"layer{layer}_transcoder" / "config.json", settings)
        save_file({**tensors, **norms}, folder / f"layer{layer}_transcoder" / "sae_weights.safetensors")

    def encode(layer: int, x: Tensor) -> Tensor:
        tensors, inward, _ = sets[layer]
        return torch.relu(largest((x * inward) @ tensors["W_E"] + tensors["b_E"], tensors["W_D"].norm(dim=1)))

    return per_layer(encode, lambda i, a, x: (a @ sets[i][0]["W_D"] + sets[i][0]["b_D"]) * sets[i][2])


def llama_scope_1(folder: Path) -> Plain:
    draw = Lot()
    tensors = {"encoder.weight": draw(UNITS, WIDTH), "encoder.bias": draw(UNITS), "decoder.weight": draw(WIDTH, UNITS)}
    tensors["decoder.bias"] = draw(WIDTH)
    (folder / "checkpoints").mkdir()
    save_file(tensors, folder / "checkpoints" / "final.safetensors")
    settings = {"act_fn": "jumprelu", "jump_relu_threshold": 0.4, "norm_activation": "dataset-wise", "d_model": WIDTH}
    settings |= {"hook_point_in": "blocks.1.hook_mlp_out", "hook_point_out": "blocks.1.hook_mlp_out"}
    write_json(folder / "hyperparams.json", {**settings, "dataset_average_activation_norm": {"in": 2.5, "out": 2.5}})
    s = math.sqrt(WIDTH) / 2.5
    return per_layer(
        lambda i, x: jump((x * s) @ tensors["encoder.weight"].T + tensors["encoder.bias"], 0.4 * s),
        lambda i, a, x: (a @ tensors["decoder.weight"].T + tensors["decoder.bias"]) / s,
    )


def goodfire(folder: Path) -> Plain:
    draw = Lot()
    W, b, out, b_out = draw(UNITS, WIDTH), draw(UNITS), draw(WIDTH, UNITS), draw(WIDTH)
    names = ("encoder_linear.weight", "encoder_linear.bias", "decoder_linear.weight", "decoder_linear.bias")
    torch.save(dict(zip(names, (W, b, out, b_out), strict=True)), folder / "Llama-SAE-l19.pth")
    return per_layer(lambda i, x: torch.relu(x @ W.T + b), lambda i, a, x: a @ out.T + b_out)


def qwen_scope(folder: Path) -> Plain:
    draw = Lot()
    t = {"W_enc": draw(UNITS, WIDTH), "W_dec": draw(WIDTH, UNITS), "b_enc": draw(UNITS), "b_dec": draw(WIDTH)}
    torch.save(t, folder / "layer0.sae.pt")
    settings = {"model_type": "topk_sae", "d_model": WIDTH, "d_sae": UNITS, "k": K, "hook_point": "resid_post"}
    write_json(folder / "config.json", settings)
    return per_layer(
        lambda i, x: torch.relu(largest(x @ t["W_enc"].T + t["b_enc"])), lambda i, a, x: a @ t["W_dec"].T + t["b_dec"]
    )


def dictionary_learning(folder: Path) -> Plain:
    draw = Lot()
    t = {"encoder.weight": draw(UNITS, WIDTH), "encoder.bias": draw(UNITS), "decoder.weight": draw(WIDTH, UNITS)}
    t |= {"b_dec": draw(WIDTH), "threshold": torch.tensor(0.7), "k": torch.tensor(4)}
    torch.save(t, folder / "ae.pt")
    trainer = {"dict_class": "BatchTopKSAE", "activation_dim": WIDTH, "dict_size": UNITS, "layer": 1}
    settings = {"trainer": {**trainer, "submodule_name": "resid_post_layer_1"}, "buffer": {"io": "out"}}
    write_json(folder / "config.json", settings)
    return per_layer(
        lambda i, x: jump((x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"], 0.7),
        lambda i, a, x: a @ t["decoder.weight"].T + t["b_dec"],
    )


def circuit_tracer_topk(folder: Path) -> Plain:
    return circuit_tracer_plt(folder, topk=True)


def circuit_tracer_bare(folder: Path) -> Plain:
    return circuit_tracer_plt(folder, turned=True, configured=False)


def clt_training_tied(folder: Path) -> Plain:
    return clt_training(folder, tied=True)


# A layout's name in FORMATS -> who writes it, and where in the folder the set then is.
LAYOUTS: dict[str, list[tuple[Callable[[Path], Plain], str]]] = {
    "circuit-tracer per-layer": [(circuit_tracer_plt, ""), (circuit_tracer_topk, "")],
    "circuit-tracer per-layer, list": [(circuit_tracer_list, "wrapper")],
    "circuit-tracer per-layer, first": [(circuit_tracer_bare, "")],
    "circuit-tracer cross-layer": [(circuit_tracer_clt, "")],
    "circuit-tracer cross-layer, by target": [(circuit_tracer_sweep, "")],
    "Gemma Scope": [(gemma_scope, "")],
    "Gemma Scope 2": [(gemma_scope_2, ""), (gemma_scope_2, "width_16k_l0_small_affine")],
    "Gemma Scope 2 cross-layer": [(gemma_scope_2_clt, "")],
    "SAELens": [(saelens, "")],
    "sparsify": [(sparsify, "")],
    "clt-training": [(clt_training, ""), (clt_training_tied, "")],
    "Dunefsky GPT-2": [(dunefsky, "")],
    "Llama Scope 2": [(llama_scope_2, "")],
    "Llama Scope 1": [(llama_scope_1, "")],
    "Goodfire": [(goodfire, "")],
    "Qwen Scope": [(qwen_scope, "")],
    "dictionary_learning": [(dictionary_learning, "")],
}
CASES = [(name, write, place) for name, some in LAYOUTS.items() for write, place in some]
