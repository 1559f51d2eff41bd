"""A bar on the terminal for whatever takes longer than two seconds."""

from __future__ import annotations

import sys
from types import TracebackType

PATIENCE = 2.0  # seconds without a bar


class Bars:
    """One bar at a time, on stderr: `bars("tracing", done, total)` moves it, another name begins another.

    Nothing is shown when quiet, or where stderr is no terminal.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._silent = quiet or not sys.stderr.isatty()
        self._name = ""
        self._bar = None

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def __call__(self, name: str, done: int, total: int) -> None:
        if self._silent:
            return
        if self._bar is None or name != self._name:
            from tqdm import tqdm

            self._close()
            self._name = name
            self._bar = tqdm(desc=name, total=total, delay=PATIENCE, leave=False, file=sys.stderr)
        self._bar.update(done - self._bar.n)

    def note(self, what: str) -> None:
        """One line about something that takes a while and cannot be counted."""
        if not self._silent:
            print(f"{what} …", file=sys.stderr, flush=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
