"""The files of a training: each is written whole or not at all, and says what is wrong when it cannot be read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from circuits.errors import BadRun
from graphs.errors import CannotWrite

GO_ON = "What was saved before is whole: make room, and go on with --resume."
NOTES = "notes"  # the key of a checkpoint's numbers among its metadata


def save_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """Tensors and numbers in one file, in place of the one that was there. Raises CannotWrite."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    replace_file(path, lambda new: save_file(plain, new, {NOTES: json.dumps(dict(notes))}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote. Raises BadRun."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()[NOTES])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as reason:
        raise BadRun(f"{path} is damaged ({reason}): remove its folder, and train again.") from reason


def save_json(path: Path, found: Mapping[str, Any]) -> None:
    """A record as JSON, in place of the one that was there. Raises CannotWrite."""
    text = json.dumps(dict(found), indent=1, ensure_ascii=False) + "\n"
    replace_file(path, lambda new: new.write_text(text, encoding="utf-8"))


def load_json(path: Path) -> dict[str, Any]:
    """What `save_json` wrote. Raises BadRun."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as reason:
        raise BadRun(f"{path} is damaged ({reason}): remove its folder, and train again.") from reason
    if not isinstance(found, dict):
        raise BadRun(f"{path} should hold settings (name: value), found {type(found).__name__}: remove its folder.")
    return found


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make the file beside its place, and put it there once it is on the disk.

    Raises:
        CannotWrite: the disk is full, or refuses. What was there is there still.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        write(new)
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    except (OSError, SafetensorError) as reason:
        why = getattr(reason, "strerror", None) or str(reason)
        raise CannotWrite(f"{path} could not be written: {why}. {GO_ON}") from reason
    finally:
        new.unlink(missing_ok=True)
