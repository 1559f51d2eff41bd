"""Where the time of one attribution goes: CPU seconds of each of its parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from circuits import sweep
from circuits.attribution import direct
from circuits.sources import Sources

# part: what does it. A part inside another one counts there, and not for the other.
STAGES: dict[str, tuple[object, str]] = {
    "the prompt's own pass": (direct, "trace"),
    "nodes and read vectors": (direct, "lay_out"),
    "first attention of each target": (sweep, "_open"),
    "other attentions": (sweep, "_pass"),
    "mixing over positions": (sweep, "mix"),
    "opening rows": (sweep, "unfold"),
    "scores": (Sources, "score"),
    "stacking, ranking, the graph": (direct, "_assemble"),
}


def stages_of(work: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Median CPU seconds of every part of `work`, an attribution; `the rest` is what no part accounts for."""
    runs = []
    for _ in range(repeats):
        spent = dict.fromkeys(STAGES, 0.0)
        with _timed(spent):
            start = time.process_time()
            work()
            whole = time.process_time() - start
        runs.append({**spent, "the rest": whole - sum(spent.values())})
    return {name: float(np.median([run[name] for run in runs])) for name in runs[0]}


@contextmanager
def _timed(spent: dict[str, float]) -> Iterator[None]:
    """Every part adds to `spent` what it takes itself."""
    running: list[str] = []

    def timed(name: str, part: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            running.append(name)
            start = time.process_time()
            try:
                return part(*given, **named)
            finally:
                took = time.process_time() - start
                running.pop()
                spent[name] += took
                if running:
                    spent[running[-1]] -= took

        return run

    patches = [patch.object(owner, name, timed(part, getattr(owner, name))) for part, (owner, name) in STAGES.items()]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()
