"""What is told of work under way, and a bar on the terminal for whatever takes longer than two seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

PATIENCE = 2.0  # seconds without a bar
TICK = 0.2  # seconds between two looks at the clock

Progress = Callable[[str, int, int], None]  # (what is being done, how much is done, of how much)
Count = Callable[[int, int], None]  # the same where only one thing is being done


class Bars:
    """One bar at a time, on stderr: `bars("tracing", done, total)` moves it, another name begins another.

    What cannot be counted is told by `note`: the seconds it takes are shown in place of a bar, and again whenever a
    bar within it is full. Nothing is shown when quiet, or where stderr is no terminal.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._silent = quiet or not sys.stderr.isatty()
        self._lock = threading.RLock()
        self._stop = threading.Event()
        # What waits can be one long call into another library: a thread of its own keeps the clock.
        self._clock = threading.Thread(target=self._watch, daemon=True)
        self._noted = self._name = ""
        self._done, self._total, self._since = 0, None, 0.0
        self._bar: Any = None

    def __enter__(self) -> Bars:
        if not self._silent:
            self._clock.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.note("")
        self._stop.set()

    def __call__(self, name: str, done: int, total: int) -> None:
        with self._lock:
            if name != self._name:
                self._begin(name, total)
            self._done, self._total = done, total
            if done >= total:
                self._begin(self._noted, None)

    def note(self, what: str) -> None:
        """Something that takes a while and cannot be counted begins; with no name, whatever was under way is over."""
        with self._lock:
            self._noted = what
            self._begin(what, None)

    def _begin(self, name: str, total: int | None) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._name, self._done, self._total, self._since = None, name, 0, total, time.monotonic()

    def _watch(self) -> None:
        while not self._stop.wait(TICK):
            with self._lock:
                if not self._name or time.monotonic() - self._since < PATIENCE:
                    continue
                if self._bar is None:
                    self._bar = self._show()
                self._bar.n = self._done
                self._bar.refresh()

    def _show(self) -> Any:
        from tqdm import tqdm

        form = "{desc} … {elapsed}" if self._total is None else None
        short = (self._total or 0) >= 10**6  # bytes, told as 1.51G/4.02G
        bar = tqdm(desc=self._name, total=self._total, bar_format=form, unit_scale=short, leave=False, file=sys.stderr)
        bar.start_t -= time.monotonic() - self._since
        return bar
