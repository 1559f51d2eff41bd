"""circuit-tracer's cross-layer transcoders: `config.yaml`, `W_enc_{i}.safetensors` and `W_dec_{i}.safetensors`."""

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
    return config.is_file() and read_config(config).get("model_kind") == "cross_layer_transcoder"


def load(folder: Path) -> Transcoders:
    """W_enc_i [feature d], b_enc_i, threshold_i; b_dec_i of the layer written to; W_dec_i [feature layers - i, d].

    The middle axis of a decoder is an offset: slot j writes layer i + j.
    """
    config_path = folder / "config.yaml"
    config = read_config(config_path)
    encoders = number_layers(folder, "W_enc_{}.safetensors")
    decoders = number_layers(folder, "W_dec_{}.safetensors")
    if not encoders or len(encoders) != len(decoders):
        raise DamagedTranscoders(
            f"{folder} holds {len(encoders)} encoders and {len(decoders)} decoders: fetch the rest."
        )
    W_enc, b_enc, threshold, W_dec, b_dec = [], [], [], [], []
    for layer, (encoder, decoder) in enumerate(zip(encoders, decoders, strict=True)):
        tensors = read_tensors(encoder)
        if f"W_enc_{layer}" not in tensors or tensors[f"W_enc_{layer}"].ndim != 2:
            raise DamagedTranscoders(f"{encoder} should hold W_enc_{layer} [feature d], found {', '.join(tensors)}.")
        features, width = tensors[f"W_enc_{layer}"].shape
        shapes: dict[str, tuple[int, ...]] = {
            f"W_enc_{layer}": (features, width),
            f"b_enc_{layer}": (features,),
            f"b_dec_{layer}": (width,),
        }
        if f"threshold_{layer}" in tensors:
            shapes[f"threshold_{layer}"] = (features,)
        check_shapes(encoder, tensors, shapes)
        written = read_tensors(decoder)
        check_shapes(decoder, written, {f"W_dec_{layer}": (features, len(encoders) - layer, width)})
        W_enc.append(tensors[f"W_enc_{layer}"])
        b_enc.append(tensors[f"b_enc_{layer}"])
        threshold.append(tensors.get(f"threshold_{layer}", torch.zeros(features)))
        b_dec.append(tensors[f"b_dec_{layer}"])
        W_dec.append(written[f"W_dec_{layer}"])
    return Transcoders(
        name=folder.name,
        content_hash=hash_files([*encoders, *decoders]),
        W_enc=W_enc,
        b_enc=b_enc,
        threshold=threshold,
        W_dec=W_dec,
        b_dec=b_dec,
        W_skip=None,
        reads=find_site(config, "feature_input_hook", READS, config_path),
        writes=find_site(config, "feature_output_hook", WRITES, config_path),
        silent_positions=1,
        notes=read_notes(folder),
    )
