"""OpenMOSS Llama Scope 2: a folder a layer with config.json and sae_weights.safetensors (W_E, W_D). Not its Lorsa."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from circuits.errors import DamagedTranscoders
from circuits.formats.files import (
    READS,
    REBUILDS,
    WRITES,
    Stored,
    check_agreement,
    check_arithmetic,
    find_layer,
    find_site,
    folders_with,
    read_config,
    whole_number,
)
from circuits.formats.layers import Layer, join_layers
from circuits.transcoders.transcoders import Transcoders

_NORM = "dataset_average_activation_norm."


def recognises(folder: Path) -> bool:
    """Whether the folder, or folders in it, look like this layout."""
    return bool(folders_with(folder, "config.json", "sae_weights.safetensors"))


def load(folder: Path) -> Transcoders:
    """W_E [d_in unit], b_E, W_D [unit d_out], b_D. TopK or JumpReLU, on `h ‖W_D row‖` where the configuration says so.

    Input and output are scaled to norm √d by the average norms kept beside the weights; the set's own library leaves
    that to its caller.
    """
    return join_layers(folder, [_read(each) for each in folders_with(folder, "config.json", "sae_weights.safetensors")])


def _read(folder: Path) -> Layer:
    path = folder / "config.json"
    config = read_config(path)
    if config.get("sae_type") == "lorsa":
        raise DamagedTranscoders(
            f"{folder} holds Lorsa heads: they replace attention, and MLPs are wanted here. Give the `transcoder` "
            "folder of the same set with this one behind it: TRANSCODERS+LORSA."
        )
    check_arithmetic(
        path,
        config,
        {
            "sae_type": ("sae", "transcoder"),
            "norm_activation": ("dataset-wise", "inference", "none", None),
            "use_glu_encoder": (False, None),
            "use_decoder_bias": (True,),
            "act_fn": ("topk", "jumprelu", "relu"),
        },
    )
    stored = Stored(folder / "sae_weights.safetensors", folder)
    width, units = stored.matrix("W_E", "d_in unit")
    _, out = stored.matrix("W_D", "unit d_out")
    inward, outward = str(config.get("hook_point_in")), str(config.get("hook_point_out"))
    shapes: dict[str, tuple[int, ...]] = {"W_E": (width, units), "b_E": (units,), "W_D": (units, out), "b_D": (out,)}
    scaled = config.get("norm_activation") == "dataset-wise"
    if scaled:
        shapes |= {_NORM + inward: (), _NORM + outward: ()}
    activation = config.get("act_fn", "relu")
    if activation == "jumprelu":
        shapes["log_jumprelu_threshold"] = (units,)
    stored.expect(shapes)
    check_agreement(path, config, {"d_model": width})
    autoencodes = inward == outward
    reads = find_site(config, "hook_point_in", REBUILDS if autoencodes else READS, path)
    rank = _norms(stored, units) if config.get("sparsity_include_decoder_norm") else None
    threshold = stored.small("log_jumprelu_threshold").exp() if activation == "jumprelu" else None
    if threshold is not None and rank is not None:
        threshold = threshold / rank
    zoom = _zoom(stored, inward, width) if scaled else None
    scale = 1 / _zoom(stored, outward, out) if scaled else None
    b_dec = stored.small("b_D")
    return Layer(
        path=stored.path,
        number=find_layer(inward, path),
        reads=reads,
        writes=reads if autoencodes else find_site(config, "hook_point_out", WRITES, path),
        W_enc=stored.large("W_E", turned=True),
        b_enc=stored.small("b_E"),
        W_dec=stored.large("W_D"),
        b_dec=b_dec if scale is None else b_dec * scale,
        threshold=threshold,
        zoom=zoom,
        scale=scale,
        rank=rank if activation == "topk" else None,
        k=whole_number(path, config, "top_k", units) if activation == "topk" else None,
    )


def _norms(stored: Stored, units: int) -> Tensor:
    decoder = stored.large("W_D")()
    norms = [decoder[first : first + 4096].float().norm(dim=1) for first in range(0, units, 4096)]
    return torch.cat(norms)


def _zoom(stored: Stored, hook: str, width: int) -> float:
    norm = float(stored.small(_NORM + hook))
    if norm <= 0:
        raise DamagedTranscoders(f"{stored.path}: {_NORM + hook} should be above 0, found {norm}.")
    return width**0.5 / norm
