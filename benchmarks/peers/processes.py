"""A peer's process in an environment of its own: given orders and answering them, a line of JSON each."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from circuits.errors import CircuitError

HERE = Path(__file__).parent


class NotInstalled(CircuitError, FileNotFoundError):
    """A peer's environment is not there."""


class PeerFailed(CircuitError, RuntimeError):
    """A peer's process ended before it had answered."""


@dataclass(frozen=True)
class Spent:
    """What one piece of work took. cpu, wall: seconds. peak: bytes above what the process held before."""

    cpu: float
    wall: float
    peak: int


def medians(spent: Iterable[Spent]) -> Spent:
    """The median of each figure, but the largest peak."""
    found = list(spent)
    cpu, wall = (float(np.median([getattr(each, name) for each in found])) for name in ("cpu", "wall"))
    return Spent(cpu, wall, max(each.peak for each in found))


def environment(name: str) -> Path:
    """The folder of a peer's environment."""
    return HERE.parent.parent / ".peers" / name


def is_installed(name: str) -> bool:
    """Whether a peer's environment is there."""
    return (environment(name) / "complete").exists()


def how_to_install(name: str) -> str:
    """What to say where it is not."""
    return f"{name} is not installed: run benchmarks/peers/{name}/install, which says what it needs."


class Process:
    """A peer waiting for orders, on one thread; `with Process(name, folder) as peer:` ends it.

    name: of its folder here, with its `run.py`, and of its environment. folder: the job.
    One process keeps its model between orders, so that its runs and ours can take turns.

    Raises:
        NotInstalled: it is not. PeerFailed: it ended; the message has its last words.
    """

    def __init__(self, name: str, folder: Path) -> None:
        if not is_installed(name):
            raise NotInstalled(how_to_install(name))
        self._name, self._said = name, folder / "stderr.txt"
        with self._said.open("w", encoding="utf-8") as said:
            self._process = self._start(folder, said)
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()

    def do(self, what: str, *, save: Path | None = None, **order: Any) -> Spent:
        """Have one piece of work done; what comes of it goes to the file `save`."""
        assert self._process.stdin is not None
        order = {"do": what, "save": None if save is None else str(save), **order}
        with suppress(BrokenPipeError):  # it has ended: why is told by what it said
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        return Spent(**self._answer())

    def _start(self, folder: Path, said: IO[str]) -> subprocess.Popen[str]:
        quiet = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        return subprocess.Popen(
            [environment(self._name) / "bin/python", "-W", "ignore", HERE / self._name / "run.py", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env={**os.environ, **quiet},
        )

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        code, said = self._process.wait(), self._said.read_text(encoding="utf-8").strip()
        last = said.splitlines()[-1] if said else "nothing"
        raise PeerFailed(f"{self._name} ended with exit code {code}; its last words: {last}")
