"""A file that is written whole or not at all, whatever kind it is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from graphs.errors import CannotWrite

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what leaves no room, whoever may write


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` make the file beside its place, and put it there, in place of one of that name. Returns the path.

    Raises:
        CannotWrite: the folder is not there, or may not be written to.
    """
    # Beside the target, so that the last step is a rename within one disk: no reader ever sees half a file.
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    if not path.parent.is_dir() or path.is_dir():
        raise CannotWrite(f"{path} could not be written: {_obstacle(path)}")
    try:
        write(unfinished)
        os.replace(unfinished, path)
    except OSError as error:
        if isinstance(error, CannotWrite):
            raise
        remedy = "free some space" if error.errno in FULL else "change its permissions"
        raise CannotWrite(
            f"{path} could not be written: {error.strerror or error}. "
            f"Choose another folder (-o in the shell), or {remedy}."
        ) from error
    finally:
        with suppress(OSError):  # a disk that takes no files lets none go either, not even one that is not there
            unfinished.unlink(missing_ok=True)
    return path


def _obstacle(path: Path) -> str:
    if path.is_dir():
        return "it is a folder. Give the name of a file."
    if path.parent.exists():
        return f"{path.parent} is no folder."
    return f"there is no folder {path.parent}. Make it first."
