"""What there is to load: shipped, in the Hub's cache on this machine, or known to be on the Hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from circuits.hub.cached import Cached, cached_models, cached_sets
from circuits.hub.published import (
    MODELS,
    SETS,
    SHIPPED,
    card_of,
    shipped_folder,
    shipped_models,
    shipped_transcoders,
)


@dataclass(frozen=True)
class Offer:
    """A model or a set that can be loaded by its name.

    where: "shipped", "cache", "part in the cache", or "hub". size: bytes, of what is on the Hub about; None where
    nobody wrote it down. here: bytes on this machine. about: what else is known, in words, for a line and for JSON.
    """

    name: str
    where: str
    size: int | None
    here: int
    about: dict[str, str | int | bool | None]


def model_offers() -> list[Offer]:
    """Every model: those that come along, then those in the cache, then those on the Hub."""
    shipped = [
        Offer(name, "shipped", size, size, {"layers": _layers(folder), "gated": False, "card": str(card_of(name))})
        for name in shipped_models()
        for folder in [SHIPPED / name / "model"]
        for size in [_size(folder)]
    ]
    about = {each.name: {"layers": each.layers, "gated": each.gated, "card": None} for each in MODELS}
    sizes = {each.name: each.gigabytes for each in MODELS}
    return [*shipped, *_on_the_hub(about, sizes, cached_models(), {"layers": None, "gated": None, "card": None})]


def set_offers() -> list[Offer]:
    """Every transcoder set, in the same order."""
    shipped = [
        Offer(
            name,
            "shipped",
            size,
            size,
            {
                "model": name.partition("/")[0],
                "kind": "cross-layer" if name.endswith("/cross-layer") else "per-layer",
                "layout": f"circuit-tracer {'cross' if name.endswith('/cross-layer') else 'per'}-layer",
                "layers": _layers(SHIPPED / name.partition("/")[0] / "model"),
                "features": _features(shipped_folder(name)),
            },
        )
        for name in shipped_transcoders()
        for size in [_size(shipped_folder(name))]
    ]
    names = ("model", "kind", "layout", "layers", "features")
    about = {each.name: {name: getattr(each, name) for name in names} for each in SETS}
    sizes = {each.name: each.gigabytes for each in SETS}
    return [*shipped, *_on_the_hub(about, sizes, cached_sets(), dict.fromkeys(names))]


def _on_the_hub(
    about: dict[str, dict], sizes: dict[str, float | None], cached: list[Cached], unknown: dict
) -> list[Offer]:
    """What is in the cache, known or not, then what else is known."""
    held = {each.name: each for each in cached}
    here = [
        Offer(
            each.name,
            "cache" if each.whole else "part in the cache",
            each.size if each.whole else _bytes(sizes.get(each.name)),
            each.size,
            about.get(each.name, unknown),
        )
        for each in cached
    ]
    return [*here, *(Offer(name, "hub", _bytes(sizes[name]), 0, about[name]) for name in about if name not in held)]


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else round(gigabytes * 1e9)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _layers(folder: Path) -> int:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config["num_hidden_layers"]


def _features(folder: Path) -> int:
    from safetensors import safe_open

    first = next(path for name in ("layer_0", "W_enc_0") if (path := folder / f"{name}.safetensors").is_file())
    with safe_open(first, "np") as file:
        return file.get_slice("b_enc" if "b_enc" in file.keys() else "b_enc_0").get_shape()[0]
