"""What speed is measured on: models of several sizes, random but for `world`."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.peers.cases import Case

SMALL, LARGE = Case("llama"), Case("gpt2", layers=12, width=768, heads=12, units=8192, tokens=32)

# name: case, rows (None: all), batch sizes to choose the peer's best from, repeats
ATTRIBUTIONS: dict[str, tuple[Case, int | None, tuple[int, ...], int]] = {
    "world": (Case("world"), None, (16, 32), 7),
    "world-cross": (Case("world", kind="cross-layer"), None, (16, 32), 7),
    "A16": (SMALL, None, (16, 32), 5),
    "A16-skip": (replace(SMALL, kind="skip"), None, (16, 32), 5),
    "A16-cross": (replace(SMALL, kind="cross-layer"), None, (16, 32), 5),
    "A16-gemma2": (replace(SMALL, family="gemma2"), None, (16, 32), 5),
    "A64-2000": (replace(SMALL, tokens=64), 2000, (16, 32), 5),
    "B32-512": (LARGE, 512, (16,), 5),
    "B32-1024": (LARGE, 1024, (16,), 3),
    "B64-512": (replace(LARGE, tokens=64), 512, (16,), 3),
    "B64-1024": (replace(LARGE, tokens=64), 1024, (16,), 3),
}
# What the peer cannot do: the model's own neurons as units.
ALONE: dict[str, tuple[Case, int | None, int]] = {
    "A16-neurons": (SMALL, 2000, 5),
    "B32-neurons": (LARGE, 512, 3),
}
GEMMA = Case("gemma2", layers=26, width=2304, heads=8, head=256, units=16384, tokens=64, active=60)
GPU_ROWS = 8192
TAKEN_APART = {"A16": 15, "B32-512": 5}  # repeats
PRUNINGS = {2000: 5, 5000: 5, 10000: 3}
GROWTH = {
    "rows": [(replace(SMALL, tokens=32), rows) for rows in (500, 1000, 2000, 4000)],
    "tokens": [(replace(SMALL, tokens=tokens), 1000) for tokens in (16, 32, 64, 128)],
    "layers": [(replace(SMALL, layers=layers), 500) for layers in (2, 4, 8, 16)],
    "features": [(replace(SMALL, active=active), 400) for active in (20, 40, 80, 160)],
}
