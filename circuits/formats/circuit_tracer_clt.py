"""circuit-tracer's cross-layer transcoders: `config.yaml`, `W_enc_{i}.safetensors` and `W_dec_{i}.safetensors`."""

from __future__ import annotations

from pathlib import Path

import torch

from circuits.errors import DamagedTranscoders
from circuits.formats.files import (
    READS,
    WRITES,
    Stored,
    check_arithmetic,
    find_site,
    hash_files,
    number_layers,
    read_config,
    read_notes,
)
from circuits.transcoders.mapped import Mapped
from circuits.transcoders.transcoders import Transcoders


def recognises(folder: Path) -> bool:
    """Whether the folder looks like this layout."""
    config = folder / "config.yaml"
    named = config.is_file() and read_config(config).get("model_kind") == "cross_layer_transcoder"
    return named or any(folder.glob("W_enc_*.safetensors"))


def load(folder: Path) -> Transcoders:
    """W_enc_i [unit d], b_enc_i, threshold_i; b_dec_i of the layer written to; W_dec_i [unit layers - i, d].

    The middle axis of a decoder is an offset: slot j writes layer i + j.
    """
    config_path = folder / "config.yaml"
    config = read_config(config_path)
    check_arithmetic(config_path, config, {"activation": ("relu", "jump_relu")})
    encoders = [Stored(path, folder) for path in number_layers(folder, "W_enc_{}.safetensors")]
    decoders = [Stored(path, folder) for path in number_layers(folder, "W_dec_{}.safetensors")]
    if not encoders or len(encoders) != len(decoders):
        raise DamagedTranscoders(
            f"{folder} holds {len(encoders)} encoders and {len(decoders)} decoders: fetch the rest."
        )
    units, width = encoders[0].matrix("W_enc_0", "unit d_in")
    threshold = []
    for layer, (encoder, decoder) in enumerate(zip(encoders, decoders, strict=True)):
        encoder.expect(
            {f"W_enc_{layer}": (units, width), f"b_enc_{layer}": (units,), f"b_dec_{layer}": (width,)},
            {f"threshold_{layer}": (units,)},
        )
        decoder.expect({f"W_dec_{layer}": (units, len(encoders) - layer, width)})
        has = f"threshold_{layer}" in encoder.shapes
        threshold.append(encoder.small(f"threshold_{layer}") if has else torch.zeros(units))
    return Transcoders(
        name=folder.name,
        content_hash=hash_files([stored.path for stored in (*encoders, *decoders)]),
        W_enc=Mapped([stored.large(f"W_enc_{layer}") for layer, stored in enumerate(encoders)]),
        b_enc=[stored.small(f"b_enc_{layer}") for layer, stored in enumerate(encoders)],
        threshold=threshold,
        W_dec=Mapped([stored.large(f"W_dec_{layer}") for layer, stored in enumerate(decoders)]),
        b_dec=[stored.small(f"b_dec_{layer}") for layer, stored in enumerate(encoders)],
        W_skip=None,
        reads=find_site(config, "feature_input_hook", READS, config_path),
        writes=find_site(config, "feature_output_hook", WRITES, config_path),
        silent_positions=1,
        notes=read_notes(folder),
        unchecked=True,
    )
