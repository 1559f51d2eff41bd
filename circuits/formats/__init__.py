"""FORMATS: published layouts of feature dictionaries, one file each: `recognises(folder)`, `load(folder)`."""

from __future__ import annotations

from pathlib import Path

from circuits.errors import UnknownTranscoders
from circuits.formats import circuit_tracer_clt, circuit_tracer_plt
from circuits.transcoders.transcoders import Transcoders

FORMATS = {
    "circuit-tracer per-layer": circuit_tracer_plt,
    "circuit-tracer cross-layer": circuit_tracer_clt,
}


def load(folder: str | Path) -> Transcoders:
    """The dictionary in a folder of any known layout, in float32 on the CPU.

    Raises:
        UnknownTranscoders: no such folder, or no layout recognises it.
        DamagedTranscoders: a file is not what it should be.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UnknownTranscoders(f"there is no folder {folder}: give one that holds a transcoder set.")
    for layout in FORMATS.values():
        if layout.recognises(folder):
            return layout.load(folder)
    known = ", ".join(FORMATS)
    names = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
    raise UnknownTranscoders(f"no layout recognises {folder} (it holds {names}); the layouts known are {known}.")
