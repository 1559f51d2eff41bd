"""Gemma Scope, transcoders and autoencoders: `layer_{i}/width_{w}/average_l0_{n}/params.npz`, no configuration."""

from __future__ import annotations

import re
from pathlib import Path

from circuits.errors import DamagedTranscoders
from circuits.formats.files import Stored
from circuits.formats.layer_files import read_gemma_scope_layer
from circuits.formats.layers import join_layers
from circuits.transcoders.transcoders import Transcoders

_REPOSITORY = re.compile(r"gemma-scope-\w+-(?:pt|it)-(res|mlp|att)(?![\w-])")
_AUTOENCODED = {"res": "residual_after", "mlp": "mlp_output", "att": "mixed"}
_PLACE = re.compile(r"layer_(\d+)/width_[^/]+/average_l0_(\d+)/params\.npz$")


def recognises(folder: Path) -> bool:
    """Whether the folder, or one of its layers', looks like this layout."""
    return bool(_files(folder))


def load(folder: Path) -> Transcoders:
    """JumpReLU. Reads the residual stream over its rms, the gain left out; writes what the MLP adds, past its norm.

    The files of the autoencoders look the same: only the repository's name tells them, gemma-scope-2b-pt-mlp for what
    the MLPs add.
    One file a layer: which width and which L0 is for the user to say, by what lies in the folder.
    """
    by_layer: dict[int, list[tuple[int, Path]]] = {}
    for path in _files(folder):
        found = _PLACE.search(path.absolute().as_posix())
        if found is None:
            raise DamagedTranscoders(f"{path} should lie at layer_I/width_W/average_l0_N: that is where its layer is.")
        by_layer.setdefault(int(found[1]), []).append((int(found[2]), path))
    for layer, some in by_layer.items():
        if len(some) > 1:
            names = ", ".join(path.parent.relative_to(folder).as_posix() for _, path in some[:6])
            raise DamagedTranscoders(
                f"{folder} holds {len(some)} sets for layer {layer} ({names}): one is wanted. Give a folder with one "
                "of each layer, or circuit-tracer's config.yaml that lists them."
            )
    chosen = {layer: some[0] for layer, some in by_layer.items()}
    kind = _REPOSITORY.findall(folder.absolute().as_posix())
    site = _AUTOENCODED[kind[-1]] if kind else None
    layers = [
        read_gemma_scope_layer(Stored(path, folder), layer, site or "mlp_normalised", site or "mlp_output")
        for layer, (_, path) in chosen.items()
    ]
    return join_layers(folder, layers, declared=sum(l0 for l0, _ in chosen.values()) / len(chosen))


def _files(folder: Path) -> list[Path]:
    for depth in ("params.npz", "average_l0_*/params.npz", "width_*/*/params.npz", "layer_*/width_*/*/params.npz"):
        found = sorted(folder.glob(depth))
        if found:
            return found
    return []
