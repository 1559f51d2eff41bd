"""Gemma Scope 2, cross-layer: one config.json and `params_layer_{i}.safetensors`, w_dec [unit layer d_out]."""

from __future__ import annotations

from pathlib import Path

from circuits.errors import DamagedTranscoders
from circuits.formats.files import (
    READS,
    WRITES,
    Stored,
    check_agreement,
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
    return any(folder.glob("params_layer_*.safetensors"))


def load(folder: Path) -> Transcoders:
    """JumpReLU; affine where the files have a skip. The middle axis of w_dec is the layer written to itself.

    Its slots below the source's own layer are zeros and are not read.
    """
    stored = [Stored(path, folder) for path in number_layers(folder, "params_layer_{}.safetensors")]
    path = folder / "config.json"
    config = read_config(path) if path.is_file() else {}
    check_arithmetic(path, config, {"architecture": ("jump_relu",), "type": ("clt",)})
    if not stored:
        raise DamagedTranscoders(f"{folder} holds no params_layer_0.safetensors: fetch the weights.")
    width, units = stored[0].matrix("w_enc", "d_in unit")
    affine = "affine_skip_connection" in stored[0].shapes
    skip: dict[str, tuple[int, ...]] = {"affine_skip_connection": (width, width)} if affine else {}
    for each in stored:
        each.expect(
            {
                "w_enc": (width, units),
                "w_dec": (units, len(stored), width),
                "b_enc": (units,),
                "b_dec": (width,),
                "threshold": (units,),
                **skip,
            }
        )
    check_agreement(path, config, {"width": units * len(stored), "affine_connection": affine})

    def decoder_of(source: int):
        return lambda: stored[source].large("w_dec")()[:, source:]

    return Transcoders(
        name=folder.name,
        content_hash=hash_files([each.path for each in stored]),
        W_enc=Mapped([each.large("w_enc", turned=True) for each in stored]),
        b_enc=[each.small("b_enc") for each in stored],
        threshold=[each.small("threshold") for each in stored],
        W_dec=Mapped([decoder_of(source) for source in range(len(stored))]),
        b_dec=[each.small("b_dec") for each in stored],
        W_skip=Mapped([each.large("affine_skip_connection", turned=True) for each in stored]) if affine else None,
        reads=find_site(config, "hf_hook_point_in", READS, path) if config else "mlp_input",
        writes=find_site(config, "hf_hook_point_out", WRITES, path) if config else "mlp_output",
        silent_positions=4 if str(config.get("model_name")).endswith("-it") else 1,
        notes=read_notes(folder),
        unchecked=True,
    )
