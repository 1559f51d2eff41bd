"""A peer's process in an environment of its own: given orders and answering them, a line of JSON each."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

HERE = Path(__file__).parent


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


class Process:
    """A peer waiting for orders, on one thread; `with Process(name, folder) as peer:` ends it.

    name: of its folder here, with its `run.py`, and of its environment. folder: the job.
    One process keeps its model between orders, so that its runs and ours can take turns.

    Raises:
        FileNotFoundError: it is not installed.
    """

    def __init__(self, name: str, folder: Path) -> None:
        if not is_installed(name):
            raise FileNotFoundError(f"{environment(name)} is not there: run benchmarks/peers/{name}/install")
        quiet = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        self._name = name
        self._process = subprocess.Popen(
            [environment(name) / "bin/python", "-W", "ignore", HERE / name / "run.py", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **quiet},
        )
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
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Spent(**self._answer())

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{self._name} ended with exit code {self._process.wait()}; its last words are above.")
