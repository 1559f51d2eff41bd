"""A peer and we on the same work: who stands beside whom, turns taken in one run, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from benchmarks.bench.spending import Spent, spend
from benchmarks.peers import component_jobs, jobs, processes
from circuits.errors import BadOption
from circuits.model import Model

PREFIX = "peer:"  # before the name of the method of ours that a peer's stands beside
BESIDE = "beside ours"  # the level of rows that hold a peer to us
EDGE_PEERS = {f"{PREFIX}{name}": component_jobs.PEER for name in component_jobs.NAMES}
GRAPH_PEERS = {f"{PREFIX}direct": jobs.PEER}
PEERS = {**EDGE_PEERS, **GRAPH_PEERS}
PROGRAMS = {component_jobs.PEER: "EAP-IG", jobs.PEER: "circuit-tracer"}
REPEATS = 5
# What a run costs is no claim of it.
COSTS = ("peer's seconds", "our seconds", "times as fast", "peer's memory", "our memory", "share of its memory")

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Turn:
    """What one side's run took, and the other's right after it."""

    ours: Spent
    theirs: processes.Spent


def check_runs(method: str, model: Model) -> None:
    """Whether a peer can stand beside us here.

    Raises:
        NotInstalled: it is not. BadOption: the model lies on another device than a CPU.
    """
    if not processes.is_installed(PEERS[method]):
        raise processes.NotInstalled(processes.how_to_install(PEERS[method]))
    if model.device.type != "cpu":
        program = PROGRAMS[PEERS[method]]
        raise BadOption(f"{program} is driven on a CPU, the model lies on {model.device}: take --device cpu.")


def take_turns(ours: Callable[[], Any], theirs: Callable[[], processes.Spent]) -> list[Turn]:
    """Each side once, and then five times in turns, on one thread each."""
    with _one_thread():
        ours()
        theirs()
        return [Turn(spend(ours, torch.device("cpu"))[1], theirs()) for _ in range(REPEATS)]


def costs_of(turns: Sequence[Turn]) -> Iterator[tuple[str, Triple]]:
    """By name the medians over the turns, with the least and the largest; CPU seconds, bytes above what was held."""
    figures = {
        "peer's seconds": [each.theirs.cpu for each in turns],
        "our seconds": [each.ours.seconds for each in turns],
        "times as fast": [_share(each.theirs.cpu, each.ours.seconds) for each in turns],
        "peer's memory": [float(each.theirs.peak) for each in turns],
        "our memory": [each.ours.peak_memory for each in turns],
        "share of its memory": [_share(each.ours.peak_memory, each.theirs.peak) for each in turns],
    }
    for name in COSTS:
        yield name, (median(figures[name]), min(figures[name]), max(figures[name]))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
