"""EleutherAI's sparsify: a folder per hookpoint (`layers.{i}.mlp`) with cfg.json and sae.safetensors."""

from __future__ import annotations

from pathlib import Path

from circuits.formats.files import (
    READS,
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


def recognises(folder: Path) -> bool:
    """Whether folders in this one, or itself, look like this layout."""
    folders = folders_with(folder, "cfg.json", "sae.safetensors")
    return bool(folders) and not any(read_config(each / "cfg.json").get("n_targets") for each in folders)


def load(folder: Path) -> Transcoders:
    """encoder.weight [unit d], encoder.bias, W_dec [unit d], b_dec, W_skip [d_out d_in] of the raw input. TopK, ReLU.

    `b_dec` is taken from the input unless cfg.json says `transcode`: a missing key is a set from before February 2025,
    when it always was.
    """
    folders = folders_with(folder, "cfg.json", "sae.safetensors")
    whole = folder / "config.json"
    of_all = read_config(whole) if whole.is_file() else {}
    return join_layers(folder, [_read(each, of_all) for each in folders])


def _read(folder: Path, of_all: dict) -> Layer:
    path = folder / "cfg.json"
    config = read_config(path)
    check_arithmetic(
        path,
        config,
        {"activation": ("topk",), "signed": (False,), "normalize_io": (False,), "transcode": (True, False, None)},
    )
    stored = Stored(folder / "sae.safetensors", folder)
    units, width = stored.matrix("encoder.weight", "unit d_in")
    skips = bool(config.get("skip_connection"))
    stored.expect(
        {
            "encoder.weight": (units, width),
            "encoder.bias": (units,),
            "W_dec": (units, width),
            "b_dec": (width,),
            **({"W_skip": (width, width)} if skips else {}),
        }
    )
    check_agreement(
        path, config, {"d_in": width, "num_latents": units} if config.get("num_latents") else {"d_in": width}
    )
    b_dec = stored.small("b_dec")
    hook = {"hookpoint": folder.absolute().name}
    transcodes = config.get("transcode") or of_all.get("transcode") or skips
    if not transcodes and not hook["hookpoint"].endswith(".mlp"):
        reads = writes = "residual_after"  # an autoencoder of what the block puts out
    else:
        reads = find_site(hook, "hookpoint", READS, folder) if transcodes else "mlp_raw"
        writes = find_site(hook, "hookpoint", WRITES, folder)
    return Layer(
        path=stored.path,
        number=find_layer(hook["hookpoint"], folder),
        reads=reads,
        writes=writes,
        W_enc=stored.large("encoder.weight"),
        b_enc=stored.small("encoder.bias"),
        W_dec=stored.large("W_dec"),
        b_dec=b_dec,
        W_skip=stored.large("W_skip") if skips else None,
        centre=None if config.get("transcode") else b_dec,
        k=whole_number(path, config, "k", units),
    )
