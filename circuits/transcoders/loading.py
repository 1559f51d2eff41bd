"""From a name to a dictionary that fits the model: shipped, a folder, or the model's own neurons."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from circuits.errors import BadOption, UnfitTranscoders, UnknownTranscoders
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
    if not isinstance(model, Model):
        raise BadOption(f"transcoders are loaded for a model: give what `load_model` returns, found {model!r}.")
    if not isinstance(name, str | Path):
        raise UnknownTranscoders(f"transcoders are named by a shipped name, a folder or 'neurons', found {name!r}.")
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
    # A graph keeps the name: whoever reads it may stand in another folder.
    called = str(name) if str(name) in shipped_transcoders() else os.path.abspath(folder)
    return replace(_moved(found, lambda tensor: tensor.to(model.device, model.dtype)), name=called)


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
    return Path(name) if name and Path(name).is_dir() else None


def _moved(found: Transcoders, move: Callable[[Tensor], Tensor]) -> Transcoders:
    names = ("W_enc", "b_enc", "threshold", "W_dec", "b_dec")
    moved = {name: [move(tensor) for tensor in getattr(found, name)] for name in names}
    skip = None if found.W_skip is None else [move(tensor) for tensor in found.W_skip]
    return replace(found, **moved, W_skip=skip)
