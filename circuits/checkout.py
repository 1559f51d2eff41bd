"""What lies beside this package in a checkout and is not installed with it: benchmarks, imported when asked for."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from circuits.errors import BadOption


def from_checkout(module: str) -> ModuleType:
    """A module of `benchmarks`.

    Raises:
        BadOption: the package was installed without it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name is None or not f"{module}.".startswith(f"{missing.name}."):
            raise
        raise BadOption(
            f"{module} is not installed: tasks and benchmarks come with the repository, not with the package. Clone "
            "it, install it from there (pip install -e .), and run the command in that folder."
        ) from missing
