"""circuit-tracer's per-layer transcoder sets: `config.yaml` and one `layer_{i}.safetensors` a layer."""

from __future__ import annotations

from pathlib import Path

import torch

from circuits.errors import DamagedTranscoders
from circuits.formats.files import (
    READS,
    WRITES,
    check_shapes,
    find_site,
    hash_files,
    number_layers,
    read_config,
    read_notes,
    read_tensors,
)
from circuits.transcoders.transcoders import Transcoders


def recognises(folder: Path) -> bool:
    """Whether the folder looks like this layout."""
    config = folder / "config.yaml"
    return config.is_file() and read_config(config).get("model_kind") == "transcoder_set"


def load(folder: Path) -> Transcoders:
    """W_enc, W_dec [feature d], b_enc, b_dec, `activation_function.threshold` for JumpReLU, W_skip [d_out d_in]."""
    config_path = folder / "config.yaml"
    config = read_config(config_path)
    activation = config.get("activation", "relu")
    if activation not in ("relu", "jump_relu"):
        raise DamagedTranscoders(f"{config_path}: activation {activation!r} is not known yet; relu and jump_relu are.")
    paths = number_layers(folder, "layer_{}.safetensors")
    if not paths:
        raise DamagedTranscoders(f"{folder} holds a config.yaml but no layer_0.safetensors: fetch the weights.")
    layers = [_load_layer(path) for path in paths]
    skips = [tensors["W_skip"] for tensors in layers if "W_skip" in tensors]
    if skips and len(skips) < len(layers):
        raise DamagedTranscoders(f"{folder}: some layers have W_skip and some have not.")
    return Transcoders(
        name=folder.name,
        content_hash=hash_files(paths),
        W_enc=[tensors["W_enc"] for tensors in layers],
        b_enc=[tensors["b_enc"] for tensors in layers],
        threshold=[tensors["activation_function.threshold"] for tensors in layers],
        W_dec=[tensors["W_dec"][:, None] for tensors in layers],
        b_dec=[tensors["b_dec"] for tensors in layers],
        W_skip=skips or None,
        reads=find_site(config, "feature_input_hook", READS, config_path),
        writes=find_site(config, "feature_output_hook", WRITES, config_path),
        silent_positions=1,
        notes=read_notes(folder),
    )


def _load_layer(path: Path) -> dict[str, torch.Tensor]:
    tensors = read_tensors(path)
    if "W_enc" not in tensors or tensors["W_enc"].ndim != 2:
        raise DamagedTranscoders(f"{path} should hold W_enc [feature d]; it holds {', '.join(tensors)}.")
    features, width = tensors["W_enc"].shape
    shapes = {"W_enc": (features, width), "W_dec": (features, width), "b_enc": (features,), "b_dec": (width,)}
    if "activation_function.threshold" in tensors:
        shapes["activation_function.threshold"] = (features,)
    if "W_skip" in tensors:
        shapes["W_skip"] = (width, width)
    check_shapes(path, tensors, shapes)
    tensors.setdefault("activation_function.threshold", torch.zeros(features))
    return tensors
