"""What a search knows so far, on disk: one that was interrupted goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from circuits.components.pairs import Pairs
from graphs.errors import CannotWrite


class KeptScores:
    """One file for one question: how much is done, pairs or readers, and the arrays that came of it.

    folder: where it is; None keeps nothing. question: all that these depend on; a file for another question has
    another name.
    """

    def __init__(self, folder: Path | None, question: dict[str, Any], pairs: Sequence[Pairs]) -> None:
        digest = hashlib.sha256(json.dumps(question, sort_keys=True, default=str).encode())
        for each in pairs:
            for column in (each.clean, each.corrupted, each.right, each.wrong, each.position):
                digest.update(f"{list(column.shape)}".encode() + column.cpu().numpy().tobytes())
        self.path = None if folder is None else folder / f".{digest.hexdigest()[:16]}.npz"

    def read(self, *names: str) -> tuple[int, list[np.ndarray]] | None:
        """How much is done, and these arrays; None where nothing is kept, or what is there cannot be read."""
        if self.path is None:
            return None
        try:
            with np.load(self.path, allow_pickle=False) as found:
                return int(found["done"]), [found[name] for name in names]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None

    def keep(self, done: int, **arrays: Any) -> None:
        """Write down how much is done and these arrays, whole or not at all.

        Raises:
            CannotWrite: the disk refuses.
        """
        if self.path is None:
            return
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                np.savez(file, done=done, **arrays)
            os.replace(beside, self.path)
        except OSError as reason:
            raise CannotWrite(f"{self.path} could not be written: {reason.strerror or reason}.") from reason
        finally:
            beside.unlink(missing_ok=True)

    def forget(self) -> None:
        """The search is over."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty: another search is under way, or it was never there
                self.path.parent.rmdir()
