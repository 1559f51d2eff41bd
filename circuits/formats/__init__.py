"""FORMATS: published layouts of feature dictionaries, one file each: `recognises(folder)`, `load(folder)`.

ATTENTION: the same for layouts of sets that stand in for attention.
"""

from __future__ import annotations

from pathlib import Path

import torch

from circuits.errors import DamagedTranscoders, UnknownTranscoders
from circuits.formats import (
    circuit_tracer_bare,
    circuit_tracer_clt,
    circuit_tracer_list,
    circuit_tracer_plt,
    circuit_tracer_sweep,
    clt_training,
    dictionary_learning,
    dunefsky,
    gemma_scope,
    gemma_scope_2,
    gemma_scope_2_clt,
    goodfire,
    llama_scope_1,
    llama_scope_2,
    llama_scope_2_lorsa,
    qwen_scope,
    saelens,
    sparsify,
)
from circuits.transcoders.lorsa import Lorsa
from circuits.transcoders.transcoders import Transcoders

FORMATS = {
    "circuit-tracer per-layer": circuit_tracer_plt,
    "circuit-tracer per-layer, list": circuit_tracer_list,
    "circuit-tracer per-layer, first": circuit_tracer_bare,
    "circuit-tracer cross-layer": circuit_tracer_clt,
    "circuit-tracer cross-layer, by target": circuit_tracer_sweep,
    "Gemma Scope": gemma_scope,
    "Gemma Scope 2": gemma_scope_2,
    "Gemma Scope 2 cross-layer": gemma_scope_2_clt,
    "SAELens": saelens,
    "sparsify": sparsify,
    "clt-training": clt_training,
    "Dunefsky GPT-2": dunefsky,
    "Llama Scope 2": llama_scope_2,
    "Llama Scope 1": llama_scope_1,
    "Goodfire": goodfire,
    "Qwen Scope": qwen_scope,
    "dictionary_learning": dictionary_learning,
}

ATTENTION = {"Lorsa": llama_scope_2_lorsa}

IN_MEMORY = 2**29  # numbers; a set of more stays in its files


def recognise(folder: str | Path) -> str:
    """The name of the one layout that a folder is in.

    Raises:
        UnknownTranscoders: there is no such folder, or no layout recognises it. DamagedTranscoders: several do.
    """
    folder = Path(folder)
    found = [name for name, layout in FORMATS.items() if layout.recognises(folder)]
    if len(found) == 1:
        return found[0]
    if found:
        raise DamagedTranscoders(f"{folder} holds {len(found)} layouts ({'; '.join(found)}): keep one, move the other.")
    if not folder.is_dir():
        raise UnknownTranscoders(f"there is no folder {folder}: give one that holds a transcoder set.")
    known = "; ".join(FORMATS)
    names = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
    raise UnknownTranscoders(f"no layout recognises {folder} (it holds {names}). The layouts known: {known}.")


def load(folder: str | Path) -> Transcoders:
    """The dictionary in a folder of any known layout, on the CPU.

    In float32 and in memory where it is small; above 2^29 numbers its weights stay in their files, in their own dtype,
    and what is needed of them is read when it is needed.

    Raises:
        UnknownTranscoders: no such folder, or no layout recognises it.
        DamagedTranscoders: a file is not what it should be.
    """
    folder = Path(folder)
    found = FORMATS[recognise(folder)].load(folder)
    return found.to(torch.device("cpu"), torch.float32, whole=found.size <= IN_MEMORY)


def is_for_attention(folder: str | Path) -> bool:
    """Whether a folder holds a set in a layout of ATTENTION."""
    return any(layout.recognises(Path(folder)) for layout in ATTENTION.values())


def load_attention(folder: str | Path) -> Lorsa:
    """The set for attention in a folder of a layout in ATTENTION; otherwise as `load`.

    Raises:
        UnknownTranscoders: no such folder, or it holds no such set.
        DamagedTranscoders: a file is not what it should be.
    """
    folder = Path(folder)
    for layout in ATTENTION.values():
        if layout.recognises(folder):
            found = layout.load(folder)
            return found.to(torch.device("cpu"), torch.float32, whole=found.size <= IN_MEMORY)
    if not folder.is_dir():
        raise UnknownTranscoders(f"there is no folder {folder}: give one that holds a set for attention.")
    raise UnknownTranscoders(
        f"{folder} holds no set for attention ({', '.join(ATTENTION)}): give the `lorsa` folder of Llama Scope 2, say, "
        "or leave attention as it is."
    )
