"""Reading the files of a dictionary: nothing outside its folder, nothing that runs, tensors checked against what is
wanted."""

from __future__ import annotations

import gzip
import hashlib
import json
import pickle
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import safe_open
from torch import Tensor

from circuits.errors import DamagedTranscoders

# Hook names of published configurations -> our sites (`circuits.sites.SITES`). FORMATS.md 3.2 has the proof of each.
READS = {
    "mlp.hook_in": "mlp_input",
    "ln2.hook_out": "mlp_input",
    "pre_feedforward_layernorm.output": "mlp_input",
    "mlp": "mlp_input",  # the module itself: its input
    "ln2.hook_normalized": "mlp_normalised",
    "hook_resid_mid": "residual_mid",
}
WRITES = {
    "hook_mlp_out": "mlp_output",
    "post_feedforward_layernorm.output": "mlp_output",
    "mlp.hook_out": "mlp_raw",
    "mlp": "mlp_raw",  # its output
}
# What an autoencoder reads and rebuilds.
REBUILDS = {
    "hook_resid_pre": "residual_before",
    "hook_resid_mid": "residual_mid",
    "hook_resid_post": "residual_after",
    "hook_mlp_out": "mlp_output",
    "mlp.hook_out": "mlp_raw",
    "hook_attn_out": "attention_output",
    "attn.hook_z": "mixed",
}
UNSTATED = "not stated"

SAMPLED = 2**26  # files of more bytes are hashed by samples
LABELS = 2**30  # bytes of notes on units that are read, at most
_PLACE = re.compile(r"(?:[\w.]+\.)?(?:blocks|layers|h)\.(\d+|\{\w+\})\.")


# -- configurations ---------------------------------------------------------------------------------------------------


def read_config(path: Path) -> dict[str, Any]:
    """A YAML or JSON configuration as a dictionary."""
    try:
        text = path.read_text(encoding="utf-8")
        config = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as reason:
        raise DamagedTranscoders(
            f"{path} should hold settings in {'JSON' if path.suffix == '.json' else 'YAML'}, and cannot be read as such"
            f"{_line_of(reason)}: {_problem(reason)}. Fetch it again, or mend it."
        ) from reason
    except OSError as reason:
        raise DamagedTranscoders(f"{path} cannot be read: {reason.strerror or reason}.") from reason
    if not isinstance(config, dict):
        raise DamagedTranscoders(f"{path} should hold settings (name: value), found {type(config).__name__}.")
    return config


def _line_of(reason: Exception) -> str:
    """Where a file of settings goes wrong, if the parser knows."""
    mark = getattr(reason, "problem_mark", None)
    line = mark.line + 1 if mark is not None else getattr(reason, "lineno", None)
    return "" if line is None else f" at line {line}"


def _problem(reason: Exception) -> str:
    """What is wrong there: of a YAML parser's words not the first, which say what it was doing."""
    said = getattr(reason, "problem", None) or getattr(reason, "msg", None) or str(reason) or type(reason).__name__
    return str(said).splitlines()[0]


def find_site(config: Mapping[str, Any], key: str, known: Mapping[str, str], path: Path) -> str:
    """The site that a configuration's hook name means."""
    hook = config.get(key)
    name = _PLACE.sub("", hook, count=1) if isinstance(hook, str) else ""
    if name not in known:
        raise DamagedTranscoders(f"{path}: {key} should be one of {', '.join(known)}, found {hook!r}.")
    return known[name]


def find_layer(hook: Any, path: Path) -> int:
    """The layer that a hook name such as `blocks.3.hook_mlp_out` speaks of."""
    found = re.search(r"(?:^|[._/])(?:blocks|layers?|h)[._]?(\d{1,4})(?!\d)", str(hook))
    if found is None:
        raise DamagedTranscoders(f"{path}: {hook!r} should name a layer, as blocks.3.hook_mlp_out does.")
    return int(found[1])


