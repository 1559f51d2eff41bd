"""From a name to a dictionary that fits the model: shipped, a folder, or the model's own neurons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from circuits.errors import UnfitTranscoders, UnknownTranscoders
from circuits.formats import load
from circuits.model import SHIPPED, Model
from circuits.transcoders.base import Dictionary
from circuits.transcoders.neurons import Neurons
from circuits.transcoders.transcoders import Transcoders


def load_transcoders(name: str | Path, model: Model) -> Dictionary:
    """The dictionary called `name`, on the model's device and in its dtype.

    name: "neurons", a shipped set ("world", "world/cross-layer"), or a folder in a published layout.

    Raises:
        UnknownTranscoders: nothing by that name. DamagedTranscoders: a file is not what it should be.
        UnfitTranscoders: the set has other layers or another width than the model.
    """
    if str(name) == "neurons":
        return Neurons(model)
    folder = _folder(str(name))
    if folder is None:
        raise UnknownTranscoders(
            f"there are no transcoders {str(name)!r}: give a shipped set ({', '.join(shipped_transcoders())}), "
            "a folder that holds a set, or 'neurons' for the model's own neurons."
        )
    found = load(folder)
    if (found.layers, found.d_model) != (model.layers, model.d_model):
        raise UnfitTranscoders(
            f"{model.name} has {model.layers} layers of width {model.d_model}, but {name} is for {found.layers} layers "
            f"of width {found.d_model}: give the set made for this model, or -t neurons."
        )
    return replace(_moved(found, lambda tensor: tensor.to(model.device, model.dtype)), name=str(name))


def shipped_transcoders() -> list[str]:
    """The names of the sets that come with the package."""
    names = []
    for config in sorted(SHIPPED.glob("*/*/config.yaml")):
        owner, kind = config.parent.parent.name, config.parent.name
        names.append(owner if kind == "per-layer" else f"{owner}/{kind}")
    return names


def _folder(name: str) -> Path | None:
    if name in shipped_transcoders():
        return SHIPPED / (name if "/" in name else f"{name}/per-layer")
    return Path(name) if Path(name).is_dir() else None


def _moved(found: Transcoders, move: Callable[[Tensor], Tensor]) -> Transcoders:
    names = ("W_enc", "b_enc", "threshold", "W_dec", "b_dec")
    moved = {name: [move(tensor) for tensor in getattr(found, name)] for name in names}
    skip = None if found.W_skip is None else [move(tensor) for tensor in found.W_skip]
    return replace(found, **moved, W_skip=skip)
