"""PyTorch's files read without PyTorch: what they hold as plain values and arrays. Nothing in a file is run."""

from __future__ import annotations

import math
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from graphs.errors import ForeignFile

MOST_STREAM = 2 * 2**20  # bytes of the pickle: its numbers lie elsewhere
MOST_DIRECTORY = 2**20  # bytes: a record takes about a hundred, and a graph has seven
LARGEST = 2**48  # numbers that the axes of an array may span
BLOCK = 2**26  # bytes of an array that are read at a time

# torch's names for what an array is made of. bfloat16 is read as the upper half of a float32.
STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


@dataclass(frozen=True)
class Name:
    """What a pickle calls by name: never looked up, only told apart."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, eq=False)
class Inert:
    """An object of a class that was admitted: its class's name, what it was made of, and its state."""

    kind: Name
    arguments: tuple
    state: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Stored:
    """An array in a file, not read yet."""

    archive: Archive
    key: str
    dtype: np.dtype
    is_bfloat16: bool
    offset: int
    shape: tuple[int, ...]

    def rows(self) -> Iterator[np.ndarray]:
        """The array some rows at a time. [row …]"""
        size = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        left = self.shape[0] if self.shape else 0
        with self.archive.open(self.key) as file:
            self.archive.read(file, self.offset * self.dtype.itemsize)
            while left:
                count = min(left, max(BLOCK // max(size, 1), 1))
                content = self.archive.read(file, count * size)
                if len(content) != count * size:
                    raise ForeignFile(f"{self.archive.path} is damaged: its array {self.key} ends early.")
                found = np.frombuffer(content, dtype=self.dtype).reshape(count, *self.shape[1:])
                yield (found.astype(np.uint32) << 16).view(np.float32) if self.is_bfloat16 else found
                left -= count

    def all(self) -> np.ndarray:
        """The whole array, a copy."""
        whole = [np.zeros((0, *self.shape[1:]), dtype=np.float32 if self.is_bfloat16 else self.dtype), *self.rows()]
        return np.concatenate(whole)


class Archive:
    """One file as `torch.save` writes it: a zip of a pickle and of its arrays, none of them compressed.

    Raises:
        ForeignFile: it is none, or one that cannot have been written so.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            _check_directory(path)
            self._zip = zipfile.ZipFile(path)
            names = [each.filename for each in self._zip.infolist()]
        except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, OverflowError) as error:
            raise ForeignFile(f"{path} is no file of PyTorch's that can be read: {error}.") from error
        found = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(found) != 1:
            raise ForeignFile(f"{path} is no file of PyTorch's: one data.pkl is wanted in it, found {len(found)}.")
        self._folder = found[0].removesuffix("data.pkl")
        order = f"{self._folder}byteorder"
        if order in names and self._read(order, 16) != b"little":
            raise ForeignFile(f"{path} was written by a machine of another byte order: write it on a common one.")

    def value(self, admitted: Mapping[Name, str]) -> Any:
        """What is in the file: values, `Stored` arrays, and `Inert` objects of the classes that are admitted.

        admitted: class -> "object" (made, then given a state), "tuple" (made of its arguments), or "number" (passed
            over, whatever it is made of).

        Raises:
            ForeignFile: the pickle holds anything else; the message names it.
        """
        return _Machine(self, admitted).run(self._read(f"{self._folder}data.pkl", MOST_STREAM))

    def open(self, key: str) -> Any:
        """A record opened for reading."""
        try:
            return self._zip.open(self._record(f"{self._folder}data/{key}"))
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError) as error:
            raise ForeignFile(f"{self.path} is damaged: {error}.") from error

    def read(self, file: Any, count: int) -> bytes:
        """So many bytes of a record, or what is left."""
        try:
            return file.read(count)
        except (zipfile.BadZipFile, EOFError, ValueError) as error:
            raise ForeignFile(f"{self.path} is damaged: {error}.") from error

    def size(self, key: str) -> int:
        """How many bytes a record holds."""
        return self._record(f"{self._folder}data/{key}").file_size

    def _record(self, name: str) -> zipfile.ZipInfo:
        try:
            found = self._zip.getinfo(name)
        except KeyError:
            raise ForeignFile(f"{self.path} is damaged: it has no record {name!r:.60}.") from None
        # Stored as they are, no record is longer than the file: nothing swells when it is read.
        if found.compress_type != zipfile.ZIP_STORED or found.file_size != found.compress_size:
            raise ForeignFile(
                f"{self.path}: its record {name!r:.60} is compressed, from {found.compress_size:,} bytes to "
                f"{found.file_size:,}. PyTorch compresses nothing; it is not read."
            )
        if found.file_size > self.path.stat().st_size:
            raise ForeignFile(f"{self.path}: its record {name!r:.60} is said to be longer than the file.")
        return found

    def _read(self, name: str, most: int) -> bytes:
        record = self._record(name)
        if record.file_size > most:
            raise ForeignFile(f"{self.path}: its record {name!r:.60} has {record.file_size:,} bytes, wanted {most:,}.")
        try:
            return self._zip.read(record)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError, EOFError) as error:
            raise ForeignFile(f"{self.path} is damaged: {error}.") from error


def _check_directory(path: Path) -> None:
    """A zip says at its end how long its directory is: one of millions of records is not even read."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(size - 2**16 - 2**10, 0))
        tail = file.read()
        at = tail.rfind(b"PK\5\6")
        if at < 0 or len(tail) < at + 22:
            raise zipfile.BadZipFile("it is no zip file; one of PyTorch before 1.6 must be saved anew")
        lengths = [struct.unpack("<L", tail[at + 12 : at + 16])[0] % (2**32 - 1)]
        pointer = tail[max(at - 20, 0) : at]
        if pointer[:4] == b"PK\6\7":  # of a file with numbers too large for the record above
            file.seek(min(struct.unpack("<Q", pointer[8:16])[0], size))
            lengths += [struct.unpack("<Q", each[40:48])[0] for each in (file.read(56), tail[at - 76 : at - 20])]
    if max(lengths) > MOST_DIRECTORY:
        raise zipfile.BadZipFile(f"its directory has {max(lengths):,} bytes")


class _Machine:
    """Reads a pickle's instructions and does the few that values need. It calls nothing that the file names."""

    def __init__(self, archive: Archive, admitted: Mapping[Name, str]) -> None:
        self._archive, self._admitted = archive, admitted
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: bytes) -> Any:
        """The value that the pickle stands for."""
        try:
            for code, argument, _ in pickletools.genops(BytesIO(stream)):
                if code.name == "STOP":
                    return self._stack.pop()
                self._do(code.name, argument)
        except ForeignFile:
            raise
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise self._refuse(f"its pickle makes no sense ({str(error)[:100] or type(error).__name__})") from error
        raise self._refuse("its pickle has no end")

    def _do(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            self._stack.append(argument)
        elif name in _TUPLES:
            self._stack[-_TUPLES[name] :] = [tuple(self._stack[-_TUPLES[name] :])]
        else:
            step = getattr(self, f"_on_{name.lower()}", None)
            if step is None:
                raise self._refuse(f"its pickle has the instruction {name}, which no graph needs")
            step(argument)

    def _on_proto(self, _: int) -> None:
        pass

    _on_frame = _on_proto

    def _on_mark(self, _: None) -> None:
        self._marks.append(len(self._stack))

    def _on_tuple(self, _: None) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _on_append(self, _: None) -> None:
        value = self._stack.pop()
        self._top(list).append(value)

    def _on_appends(self, _: None) -> None:
        values = self._since_mark()
        self._top(list).extend(values)

    def _on_setitem(self, _: None) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set(key, value)

    def _on_setitems(self, _: None) -> None:
        values = self._since_mark()
        for key, value in zip(values[::2], values[1::2], strict=True):
            self._set(key, value)

    def _on_binput(self, at: int) -> None:
        self._memo[at] = self._stack[-1]

    _on_long_binput = _on_binput

    def _on_memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _on_binget(self, at: int) -> None:
        self._stack.append(self._memo[at])

    _on_long_binget = _on_binget

    def _on_global(self, name: str) -> None:
        self._name(*name.split(" ", 1))

    def _on_stack_global(self, _: None) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._name(module, name)

    def _name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise self._refuse("it names what is no name")
        found = Name(module, name)
        known = found in self._admitted or found in _BUILT or (module == "torch" and name in _OF_TORCH)
        if not known:
            raise self._refuse(f"it names {str(found)[:80]}, which no graph needs")
        self._stack.append(found)

    def _on_binpersid(self, _: None) -> None:
        """A stretch of bytes: ("storage", its type, the record, where it was, how many numbers)."""
        kind, storage, key, _, count = self._stack.pop()
        if kind != "storage" or not isinstance(storage, Name) or storage.name not in STORAGES:
            raise self._refuse("it has an array of a type that is not known")
        if not isinstance(key, str) or type(count) is not int:
            raise self._refuse("it has an array without a record")
        if self._archive.size(key) != count * STORAGES[storage.name].itemsize:
            raise self._refuse(f"its record {key!r:.40} has not the size of {count:,} numbers")
        self._stack.append(_Storage(key, storage.name, count))

    def _on_reduce(self, _: None) -> None:
        arguments, called = self._stack.pop(), self._stack.pop()
        if not isinstance(called, Name) or not isinstance(arguments, tuple):
            raise self._refuse("it calls what is no name")
        self._stack.append(self._make(called, arguments))

    _on_newobj = _on_reduce

    def _on_build(self, _: None) -> None:
        state, made = self._stack.pop(), self._stack[-1]
        if not isinstance(made, Inert) or not (isinstance(state, dict) or self._admitted[made.kind] == "number"):
            raise self._refuse("it gives a state to what has none")
        if isinstance(state, dict):
            made.state.update(state)

    def _make(self, called: Name, arguments: tuple) -> Any:
        if called in _BUILT:
            return _BUILT[called](self, arguments)
        if self._admitted.get(called) is None:
            raise self._refuse(f"it calls {called}")
        if self._admitted[called] != "object":
            return Inert(called, arguments, {})
        if arguments:
            raise self._refuse(f"it makes {called} of something")
        return Inert(called, (), {})

    def _tensor(self, arguments: tuple) -> Stored:
        storage, offset, shape, stride = arguments[:4]
        if not isinstance(storage, _Storage) or not isinstance(shape, tuple):
            raise self._refuse("it has an array of no storage")
        numbers = (offset, *shape, *stride)
        if len(shape) > 4 or len(shape) != len(stride) or any(type(n) is not int or n < 0 for n in numbers):
            raise self._refuse("it has an array of no shape")
        count, dense = 1, []
        for size in reversed(shape):
            dense.append(count)
            count *= size
        if offset + count > storage.count:
            raise self._refuse("it has an array that is larger than what is stored of it")
        if math.prod(max(size, 1) for size in shape) > LARGEST:  # of none, too, numpy makes no array
            raise self._refuse("it has an array of no shape")
        if any(n > 1 and s != d for n, s, d in zip(shape, stride, reversed(dense), strict=True)):
            raise self._refuse("it has an array that does not lie in one piece: save it with .contiguous()")
        dtype = STORAGES[storage.name]
        return Stored(self._archive, storage.key, dtype, storage.name == "BFloat16Storage", offset, shape)

    def _mapping(self, arguments: tuple) -> dict[str, Any]:
        if arguments:
            raise self._refuse("it makes a dictionary of something")
        return {}

    def _words(self, arguments: tuple) -> str:
        """What is known by a few words alone: a device."""
        if not all(isinstance(each, str | int) for each in arguments):
            raise self._refuse("it has a device that is none")
        return ":".join(str(each)[:40] for each in arguments)

    def _set(self, key: Any, value: Any) -> None:
        if not isinstance(key, str):
            raise self._refuse("it has a dictionary whose keys are no texts")
        self._top(dict)[key] = value

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise self._refuse(f"it fills what is no {kind.__name__}")
        return self._stack[-1]

    def _since_mark(self) -> list[Any]:
        at = self._marks.pop()
        values = self._stack[at:]
        del self._stack[at:]
        return values

    def _refuse(self, why: str) -> ForeignFile:
        return ForeignFile(f"{self._archive.path} is no graph of circuit-tracer's: {why}. Nothing in it was run.")


@dataclass(frozen=True)
class _Storage:
    key: str
    name: str
    count: int


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE"),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_OF_TORCH = {*STORAGES, "float32", "float64", "float16", "bfloat16", "int64", "int32"}
_BUILT: dict[Name, Callable[[_Machine, tuple], Any]] = {
    Name("torch._utils", "_rebuild_tensor_v2"): _Machine._tensor,
    Name("torch", "device"): _Machine._words,
    Name("collections", "OrderedDict"): _Machine._mapping,
}