def check_agreement(path: Path, config: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Complain where a configuration says something else than its tensors; what it does not say is no matter."""
    for key, value in found.items():
        if config.get(key) is not None and config[key] != value:
            raise DamagedTranscoders(
                f"{path} says {key} {config[key]!r}, but its tensors have {value!r}: they do not belong together."
            )


def check_arithmetic(path: Path, config: Mapping[str, Any], known: Mapping[str, Iterable[Any]]) -> None:
    """Complain about a setting that would change the numbers in a way that is not known here."""
    for key, values in known.items():
        values = list(values)
        if key in config and not any(config[key] is value or config[key] == value for value in values):
            raise DamagedTranscoders(
                f"{path}: {key} {config[key]!r} is not known; {', '.join(map(repr, values))} would be. "
                "Refusing to compute something else than its authors did."
            )


def whole_number(path: Path, config: Mapping[str, Any], key: str, most: int) -> int:
    """A setting from 1 to `most`."""
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise DamagedTranscoders(f"{path}: {key} should be a whole number from 1 to {most}, found {value!r}.")
    return value


# -- which files ------------------------------------------------------------------------------------------------------


def files_by_layer(folder: Path, pattern: str) -> dict[int, Path]:
    """The files `pattern` with a number for {}, by their numbers."""
    found: dict[int, Path] = {}
    before, after = pattern.split("{}")
    for path in folder.glob(pattern.replace("{}", "*")):
        number = path.name.removeprefix(before).removesuffix(after)
        if number.isdecimal() and number.isascii():
            found[int(number)] = path
    return dict(sorted(found.items()))


def number_layers(folder: Path, pattern: str) -> list[Path]:
    """The files `pattern` with {} for 0, 1, 2 …, none missing in between."""
    found = files_by_layer(folder, pattern)
    most = max(found, default=-1)
    missing = [layer for layer in range(min(most + 1, 10_000)) if layer not in found]
    if missing:
        names = ", ".join(pattern.format(layer) for layer in missing[:8]) + (" …" if len(missing) > 8 else "")
        raise DamagedTranscoders(f"{folder} lacks {names}: fetch them.")
    return list(found.values())


def folders_with(folder: Path, *names: str) -> list[Path]:
    """The folder itself if it holds all these files, else those of its own folders that do."""
    if all((folder / name).is_file() for name in names):
        return [folder]
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if all((path / name).is_file() for name in names))


def check_inside(path: Path, folder: Path) -> Path:
    """The path, if it leads to a file within the folder, or to a Hub cache's own stores.

    Raises:
        DamagedTranscoders: a link that leads elsewhere, or nowhere.
    """
    allowed = [folder.resolve()]
    # The Hub's cache: models--org--name/snapshots/<commit>/name -> models--org--name/blobs/<hash>, which may be a link
    # itself, to blobs/ beside all models, where files are that several of them share.
    if "snapshots" in allowed[0].parts:
        at = len(allowed[0].parts) - 1 - allowed[0].parts[::-1].index("snapshots")
        own = Path(*allowed[0].parts[:at])
        allowed += [own / "blobs", *([own.parent / "blobs"] if own.name.startswith("models--") else [])]
    real = path.resolve()
    if not any(real.is_relative_to(place) for place in allowed):
        raise DamagedTranscoders(
            f"{path} is a link to {real}, outside the set's folder {folder}: put the file itself there."
        )
    if not real.is_file():
        raise DamagedTranscoders(f"{path} leads to no file: fetch it again.")
    return path


def hash_files(paths: Iterable[Path]) -> str:
    """Twelve hex digits that change when any of these files does; of a file over 64 MiB, 64 samples are looked at."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode())
        size = path.stat().st_size
        if size <= SAMPLED:
            digest.update(path.read_bytes())
            continue
        digest.update(str(size).encode())
        with path.open("rb") as file:
            for i in range(64):
                file.seek(i * (size - 2**16) // 63)
                digest.update(file.read(2**16))
    return digest.hexdigest()[:12]


def read_notes(folder: Path) -> dict[str, dict[str, Any]]:
    """What is known of each unit, from `labels.json.gz` and `labels.json`; nothing where there is neither.

    The second, which somebody may have written, goes before the first, which was counted: name by name.
    """
    notes: dict[str, dict[str, Any]] = {}
    for path in (folder / "labels.json.gz", folder / "labels.json"):
        if path.exists():
            for unit, note in _read_labels(check_inside(path, folder)).items():
                notes[unit] = {**notes.get(unit, {}), **note}
    return notes


def _read_labels(path: Path) -> dict[str, dict[str, Any]]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LABELS + 1)
        if len(content) > LABELS:
            raise ValueError(f"it holds more than {LABELS >> 30} GiB")
        notes = json.loads(content)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as reason:
        raise DamagedTranscoders(f"{path} is no JSON ({reason}): delete it to go on without labels.") from reason
    if not isinstance(notes, dict) or not all(isinstance(note, dict) for note in notes.values()):
        raise DamagedTranscoders(f"{path} should map 'layer/feature' to what is known of it.")
    return notes


# -- tensors ----------------------------------------------------------------------------------------------------------


class Stored:
    """The tensors of one file. Small ones are read at once; large ones are opened, as memory maps, when they are used.

    inert: classes that a pickle may name. Each is replaced by an empty one; any other name is refused. Nothing runs.
    within: where the tensors are in a pickle that holds other things too. masks: tensors that hold truth values.
    """

    def __init__(
        self, path: Path, folder: Path, *, inert: Sequence[str] = (), within: str = "", masks: Sequence[str] = ()
    ) -> None:
        self.path = check_inside(path, folder)
        self._inert, self._within = inert, within
        tensors = self._open()
        for name, tensor in tensors.items():
            if tensor.ndim and not tensor.is_floating_point() and name not in masks:
                raise DamagedTranscoders(f"{path}: {name} should hold floating point numbers, found {tensor.dtype}.")
        self.shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}

    def matrix(self, name: str, axes: str = "2 axes") -> tuple[int, int]:
        """The shape of a matrix that must be there."""
        shape = self.shapes.get(name)
        if shape is None or len(shape) != 2 or 0 in shape:
            raise DamagedTranscoders(f"{self.path} should hold {name} [{axes}], found {self._found(name)}.")
        return shape[0], shape[1]

    def expect(self, shapes: Mapping[str, tuple[int, ...]], optional: Mapping[str, tuple[int, ...]] | None = None):
        """Complain about a tensor that is missing, misshapen, or there without a use."""
        optional = {name: shape for name, shape in (optional or {}).items() if name in self.shapes}
        for name, shape in {**shapes, **optional}.items():
            if name not in self.shapes:
                raise DamagedTranscoders(f"{self.path} should hold {name}; it holds {', '.join(self.shapes)}.")
            found = self.shapes[name]
            if found != shape:
                turned = " Is it the wrong way round?" if found == shape[::-1] else ""
                raise DamagedTranscoders(f"{self.path}: {name} should be {shape}, found {found}.{turned}")
        unused = sorted(set(self.shapes) - set(shapes) - set(optional))
        if unused:
            raise DamagedTranscoders(
                f"{self.path} holds {', '.join(unused)}, which this layout does not know: refusing to guess."
            )

    def small(self, name: str) -> Tensor:
        """A tensor in float32, all finite."""
        tensor = self._open()[name].float()
        if not torch.isfinite(tensor).all():
            raise DamagedTranscoders(f"{self.path}: {name} holds a NaN or an infinity: the file is damaged.")
        return tensor.clone()

    def large(self, name: str, *, turned: bool = False) -> Callable[[], Tensor]:
        """What opens a tensor in the file's own dtype; `turned` swaps the axes of a matrix."""
        return lambda: self._open(name)[name].T if turned else self._open(name)[name]

    def _found(self, name: str) -> str:
        return f"{self.shapes[name]}" if name in self.shapes else ", ".join(self.shapes) or "nothing"

    def _open(self, only: str | None = None) -> dict[str, Tensor]:
        try:
            if self.path.suffix == ".safetensors":
                with safe_open(self.path, "pt") as file:
                    names = file.keys() if only is None else [only]
                    return {name: file.get_tensor(name) for name in names}
            if self.path.suffix == ".npz":
                return _open_npz(self.path)
            return self._open_pickle()
        except DamagedTranscoders:
            raise
        except Exception as reason:  # zipfile, zlib, numpy, safetensors and torch raise whatever they stumble over
            kind = self.path.suffix.removeprefix(".")
            first_line = str(reason).partition("\n")[0] or type(reason).__name__
            raise DamagedTranscoders(f"{self.path} is no whole {kind} file ({first_line}): fetch it again.") from reason

    def _open_pickle(self) -> dict[str, Tensor]:
        stand_ins: list[Any] = [(type(name.rpartition(".")[2], (), {}), name) for name in self._inert]
        try:
            if not zipfile.is_zipfile(self.path):
                raise ValueError("it is no zip archive, which torch has written since 2020")
            with torch.serialization.safe_globals(stand_ins):
                found = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as reason:
            named = re.search(r"(?:GLOBAL|Unsupported global:|Unsupported class|function)\s+(\S+)", str(reason))
            what = f"{named[1]} " if named else ""
            raise DamagedTranscoders(
                f"{self.path} asks to run {what}when it is opened, and tensors need no such thing. Nothing was run; do "
                "not open it with another program."
            ) from None
        if self._within:
            found = found.get(self._within) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            wanted = f"a dictionary of tensors{f' under {self._within!r}' if self._within else ''}"
            raise ValueError(f"{wanted} is wanted, found {type(found).__name__}")
        return {str(name): tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}


def _open_npz(path: Path) -> dict[str, Tensor]:
    """The arrays of an .npz file, mapped where they lie uncompressed in it, as `numpy.savez` leaves them."""
    found = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if member.compress_type != zipfile.ZIP_STORED:
                with np.load(path, allow_pickle=False) as arrays:
                    found[name] = torch.from_numpy(arrays[name])
                continue
            file.seek(member.header_offset + 26)
            lengths = np.frombuffer(file.read(4), "<u2")
            file.seek(member.header_offset + 30 + int(lengths.sum()))
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, turned, dtype = read(file)
            if dtype.hasobject or dtype.byteorder == ">":
                raise ValueError(f"{name} holds {dtype}, numbers are wanted")
            order = "F" if turned else "C"
            # Copy on write, though nobody writes: torch warns of arrays that cannot be written.
            array = np.memmap(path, dtype, "c", file.tell(), shape, order) if 0 not in shape else np.empty(shape, dtype)
            found[name] = torch.from_numpy(np.asarray(array))
    return found
