"""Where the graphs of a store lie, on this machine or at an address: which there are, and how one gets there whole."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from graphs.addresses import Address, Place, each_of
from graphs.catalog import Stamp, stamp
from graphs.errors import UnknownStore
from graphs.records import ASSAY, RECORD, TABLES, File
from graphs.staging import is_staged, land, recover, staging
from graphs.tables import checksum, sync

FILES = (RECORD, ASSAY, *TABLES)
LOOKS = 5  # how often a store is looked through while others save there
TURNS = 20  # how often tables are sent again that another writer replaced meanwhile


def ids_in(folder: Place) -> list[str]:
    """The graphs' folder names, in order; damaged ones too. Names that begin with a dot are saves under way.

    Raises:
        UnknownStore: it is a file, or may not be read.
    """
    if isinstance(folder, Address):
        return list(stamps_in(folder))
    return sorted({name for names in looks(folder) for name in names if holds(folder, name)})


def stamps_in(folder: Place) -> dict[str, Stamp]:
    """The same with the stamp of each graph's FILES."""
    stamps: dict[str, Stamp] = {}
    if isinstance(folder, Address):
        try:
            sizes = folder.sizes()
        except OSError as error:
            raise _no_store(folder, error) from error
        ids = {name.partition("/")[0] for name in sizes if name.count("/") == 1 and name.endswith(f"/{RECORD}")}
        stamps = {id: [sizes.get(f"{id}/{file}") for file in FILES] for id in ids}
    else:
        for names in looks(folder):
            for name in names:
                mark = stamp(f"{folder}/{name}", FILES)
                if any(mark) or name not in stamps:  # else it is away just now, and was here at an earlier look
                    stamps[name] = mark
    own = [FILES.index(file) for file in (RECORD, *TABLES)]
    return {id: stamps[id] for id in sorted(stamps) if id[0] != "." and any(stamps[id][place] for place in own)}


def looks(folder: Place) -> Iterator[list[str]]:
    """The names in a store, again and again while somebody saves there: a graph being replaced may be away just then.

    At an address no graph is ever away, and the names are not told.
    """
    if isinstance(folder, Address):
        return
    for _ in range(LOOKS):
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise _no_store(folder, error) from error
        yield names
        if not any(is_staged(name) for name in names):
            return
        recover(folder)


def holds(folder: Place, name: str) -> bool:
    """Whether a graph of this name, a damaged one too, lies there now. A name that leads elsewhere is none."""
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        return False
    if isinstance(folder, Address):
        return (folder / name / RECORD).exists()
    return any(os.path.exists(f"{folder}/{name}/{file}") for file in (RECORD, *TABLES))


def stamp_of(folder: Place, files: Sequence[str] = FILES) -> Stamp:
    """What tells a graph's folder from another that takes its place."""
    if isinstance(folder, Address):
        sizes = folder.sizes()
        return [sizes.get(file) for file in files]
    return stamp(folder, files)


@contextmanager
def desk(folder: Place, prefix: str) -> Iterator[Path]:
    """A folder of this machine where things are written before they land in `folder`; gone at the end."""
    if isinstance(folder, Address):
        with tempfile.TemporaryDirectory() as place:
            yield Path(place)
        return
    with staging(folder, prefix) as place:
        yield place


def land_graph(new: Path, final: Place) -> None:
    """Put the files of a graph in place of what is there, with all that was attached to it.

    At an address the record goes last, so that a graph is there when all of it is; `kept_tables` are left alone. What
    was attached goes after it: a writer that is killed may leave that.

    Raises:
        OSError: the disk refuses; what was there is there still.
    """
    if isinstance(final, Address):
        _send(new, final)
        return
    _sync_folder(new)
    land(new, final)
    _sync_folder(final.parent)


def land_file(unfinished: Path, final: Place, within: Place | None = None) -> None:
    """Put a file in place of the one of that name.

    within: a folder that is there; one in it is made for the file where it has none.
    """
    if isinstance(final, Address):
        final.put(unfinished)
        return
    if within is not None and final.parent != within:
        final.parent.mkdir(exist_ok=True)
    os.replace(unfinished, final)


def names_in(folder: Place) -> list[str]:
    """The names of the files in a folder, in order; none where it is not there."""
    try:
        return sorted(each.name for each in folder.iterdir())
    except FileNotFoundError:
        return []


def read_all(folder: Place, names: Sequence[str]) -> list[bytes]:
    """What these files of a folder hold, but for those that are gone by now."""

    def content(name: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return (folder / name).read_bytes()
        return None

    return [found for found in each_of(folder, content, names) if found is not None]


def kept_tables(final: Place, content: str) -> dict[str, File] | None:
    """The tables that lie at an address, where they are whole and say just what those would that are to be sent.

    Left where they are they need not be sent, and a writer that is killed cannot leave half of them. On this machine
    a graph's folder is replaced at once, and nothing needs to be kept.
    """
    if not isinstance(final, Address):
        return None
    with suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads((final / RECORD).read_bytes())
        if record["content"] == content and _are_there(final, record["files"]):
            return {table: record["files"][table] for table in TABLES}
    return None


def _send(new: Path, final: Address) -> None:
    record = json.loads((new / RECORD).read_bytes())
    files, unsent = record["files"], [table for table in TABLES if (new / table).exists()]
    attached = [name for name in final.sizes() if name not in (RECORD, *TABLES)]  # to the graph of before
    for _ in range(TURNS):
        for table in unsent:
            (final / table).put(new / table)
        if (final / RECORD).state() is None or _seal(final) != record["seal"]:
            (final / RECORD).put(new / RECORD)
        # Of two that send the same graph the one may have sent its tables after the other its record.
        if not unsent or _seal(final) != record["seal"] or _are_there(final, files):
            break
    for name in attached:
        (final / name).unlink(missing_ok=True)


def _seal(final: Address) -> Any:
    with suppress(OSError, ValueError, AttributeError):
        return json.loads((final / RECORD).read_bytes()).get("seal")
    return None


def _are_there(final: Address, files: dict[str, Any]) -> bool:
    try:
        return all(checksum(final / table) == files[table]["sha256"] for table in TABLES)
    except FileNotFoundError:
        return False


def _no_store(folder: Place, error: OSError) -> UnknownStore:
    return UnknownStore(
        f"{folder} is no store: {error.strerror or error}. It should be a folder of graphs: name one with --store."
    )


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    path.write_bytes(content)
    sync(path)


def _sync_folder(folder: Path) -> None:
    """A rename is on disk only when its folder is."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
