"""Goodfire's autoencoders: one `…-l{i}.pth` of `encoder_linear` and `decoder_linear`."""

from __future__ import annotations

import re
from pathlib import Path

from circuits.errors import DamagedTranscoders
from circuits.formats.files import Stored
from circuits.formats.layers import Layer, join_layers
from circuits.transcoders.transcoders import Transcoders


def recognises(folder: Path) -> bool:
    """Whether the folder looks like this layout."""
    return any(folder.glob("*-l[0-9]*.pth"))


def load(folder: Path) -> Transcoders:
    """encoder_linear.weight [unit d], decoder_linear.weight [d unit], and biases. ReLU, on what a block puts out."""
    return join_layers(folder, [_read(path, folder) for path in sorted(folder.glob("*-l[0-9]*.pth"))])


def _read(path: Path, folder: Path) -> Layer:
    number = re.search(r"-l(\d+)$", path.stem)
    if number is None:
        raise DamagedTranscoders(f"{path} should be named NAME-l19.pth: that is where its layer is.")
    stored = Stored(path, folder)
    units, width = stored.matrix("encoder_linear.weight", "unit d_in")
    stored.expect(
        {
            "encoder_linear.weight": (units, width),
            "encoder_linear.bias": (units,),
            "decoder_linear.weight": (width, units),
            "decoder_linear.bias": (width,),
        }
    )
    return Layer(
        path=path,
        number=int(number[1]),
        reads="residual_after",
        writes="residual_after",
        W_enc=stored.large("encoder_linear.weight"),
        b_enc=stored.small("encoder_linear.bias"),
        W_dec=stored.large("decoder_linear.weight", turned=True),
        b_dec=stored.small("decoder_linear.bias"),
    )
