"""Reading the files of a dictionary: tensors checked against what is wanted, hashed as they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from circuits.errors import DamagedTranscoders

# Hook names of published configurations -> our sites (`circuits.model.SITES`). FORMATS.md 3.2 has the proof of each.
READS = {
    "mlp.hook_in": "mlp_input",
    "ln2.hook_normalized": "mlp_normalised",
    "hook_resid_mid": "residual_mid",
}
WRITES = {"hook_mlp_out": "mlp_output", "mlp.hook_out": "mlp_raw"}


def read_config(path: Path) -> dict[str, Any]:
    """A YAML or JSON configuration as a dictionary."""
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as reason:
        raise DamagedTranscoders(f"{path} cannot be read: {str(reason).splitlines()[0]}") from reason
    if not isinstance(config, dict):
        raise DamagedTranscoders(f"{path} should hold settings (name: value), found {type(config).__name__}.")
    return config


def find_site(config: dict[str, Any], key: str, known: dict[str, str], path: Path) -> str:
    """The site that a configuration's hook name means."""
    hook = config.get(key)
    if hook not in known:
        raise DamagedTranscoders(f"{path}: {key} should be one of {', '.join(known)}, found {hook!r}.")
    return known[hook]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file, in float32, all finite."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as reason:
        raise DamagedTranscoders(f"{path} is no whole safetensors file ({reason}): fetch it again.") from reason
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise DamagedTranscoders(f"{path}: {name} should hold floating point numbers, found {tensor.dtype}.")
        tensors[name] = tensor.float()
        if not torch.isfinite(tensors[name]).all():
            raise DamagedTranscoders(f"{path}: {name} holds a NaN or an infinity: the file is damaged.")
    return tensors


def check_shapes(path: Path, tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    """Complain about a tensor that is missing, misshapen, or there without a use."""
    for name, shape in shapes.items():
        if name not in tensors:
            raise DamagedTranscoders(f"{path} should hold {name}; it holds {', '.join(tensors)}.")
        if tuple(tensors[name].shape) != shape:
            raise DamagedTranscoders(f"{path}: {name} should be {shape}, found {tuple(tensors[name].shape)}.")
    unused = sorted(set(tensors) - set(shapes))
    if unused:
        raise DamagedTranscoders(
            f"{path} holds {', '.join(unused)}, which this layout does not know: refusing to guess."
        )


def read_notes(folder: Path) -> dict[str, dict[str, Any]]:
    """What `labels.json` says of each unit, nothing where there is no such file."""
    path = folder / "labels.json"
    if not path.exists():
        return {}
    try:
        notes = json.loads(path.read_text())
    except (OSError, ValueError) as reason:
        raise DamagedTranscoders(f"{path} is no JSON ({reason}): delete it to go on without labels.") from reason
    if not isinstance(notes, dict):
        raise DamagedTranscoders(f"{path} should map 'layer/feature' to what is known of it.")
    return notes


def hash_files(paths: Iterable[Path]) -> str:
    """Twelve hex digits that change when any of these files does."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def number_layers(folder: Path, pattern: str) -> list[Path]:
    """The files `pattern` with {} for 0, 1, 2 …, none missing in between."""
    found: dict[int, Path] = {}
    before, after = pattern.split("{}")
    for path in folder.glob(pattern.replace("{}", "*")):
        number = path.name.removeprefix(before).removesuffix(after)
        if number.isdigit():
            found[int(number)] = path
    missing = sorted(set(range(max(found, default=-1) + 1)) - set(found))
    if missing:
        raise DamagedTranscoders(f"{folder} lacks {', '.join(pattern.format(layer) for layer in missing)}: fetch them.")
    return [found[layer] for layer in sorted(found)]
