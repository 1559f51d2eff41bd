"""Qwen Scope autoencoders: `config.json` and one `layer{i}.sae.pt` a layer."""

from __future__ import annotations

from pathlib import Path

from circuits.formats.files import (
    REBUILDS,
    Stored,
    check_agreement,
    check_arithmetic,
    find_layer,
    find_site,
    read_config,
    whole_number,
)
from circuits.formats.layers import Layer, join_layers
from circuits.transcoders.transcoders import Transcoders


def recognises(folder: Path) -> bool:
    """Whether the folder looks like this layout."""
    return any(folder.glob("layer*.sae.pt"))


def load(folder: Path) -> Transcoders:
    """W_enc [unit d], W_dec [d unit], b_enc, b_dec. TopK, then ReLU; k is the configuration's."""
    path = folder / "config.json"
    config = read_config(path)
    check_arithmetic(path, config, {"model_type": ("topk_sae",)})
    return join_layers(folder, [_read(each, folder, config) for each in sorted(folder.glob("layer*.sae.pt"))])


def _read(path: Path, folder: Path, config: dict) -> Layer:
    stored = Stored(path, folder)
    units, width = stored.matrix("W_enc", "unit d_in")
    stored.expect({"W_enc": (units, width), "W_dec": (width, units), "b_enc": (units,), "b_dec": (width,)})
    check_agreement(folder / "config.json", config, {"d_model": width, "d_sae": units})
    hook = {"hook_point": f"hook_{config.get('hook_point')}"}
    site = find_site(hook, "hook_point", REBUILDS, folder / "config.json")
    return Layer(
        path=path,
        number=find_layer(path.name, path),
        reads=site,
        writes=site,
        W_enc=stored.large("W_enc"),
        b_enc=stored.small("b_enc"),
        W_dec=stored.large("W_dec", turned=True),
        b_dec=stored.small("b_dec"),
        k=whole_number(folder / "config.json", config, "k", units),
    )
