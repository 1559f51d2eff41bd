"""Folders for what one run needs: models to load, jobs to hand over."""

from __future__ import annotations

import atexit
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp


def scratch_folder(prefix: str) -> Path:
    """A new folder, removed when the program ends."""
    folder = Path(mkdtemp(prefix=prefix))
    atexit.register(rmtree, folder, ignore_errors=True)
    return folder
