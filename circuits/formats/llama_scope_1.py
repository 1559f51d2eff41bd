"""Llama Scope 1 autoencoders: `hyperparams.json` and `checkpoints/final.safetensors`."""

from __future__ import annotations

from pathlib import Path

import torch

from circuits.errors import DamagedTranscoders
from circuits.formats.files import (
    REBUILDS,
    Stored,
    check_agreement,
    check_arithmetic,
    find_layer,
    find_site,
    folders_with,
    read_config,
)
from circuits.formats.layers import Layer, join_layers
from circuits.transcoders.transcoders import Transcoders


def recognises(folder: Path) -> bool:
    """Whether the folder, or folders in it, look like this layout."""
    return bool(folders_with(folder, "hyperparams.json", "checkpoints/final.safetensors"))


def load(folder: Path) -> Transcoders:
    """encoder.weight [unit d], decoder.weight [d unit]; JumpReLU with one threshold, in units of the raw activations.

    `s = √d / norm` scales the input; the output is scaled back.
    """
    folders = folders_with(folder, "hyperparams.json", "checkpoints/final.safetensors")
    return join_layers(folder, [_read(each) for each in folders])


def _read(folder: Path) -> Layer:
    path = folder / "hyperparams.json"
    config = read_config(path)
    check_arithmetic(
        path,
        config,
        {
            "act_fn": ("jumprelu",),
            "norm_activation": ("dataset-wise",),
            "use_decoder_bias": (True,),
            "apply_decoder_bias_to_pre_encoder": (False,),
            "hook_point_out": (config.get("hook_point_in"),),
        },
    )
    stored = Stored(folder / "checkpoints" / "final.safetensors", folder)
    units, width = stored.matrix("encoder.weight", "unit d_in")
    stored.expect(
        {
            "encoder.weight": (units, width),
            "encoder.bias": (units,),
            "decoder.weight": (width, units),
            "decoder.bias": (width,),
        }
    )
    check_agreement(path, config, {"d_model": width, "d_sae": units})
    norms, threshold = config.get("dataset_average_activation_norm"), config.get("jump_relu_threshold")
    norm = norms.get("in") if isinstance(norms, dict) else None
    if not isinstance(norm, int | float) or norm <= 0 or not isinstance(threshold, int | float):
        raise DamagedTranscoders(f"{path} should hold jump_relu_threshold and dataset_average_activation_norm.in.")
    zoom = width**0.5 / norm
    site = find_site(config, "hook_point_in", REBUILDS, path)
    return Layer(
        path=stored.path,
        number=find_layer(config["hook_point_in"], path),
        reads=site,
        writes=site,
        W_enc=stored.large("encoder.weight"),
        b_enc=stored.small("encoder.bias"),
        W_dec=stored.large("decoder.weight", turned=True),
        b_dec=stored.small("decoder.bias") / zoom,
        threshold=torch.full((units,), threshold * zoom),
        zoom=zoom,
        scale=1 / zoom,
    )
