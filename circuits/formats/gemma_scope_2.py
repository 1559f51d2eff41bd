"""Gemma Scope 2, layer by layer: `layer_{i}_width_{w}_l0_{n}[_affine]/params.safetensors` and its config.json."""

from __future__ import annotations

import re
from pathlib import Path

from circuits.errors import DamagedTranscoders
from circuits.formats.files import (
    READS,
    REBUILDS,
    WRITES,
    Stored,
    check_agreement,
    check_arithmetic,
    find_site,
    read_config,
)
from circuits.formats.layer_files import read_gemma_scope_2_layer
from circuits.formats.layers import Layer, join_layers
from circuits.transcoders.transcoders import Transcoders

_NAME = re.compile(r"layer_(\d+)_(.+)")
# Kinds of set that stand in a repository beside its transcoders.
_AUTOENCODED = {"mlp_out": "mlp_output", "resid_post": "residual_after", "attn_out": "mixed"}
_RESIDUAL = re.compile(r"(?:[\w.]+\.)?layers\.\d+\.output")


def recognises(folder: Path) -> bool:
    """Whether the folder, one of its layers', or FOLDER/VARIANT (width_16k_l0_small) looks like this layout."""
    return bool(_folders(folder))


def load(folder: Path) -> Transcoders:
    """JumpReLU; affine where the files have a skip. Reads the norm's output, gain and all; writes past the post-norm.

    The folder as published holds every width, L0 and kind of every layer: with more than one, say which as
    `transcoder_all/width_16k_l0_small`.
    """
    folders = _folders(folder)
    variants = sorted({_parts(each)[1] for each in folders})
    if len(variants) > 1:
        raise DamagedTranscoders(
            f"{folder} holds {len(variants)} sets ({', '.join(variants[:6])}): say which, as in {folder}/{variants[0]}."
        )
    configs = [read_config(each / "config.json") if (each / "config.json").is_file() else {} for each in folders]
    layers = [_read(each, config) for each, config in zip(folders, configs, strict=True)]
    declared = [config["l0"] for config in configs if isinstance(config.get("l0"), int | float)]
    return join_layers(
        folder,
        layers,
        silent_positions=4 if str(configs[0].get("model_name")).endswith("-it") else 1,
        declared=sum(declared) / len(declared) if declared else None,
    )


def _read(folder: Path, config: dict) -> Layer:
    path = folder / "config.json"
    number, variant = _parts(folder)
    stored = Stored(folder / "params.safetensors", folder)
    check_arithmetic(path, config, {"architecture": ("jump_relu",), "type": ("transcoder", "sae")})
    layer = read_gemma_scope_2_layer(stored, number, *_sites(config, path))
    found = {"width": len(layer.b_enc), "affine_connection": layer.W_skip is not None}
    check_agreement(path, config, found)
    if variant.endswith("_affine") and layer.W_skip is None:
        raise DamagedTranscoders(f"{folder} is named affine, but holds no affine_skip_connection: fetch it again.")
    return layer


def _sites(config: dict, path: Path) -> tuple[str, str]:
    if "hf_hook_point_in" not in config:
        kinds = [part.removesuffix("_all") for part in path.absolute().parts]
        sites = [_AUTOENCODED[kind] for kind in kinds if kind in _AUTOENCODED]
        # Every published transcoder of this family says so.
        return (sites[-1], sites[-1]) if sites else ("mlp_input", "mlp_output")
    inward, outward = str(config["hf_hook_point_in"]), str(config.get("hf_hook_point_out"))
    if config.get("type") == "sae" or inward == outward:
        known = {"post_feedforward_layernorm.output": "mlp_output", "self_attn.o_proj.input": "mixed"}
        if _RESIDUAL.fullmatch(inward):
            return REBUILDS["hook_resid_post"], REBUILDS["hook_resid_post"]
        site = find_site(config, "hf_hook_point_in", known, path)
        return site, site
    return find_site(config, "hf_hook_point_in", READS, path), find_site(config, "hf_hook_point_out", WRITES, path)


def _parts(folder: Path) -> tuple[int, str]:
    found = _NAME.fullmatch(folder.absolute().name)
    if found is None:
        raise DamagedTranscoders(f"{folder} should be named layer_I_width_W_l0_N: that is where its layer is.")
    return int(found[1]), found[2]


def _folders(folder: Path) -> list[Path]:
    if (folder / "params.safetensors").is_file():
        return [folder]
    where, pattern = (folder, "layer_*_*") if folder.is_dir() else (folder.parent, f"layer_*_{folder.name}")
    found = [path for path in where.glob(pattern) if (path / "params.safetensors").is_file()]
    return sorted(path for path in found if folder.is_dir() or (_parts(path)[1] == folder.name))
