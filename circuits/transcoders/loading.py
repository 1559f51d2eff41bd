"""From a name to a dictionary that fits the model: shipped, a folder, on the Hub, or the model's own neurons."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch

from circuits.errors import BadOption, NotFetched, UnfitTranscoders, UnknownTranscoders
from circuits.formats import IN_MEMORY, load
from circuits.formats.files import UNSTATED
from circuits.hub import Progress, fetch_transcoders, read_address
from circuits.model import Model
from circuits.published import shipped_folder, shipped_transcoders
from circuits.transcoders.base import Dictionary
from circuits.transcoders.fit import READS, WRITES, check_fit, find_sites
from circuits.transcoders.neurons import RULES, Neurons
from circuits.transcoders.stepped import SteppedTranscoders
from circuits.transcoders.transcoders import Transcoders


def load_transcoders(
    name: str | Path, model: Model, *, force: bool = False, progress: Progress | None = None
) -> Dictionary:
    """The dictionary called `name`, on the model's device and in its dtype, measured on some text.

    name: "neurons" or "neurons/RULE" (see `Neurons`), a shipped set ("world", "world/cross-layer"), a folder in a
        published layout, or an address on the Hub: ORG/NAME, /FOLDER and @REVISION behind it where it needs them. What
        is in the Hub's cache is taken as it is, what is not is fetched: see `circuits.hub`. "@SITE" behind a name says
        where the set reads or writes, whatever its files say: mlp_input, mlp_normalised or residual_mid, mlp_output or
        mlp_raw.
    force: use it though it does not fit. progress: told the bytes that are fetched.

    A set of more than 2^29 numbers stays in its files; what is needed of it is read when it is needed.

    Raises:
        UnknownTranscoders: nothing by that name, or it cannot be fetched.
        DamagedTranscoders: a file is not what it should be.
        UnfitTranscoders: the set has other layers or another width than the model, is no transcoder of MLPs, or misses
            what its MLPs put out (see `check_fit`).
    """
    if not isinstance(model, Model):
        raise BadOption(f"transcoders are loaded for a model: give what `load_model` returns, found {model!r}.")
    if not isinstance(name, str | Path):
        raise UnknownTranscoders(f"transcoders are named by a shipped name, a folder or 'neurons', found {name!r}.")
    if str(name).partition("/")[0] == "neurons" and not Path(name).is_dir():
        return Neurons(model, rule=str(name).partition("/")[2] or RULES[0])
    plain, reads, writes = _sites(str(name))
    folder = _folder(plain)
    # A graph keeps the name: whoever reads it may stand in another folder.
    local = folder is not None and plain not in shipped_transcoders()
    called = f"{os.path.abspath(plain)}{str(name)[len(plain) :]}" if local else str(name)
    found = load(folder or _fetched(plain, progress))
    found = replace(found, name=called, reads=reads or found.reads, writes=writes or found.writes)
    _check_kind(found)
    _check_sizes(found, model)
    found = found.to(model.device, model.dtype, whole=found.size <= IN_MEMORY)
    if UNSTATED in (found.reads, found.writes):
        raise UnfitTranscoders(_unstated(found, model))
    # A set that is shipped with its model was measured when it was made: the model card says how it fits.
    shipped = plain in shipped_transcoders() and plain.partition("/")[0] == model.name and plain == str(name)
    if not force and not shipped:
        check_fit(model, found)
    return found


def _folder(name: str) -> Path | None:
    if name in shipped_transcoders():
        return shipped_folder(name)
    if not name:
        return None
    folder = Path(name)
    # transcoder_all/width_16k_l0_small: a part of a folder's name, one folder a layer.
    return folder if folder.is_dir() or any(folder.parent.glob(f"layer_*_{folder.name}")) else None


def _fetched(name: str, progress: Progress | None) -> Path:
    """The folder of a set on the Hub, in its cache on this machine."""
    wanted = (
        f"there are no transcoders {name!r}: give a shipped set ({', '.join(shipped_transcoders())}), a folder that "
        "holds a set, one on the Hub (`circuits transcoders` lists some), or 'neurons' for the model's own neurons."
    )
    address = read_address(name)
    if address is None or "/" not in address.repository or os.path.exists(name):
        raise UnknownTranscoders(wanted)
    try:
        return fetch_transcoders(name, progress=progress).folder
    except NotFetched as reason:
        raise UnknownTranscoders(f"{wanted} On the Hub: {reason}") from reason


def _sites(name: str) -> tuple[str, str | None, str | None]:
    """A name without its sites, where it reads, where it writes; None where it does not say."""
    reads = writes = None
    while True:
        plain, _, site = name.rpartition("@")
        if site in READS and reads is None:
            name, reads = plain, site
        elif site in WRITES and writes is None:
            name, writes = plain, site
        else:
            return name, reads, writes


def _check_kind(found: Transcoders) -> None:
    if found.reads == found.writes and found.reads != UNSTATED:
        raise UnfitTranscoders(
            f"{found.name} is an autoencoder of {found.reads}: it rebuilds a tensor from itself, and says nothing of "
            "how an MLP makes it. Give transcoders, or 'neurons'."
        )
    if isinstance(found, SteppedTranscoders):
        raise UnfitTranscoders(
            f"{found.name} can be read, but not traced: its features write a step besides a multiple of their "
            "activation, and a graph's edges are multiples. Give another set, or 'neurons'."
        )


def _check_sizes(found: Transcoders, model: Model) -> None:
    if model.family.mlp == "none":
        raise UnfitTranscoders(
            f"{model.name} is attention alone: there are no MLPs that {found.name} could stand in for. Give 'neurons': "
            "there are none, and tokens, heads and biases remain."
        )
    if found.numbers is not None:
        missing = sorted(set(range(model.layers)) - set(found.numbers))
        raise UnfitTranscoders(
            f"{found.name} holds layers {', '.join(map(str, found.numbers))}; {model.name} has {model.layers}: missing "
            f"{', '.join(map(str, missing))}. Fetch them, or give 'neurons'."
        )
    if (found.layers, found.d_model) != (model.layers, model.d_model):
        raise UnfitTranscoders(
            f"{model.name} has {model.layers} layers of width {model.d_model}, but {found.name} is for {found.layers} "
            f"layers of width {found.d_model}: give the set made for this model, or -t neurons."
        )


@torch.no_grad()
def _unstated(found: Transcoders, model: Model) -> str:
    best = find_sites(model, found)[0]
    name = f"{found.name}@{best.reads}@{best.writes}"
    return (
        f"the files of {found.name} do not say which tensors it reads and writes. On {model.name} it fits best at "
        f"{best.reads} and {best.writes} ({best}): if that is right, give it as {name}."
    )
