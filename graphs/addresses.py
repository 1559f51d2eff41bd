"""Folders that are not on this machine: any address that fsspec knows, with what the store needs of `pathlib.Path`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from graphs.errors import UnknownStore, UnreachableStore

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Item = TypeVar("Item")
Result = TypeVar("Result")
HERE = ("file://", "local://")
AT_ONCE = 16  # requests under way to an address
MARKS = ("ino", "ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")


class Stat(NamedTuple):
    """What is asked of a file: its size in bytes."""

    st_size: int


class Address:
    """`s3://bucket/circuits`, `memory://store`, … and what lies there.

    A file is written in one piece: whoever reads meanwhile sees the one before, or the new one. Object stores do so.

    url: as a person gives it; its options, such as credentials, come from where fsspec looks for them.

    Raises:
        UnknownStore: no protocol of that name, or a package that it needs is not installed.
    """

    def __init__(self, url: str, disk: AbstractFileSystem | None = None):
        self.url = url.rstrip("/")
        if disk is not None:
            self.disk, self.path = disk, str(disk._strip_protocol(self.url))
            return
        from fsspec.core import url_to_fs

        if self.url.endswith(":"):
            raise UnknownStore(f"{url} names no folder: s3://bucket/circuits would.")
        try:
            self.disk, path = url_to_fs(self.url, use_listings_cache=False)  # others write there too
            self.path = str(path)
        except (ImportError, ValueError) as error:
            raise UnknownStore(
                f"{url} cannot be opened: {error}. A folder is wanted, or an address whose fsspec package is installed."
            ) from error

    def __repr__(self) -> str:
        return self.url

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __truediv__(self, name: str) -> Address:
        return Address(f"{self.url}/{name}", self.disk)

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> Address:
        return Address(self.url.rpartition("/")[0], self.disk)

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    def resolve(self) -> Address:
        return self

    def exists(self) -> bool:
        return self.state() is not None

    def is_file(self) -> bool:
        with suppress(FileNotFoundError), asking(self):
            return self.disk.info(self.path)["type"] == "file"
        return False

    def iterdir(self) -> Iterator[Address]:
        return (self / name for name in sorted({name.partition("/")[0] for name in self.sizes()}))

    def open(self, mode: str = "rb") -> Any:
        with asking(self):
            return self.disk.open(self.path, mode)

    def read_bytes(self) -> bytes:
        with asking(self):
            content = self.disk.cat_file(self.path)
        assert isinstance(content, bytes)
        return content

    def write_bytes(self, content: bytes) -> None:
        with asking(self):
            self.disk.pipe_file(self.path, content)

    def put(self, file: Path) -> None:
        """Write what a local file holds."""
        with asking(self):
            self.disk.put_file(str(file), self.path)

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            with asking(self):
                self.disk.rm_file(self.path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def sizes(self) -> dict[str, str]:
        """Every file in this folder and below: `name` or `folder/name` -> its size, and what else changes with it."""
        try:
            with asking(self):
                # No maxdepth: object stores tell all that lies below in one go, but of folders one by one.
                found: Any = self.disk.find(self.path, detail=True)
        except FileNotFoundError:
            return {}
        start = len(self.path.rstrip("/")) + 1
        return {path[start:]: _state(info) for path, info in found.items()}

    def stat(self) -> Stat:
        with asking(self):
            return Stat(int(self.disk.size(self.path) or 0))

    def modified(self) -> float:
        """When the file was written, in seconds since 1970; 0 where nobody keeps that."""
        try:
            with asking(self):
                return self.disk.modified(self.path).timestamp()
        except (FileNotFoundError, UnreachableStore):
            return 0.0

    def state(self) -> str | None:
        """The size of a file, and what else changes with it; None where there is none."""
        try:
            with asking(self):
                return _state(self.disk.info(self.path))
        except FileNotFoundError:
            return None


@contextmanager
def asking(address: Address) -> Iterator[None]:
    """Say that an address was not reached, whatever its package raises then. What the disk there says goes on as it is.

    Raises:
        UnreachableStore: no connection, no credentials, no answer in time.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
            raise
        raise UnreachableStore(
            f"{address} cannot be reached: {str(error).rstrip('.') or type(error).__name__}. Addresses, keys and "
            "servers are read where fsspec's package for them looks: see docs/store.md."
        ) from error


def _state(info: dict[str, Any]) -> str:
    return " ".join([str(info.get("size") or 0), *(str(info[mark]) for mark in MARKS if mark in info)])


Place = Path | Address


def place_of(folder: str | Place) -> Place:
    """A folder on this machine or an address, as its text says."""
    if not isinstance(folder, str):
        return folder
    for start in HERE:
        folder = folder.removeprefix(start)
    return Address(folder) if "://" in folder else Path(folder)


def each_of(place: Place, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What `work` makes of each, in order; at an address of several at once, for each answer takes a while."""
    if not isinstance(place, Address):
        yield from map(work, items)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(work, items)
