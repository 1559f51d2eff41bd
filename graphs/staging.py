"""Folders beside the graphs of a store where things are written before they land, whoever else writes there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from graphs.records import RECORD

SAVING, ATTACHING = ".saving-", ".attaching-"
DISPLACED = "old"  # how the name begins under which a graph waits until its successor has landed
WAIT = 1.0  # seconds for which a living writer is given time to land what it is about to
STALE = 24 * 3600.0  # seconds after which a folder is nobody's, where the disk knows no locks
HERE, EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux's headers
TURNS = 100  # how often a graph is put in place before another writer, who always was faster, is called a fault


@contextmanager
def staging(folder: Path, prefix: str) -> Iterator[Path]:
    """A new folder inside `folder`, gone at the end. While this process lives, `recover` leaves it to us."""
    place, handle = _claim_new(folder, prefix)
    try:
        yield place
    finally:
        with suppress(OSError):
            _clear(place, folder, living=False)
        if handle is not None:
            os.close(handle)


def land(new: Path, final: Path) -> None:
    """Rename the folder `new` to `final`, in place of what is there. What was there stays beside or at `new`.

    In one step where the system can exchange two folders, else in two renames: who finds nothing between them asks
    `recover`, which waits, or brings back what was there. Of two writers whichever lands last stays.

    Raises:
        OSError: the disk refuses; what was there is there again.
    """
    old = None
    try:
        for turn in range(TURNS):
            try:
                new.rename(final)
                return
            except NotADirectoryError as error:
                found = f"{final} is a file or a link where the graph's folder is to go: move it away"
                raise NotADirectoryError(errno.ENOTDIR, found) from error
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or turn == TURNS - 1:
                    raise
            if _exchange(new, final):
                return
            old = new.with_name(f"{DISPLACED}-{turn}")
            try:
                final.rename(old)
            except FileNotFoundError:  # another writer was faster to move it away
                continue
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                _refill(new, final)
                return
    except BaseException:
        if old is not None and old.exists() and not final.exists():
            old.rename(final)
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Whether two folders have taken each other's places; in one step, by Linux's renameat2(2).

    False, and nothing is changed, where one is gone, or where the system or its disk cannot.
    """
    import ctypes

    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # no Linux, or an old one; Windows takes no None
        return False
    return renameat2(HERE, os.fsencode(one), HERE, os.fsencode(other), ctypes.c_uint(EXCHANGE)) == 0


def _refill(new: Path, final: Path) -> None:
    """Put the files of one folder in place of those of another that cannot be moved, the record last.

    So it is with what a container's image brought: only single files can be replaced.
    """
    files = sorted(new.iterdir(), key=lambda file: file.name == RECORD)
    attached = [each for each in final.iterdir() if each.name not in {file.name for file in files}]
    for file in files:
        os.replace(file, final / file.name)
    for each in attached:
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each, ignore_errors=True)
        else:
            each.unlink(missing_ok=True)


def is_staged(name: str) -> bool:
    """Whether a name is that of a folder made by `staging`."""
    return name.startswith((SAVING, ATTACHING))


def recover(folder: Path) -> None:
    """Bring back the graphs whose successors never landed, and remove what writers left who are no more.

    What living writers hold stays. When one of them is between its two renames, waits until it has landed.
    What cannot be changed (a store that may only be read) is left as it is.
    """
    try:
        staged = [each for each in folder.iterdir() if is_staged(each.name)]
    except OSError:
        return
    for place in staged:
        try:
            handle = _claim(place)
            living = handle is None and time.time() - place.stat().st_mtime < STALE
        except BlockingIOError:
            handle, living = None, True
        except OSError:
            continue  # gone by now, or not ours to touch
        try:
            _clear(place, folder, living)
        except OSError:
            continue
        finally:
            if handle is not None:
                os.close(handle)


def _clear(place: Path, folder: Path, living: bool) -> None:
    """Bring back what waits in a staged folder; then remove the folder, unless its writer lives or something would be
    lost with it.
    """
    lost = [each for each in place.iterdir() if not _bring_back(each, folder, living)]
    if living or lost:
        return
    for old in place.glob(f"{DISPLACED}*"):
        old.rename(place / f"spent-{old.name}")  # if this is cut short, what is left of it is not waited for any more
    shutil.rmtree(place, ignore_errors=True)


def _bring_back(old: Path, folder: Path, living: bool) -> bool:
    """Whether nothing is lost when this folder, which lies in a staged one, is removed."""
    if not old.name.startswith(DISPLACED):
        return True
    try:
        name = json.loads((old / RECORD).read_bytes())["id"]
    except NotADirectoryError:
        return True  # a file to be attached that is called so
    except FileNotFoundError:
        return not old.exists() or not any(old.iterdir())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False  # whose place it was nobody knows
    if not isinstance(name, str) or Path(name).name != name:
        return False
    final = folder / name
    until = time.monotonic() + (WAIT if living else 0.0)
    while not final.exists() and time.monotonic() < until:
        time.sleep(0.005)
    if not final.exists():
        # Even a living writer is not hurt: it finds its place taken and moves this out of the way once more.
        with suppress(OSError):
            old.rename(final)
    return final.exists()


def _claim_new(folder: Path, prefix: str) -> tuple[Path, int | None]:
    while True:
        place = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
        with suppress(BlockingIOError, FileNotFoundError):  # it was swept away before it was claimed
            handle = _claim(place)
            if place.exists():
                return place, handle
            if handle is not None:
                os.close(handle)


def _claim(place: Path) -> int | None:
    """Hold a folder until the handle is closed or the process ends, however it ends. None where there are no locks.

    Raises:
        BlockingIOError: another process holds it.
        FileNotFoundError: it is not there.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    handle = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:  # a network disk that lets nobody lock folders
        os.close(handle)
        return None
    return handle
