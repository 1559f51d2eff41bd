"""circuit-tracer's lists of files kept elsewhere: a `config.yaml` whose `transcoders` are hf:// addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from circuits.errors import DamagedTranscoders, UnknownTranscoders
from circuits.formats.files import READS, WRITES, Stored, find_site, read_config
from circuits.formats.layer_files import (
    read_circuit_tracer_layer,
    read_gemma_scope_2_layer,
    read_gemma_scope_layer,
)
from circuits.formats.layers import Layer, join_layers
from circuits.hub.choosing import split_address
from circuits.hub.fetching import cached_file
from circuits.transcoders.transcoders import Transcoders


def recognises(folder: Path) -> bool:
    """Whether the folder looks like this layout."""
    config = folder / "config.yaml"
    return config.is_file() and "transcoders" in read_config(config)


def load(folder: Path) -> Transcoders:
    """The layers in the order of the list, or as `layer` says in lists from before July 2025.

    A file is looked for at ORG/REPO/PATH beside the folder or above it, then in the cache of the Hub. How each is read
    goes by its tensors, not by its address.
    """
    path = folder / "config.yaml"
    config = read_config(path)
    reads = find_site(config, "feature_input_hook", READS, path)
    writes = find_site(config, "feature_output_hook", WRITES, path)
    layers = []
    for number, address in _listed(path, config):
        stored = _find(address, folder)
        layers.append(replace(_reader(stored)(stored, number, reads, writes), path=stored.path))
    return join_layers(folder, layers)


def read_addresses(folder: Path) -> list[tuple[str, str, str | None]]:
    """What a folder's config.yaml lists on the Hub: repository, file and revision of each, None for the newest."""
    path = folder / "config.yaml"
    return [_split(address, folder) for _, address in _listed(path, read_config(path))]


def _listed(path: Path, config: dict) -> Iterator[tuple[int, str]]:
    """Layer and address of every entry."""
    listed = config.get("transcoders")
    if not isinstance(listed, list) or not listed:
        raise DamagedTranscoders(f"{path}: transcoders should be a list of addresses, found {type(listed).__name__}.")
    for place, entry in enumerate(listed):
        number, address = (entry.get("layer"), entry.get("filepath")) if isinstance(entry, dict) else (place, entry)
        if not isinstance(number, int) or not isinstance(address, str):
            raise DamagedTranscoders(f"{path}: transcoders[{place}] should be an address or hold layer and filepath.")
        yield number, address


def _reader(stored: Stored) -> Callable[[Stored, int, str, str], Layer]:
    if "w_enc" in stored.shapes:
        return read_gemma_scope_2_layer
    return read_gemma_scope_layer if stored.path.suffix == ".npz" else read_circuit_tracer_layer


def _split(address: str, folder: Path) -> tuple[str, str, str | None]:
    found = split_address(address)
    if found is None:
        raise DamagedTranscoders(f"{folder}: an address should be hf://ORG/REPO/FILE, found {address!r}.")
    return found


def _find(address: str, folder: Path) -> Stored:
    repository, file, revision = _split(address, folder)
    for place in folder.resolve().parents:
        if (place / repository / file).exists():
            return Stored(place / repository / file, place / repository)
    try:
        cached = cached_file(repository, file, revision)
    except ValueError as reason:
        raise DamagedTranscoders(f"{folder}: {address!r} is no address of the Hub: {reason}") from reason
    if cached is not None:
        return Stored(*cached)
    raise UnknownTranscoders(
        f"{folder} lists {address}, which is neither beside it ({repository}/{file}) nor in the Hub's cache: fetch it "
        f"with `hf download {repository} {file}`, or all of the list with `circuits transcoders get`."
    )
