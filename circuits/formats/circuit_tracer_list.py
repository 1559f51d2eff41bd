"""circuit-tracer's lists of files kept elsewhere: a `config.yaml` whose `transcoders` are hf:// addresses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, urlsplit

from circuits.errors import DamagedTranscoders, UnknownTranscoders
from circuits.formats.files import READS, WRITES, Stored, find_site, read_config
from circuits.formats.layer_files import (
    read_circuit_tracer_layer,
    read_gemma_scope_2_layer,
    read_gemma_scope_layer,
)
from circuits.formats.layers import Layer, join_layers
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
    listed = config["transcoders"]
    if not isinstance(listed, list) or not listed:
        raise DamagedTranscoders(f"{path}: transcoders should be a list of addresses, found {type(listed).__name__}.")
    layers = []
    for place, entry in enumerate(listed):
        number, address = (entry.get("layer"), entry.get("filepath")) if isinstance(entry, dict) else (place, entry)
        if not isinstance(number, int) or not isinstance(address, str):
            raise DamagedTranscoders(f"{path}: transcoders[{place}] should be an address or hold layer and filepath.")
        stored = _find(address, folder)
        layers.append(replace(_reader(stored)(stored, number, reads, writes), path=stored.path))
    return join_layers(folder, layers)


def _reader(stored: Stored) -> Callable[[Stored, int, str, str], Layer]:
    if "w_enc" in stored.shapes:
        return read_gemma_scope_2_layer
    return read_gemma_scope_layer if stored.path.suffix == ".npz" else read_circuit_tracer_layer


def _find(address: str, folder: Path) -> Stored:
    url = urlsplit(address)
    parts = PurePosixPath(url.netloc + url.path).parts
    if url.scheme != "hf" or len(parts) < 3 or ".." in parts:
        raise DamagedTranscoders(f"{folder}: an address should be hf://ORG/REPO/FILE, found {address!r}.")
    repository, file = "/".join(parts[:2]), "/".join(parts[2:])
    for place in folder.resolve().parents:
        if (place / repository / file).exists():
            return Stored(place / repository / file, place / repository)
    from huggingface_hub import try_to_load_from_cache

    revision = parse_qs(url.query).get("revision", [None])[0]
    try:
        cached = try_to_load_from_cache(repository, file, revision=revision)
    except ValueError as reason:
        raise DamagedTranscoders(f"{folder}: {address!r} is no address of the Hub: {reason}") from reason
    if isinstance(cached, str):
        return Stored(Path(cached), Path(cached).parents[len(parts) - 3])
    raise UnknownTranscoders(
        f"{folder} lists {address}, which is neither beside it ({repository}/{file}) nor in the Hub's cache: fetch it "
        f"with `hf download {repository} {file}`."
    )
