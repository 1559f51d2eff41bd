"""Where to compute: one device, or several that a model is spread over."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from circuits.errors import BadOption

BALANCED = "balanced"  # transformers' word for: on all GPUs, each as much
Spread = str | dict[str, str]


def find_place(device: object) -> torch.device | Spread:
    """What `load_model` is asked: a device by its name, else what goes where.

    Raises:
        BadOption: see `find_device` and `find_spread`.
    """
    return find_device(device) if isinstance(device, str) and device != BALANCED else find_spread(device)


def find_device(name: str) -> torch.device:
    """The device called `name`; "auto" is a GPU where there is one, else the CPU.

    Raises:
        BadOption: torch knows no such device, or this machine has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(str(name))
    except RuntimeError:
        raise BadOption(f"torch knows no device {name!r}: auto, cpu, cuda or cuda:1 are wanted.") from None
    try:
        (torch.ones(2, device=device) + 1).sum().item()  # "meta" makes tensors, and has no numbers to give back
    except Exception as reason:
        short = (str(reason).strip() or type(reason).__name__).splitlines()[0].split(". ")[0]
        raise BadOption(f"device {name!r} cannot be used here ({short[:100]}): try auto or cpu.") from None
    return device


def find_spread(device: object) -> Spread:
    """What goes where, as transformers takes it; every place can be computed on, and all are of one kind.

    Raises:
        BadOption: no GPU to balance over, no mapping, or devices of several kinds.
    """
    if device == BALANCED:
        if not torch.cuda.is_available():
            raise BadOption("balanced spreads a model over the GPUs of this machine, and it has none: try auto or cpu.")
        return BALANCED
    if not isinstance(device, Mapping) or not device:
        raise BadOption(f"a device is named by text, or a mapping says which module goes where; found {device!r}.")
    found = {str(module): find_device(place) for module, place in device.items()}
    if len({place.type for place in found.values()}) > 1:
        raise BadOption(
            "weights that wait on the CPU while a GPU computes would be copied at every step: name devices of one kind."
        )
    return {module: str(place) for module, place in found.items()}
