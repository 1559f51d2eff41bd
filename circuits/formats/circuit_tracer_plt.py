"""circuit-tracer's per-layer transcoder sets: `config.yaml` and one `layer_{i}.safetensors` a layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from circuits.errors import DamagedTranscoders
from circuits.formats.files import READS, WRITES, Stored, files_by_layer, find_site, read_config, whole_number
from circuits.formats.layer_files import read_circuit_tracer_layer
from circuits.formats.layers import Layer, join_layers
from circuits.transcoders.transcoders import Transcoders


def recognises(folder: Path) -> bool:
    """Whether the folder looks like this layout."""
    path = folder / "config.yaml"
    config = read_config(path) if path.is_file() else {"transcoders": None}
    has_layers = any(folder.glob("layer_*.safetensors"))
    return "transcoders" not in config and (config.get("model_kind") == "transcoder_set" or has_layers)


def load(folder: Path) -> Transcoders:
    """ReLU; JumpReLU where there is a threshold; TopK where the configuration says so, with negative values kept."""
    path = folder / "config.yaml"
    config = read_config(path)
    reads = find_site(config, "feature_input_hook", READS, path)
    writes = find_site(config, "feature_output_hook", WRITES, path)
    paths = files_by_layer(folder, "layer_{}.safetensors")
    if not paths:
        raise DamagedTranscoders(f"{folder} holds a config.yaml but no layer_0.safetensors: fetch the weights.")
    layers = [read_circuit_tracer_layer(Stored(each, folder), i, reads, writes) for i, each in paths.items()]
    return join_layers(folder, [_activate(layer, config, path) for layer in layers])


def _activate(layer: Layer, config: dict, path: Path) -> Layer:
    has_threshold = layer.threshold is not None
    activation = config.get("activation", "jump_relu" if has_threshold else "relu")
    if activation not in ("relu", "jump_relu", "topk"):
        raise DamagedTranscoders(f"{path}: activation {activation!r} is not known; relu, jump_relu and topk are.")
    if has_threshold != (activation == "jump_relu"):
        holds = "thresholds" if has_threshold else "no thresholds"
        raise DamagedTranscoders(f"{path} says activation {activation}, but {layer.path} holds {holds}.")
    if activation != "topk":
        return layer
    if "k" not in config:
        raise DamagedTranscoders(
            f"{path} says activation topk and no k: add a line with its k (facebook/crv-8b-instruct-transcoders: 128)."
        )
    # Their TopK has no ReLU behind it: what is among the k largest stays, negative or not.
    k = whole_number(path, config, "k", len(layer.b_enc))
    return replace(layer, k=k, threshold=torch.full_like(layer.b_enc, -torch.inf))
