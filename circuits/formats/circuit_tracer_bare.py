"""circuit-tracer's first per-layer sets: `layer_{i}.safetensors` with W_dec [d_out unit], and no configuration."""

from __future__ import annotations

from pathlib import Path

from circuits.errors import DamagedTranscoders
from circuits.formats.files import UNSTATED, Stored, files_by_layer
from circuits.formats.layers import Layer, join_layers
from circuits.transcoders.transcoders import Transcoders


def recognises(folder: Path) -> bool:
    """Whether the folder looks like this layout."""
    return not (folder / "config.yaml").exists() and any(folder.glob("layer_*.safetensors"))


def load(folder: Path) -> Transcoders:
    """ReLU. W_dec may stand either way round; a square one is refused. What it reads and writes is not in the files."""
    paths = files_by_layer(folder, "layer_{}.safetensors")
    if not paths:
        raise DamagedTranscoders(f"{folder} holds no layer_0.safetensors: fetch the weights.")
    return join_layers(folder, [_read(Stored(path, folder), number) for number, path in paths.items()])


def _read(stored: Stored, number: int) -> Layer:
    units, width = stored.matrix("W_enc", "unit d_in")
    if units == width:
        raise DamagedTranscoders(
            f"{stored.path} has as many features as the model is wide ({width}): which way round W_dec stands cannot "
            "be told, so it is refused."
        )
    turned = stored.shapes.get("W_dec") == (width, units)
    stored.expect(
        {
            "W_enc": (units, width),
            "W_dec": (width, units) if turned else (units, width),
            "b_enc": (units,),
            "b_dec": (width,),
        },
        {"W_skip": (width, width)},
    )
    return Layer(
        path=stored.path,
        number=number,
        reads=UNSTATED,
        writes=UNSTATED,
        W_enc=stored.large("W_enc"),
        b_enc=stored.small("b_enc"),
        W_dec=stored.large("W_dec", turned=turned),
        b_dec=stored.small("b_dec"),
        W_skip=stored.large("W_skip") if "W_skip" in stored.shapes else None,
    )
