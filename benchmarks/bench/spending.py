"""What a piece of work takes: seconds, and the most memory it held."""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Spent:
    """seconds: of all cores together on a CPU, by the clock on a GPU. peak_memory: bytes above what was held before.

    nan where the system does not say.
    """

    seconds: float
    peak_memory: float


def spend(work: Callable[[], Any], device: torch.device) -> tuple[Any, Spent]:
    """What it returns, and what it took."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        held, began = torch.cuda.memory_allocated(device), time.perf_counter()
        found = work()
        torch.cuda.synchronize(device)
        return found, Spent(time.perf_counter() - began, torch.cuda.max_memory_allocated(device) - held)
    held = begin()
    began = time.process_time()
    found = work()
    return found, Spent(time.process_time() - began, max(0.0, memory("VmHWM") - held))


def begin(*, fresh: bool = True) -> float:
    """Bytes held now; the system forgets what was the most so far.

    fresh: what was freed goes back first, or the work would find room that nobody counts.
    """
    try:
        if fresh:
            ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except (OSError, AttributeError, TypeError):  # not Linux, or not its usual C library
        return math.nan
    return memory("VmRSS")


def memory(name: str) -> float:
    """What the system says of this process: VmRSS, VmHWM (the most since it forgot), RssAnon. Bytes, or nan."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return math.nan
    return next((int(line.split()[1]) * 1024.0 for line in lines if line.startswith(f"{name}:")), math.nan)
