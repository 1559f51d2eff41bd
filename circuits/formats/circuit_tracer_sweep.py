"""Early cross-layer sets grouped by target: `encoder_layer_{i}.safetensors`, `decoder_layer_{t}.safetensors`."""

from __future__ import annotations

from pathlib import Path

import torch

from circuits.errors import DamagedTranscoders
from circuits.formats.files import UNSTATED, Stored, hash_files, number_layers, read_notes
from circuits.transcoders.mapped import ByTarget, Mapped
from circuits.transcoders.transcoders import Transcoders


def recognises(folder: Path) -> bool:
    """Whether the folder looks like this layout."""
    return any(folder.glob("encoder_layer_*.safetensors"))


def load(folder: Path) -> Transcoders:
    """W_enc [unit d], b_enc per source; W_dec_from_s [d unit] for every s <= t, b_dec per target t. ReLU.

    Which tensors it reads and writes is not in the files.
    """
    encoders = [Stored(path, folder) for path in number_layers(folder, "encoder_layer_{}.safetensors")]
    decoders = [Stored(path, folder) for path in number_layers(folder, "decoder_layer_{}.safetensors")]
    if not encoders or len(encoders) != len(decoders):
        raise DamagedTranscoders(
            f"{folder} holds {len(encoders)} encoders and {len(decoders)} decoders: fetch the rest."
        )
    units, width = encoders[0].matrix("W_enc", "unit d_in")
    for target, (encoder, decoder) in enumerate(zip(encoders, decoders, strict=True)):
        encoder.expect({"W_enc": (units, width), "b_enc": (units,)})
        from_each: dict[str, tuple[int, ...]] = {f"W_dec_from_{s}": (width, units) for s in range(target + 1)}
        decoder.expect({"b_dec": (width,), **from_each})

    def decoder_of(source: int) -> ByTarget:
        return ByTarget([to.large(f"W_dec_from_{source}", turned=True) for to in decoders[source:]], units, width)

    return Transcoders(
        name=folder.name,
        content_hash=hash_files([stored.path for stored in (*encoders, *decoders)]),
        W_enc=Mapped([stored.large("W_enc") for stored in encoders]),
        b_enc=[stored.small("b_enc") for stored in encoders],
        threshold=[torch.zeros(units) for _ in encoders],
        W_dec=[decoder_of(source) for source in range(len(encoders))],
        b_dec=[stored.small("b_dec") for stored in decoders],
        W_skip=None,
        reads=UNSTATED,
        writes=UNSTATED,
        silent_positions=1,
        notes=read_notes(folder),
        unchecked=True,
    )
