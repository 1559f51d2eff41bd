"""What it saves to run many interventions together: `python -m benchmarks.interventions [--repeats 5]`.

Single units ablated in a random model of GPT-2's size, spread over all layers and positions, in three ways: each a
whole run of the model with one hook; each alone through `intervene`; all through one call of it, which runs side by
side those that begin near each other, and none below its first layer or before its position. One thread, the ways
taking turns, medians of CPU seconds; all must give the same logits. Results go to benchmarks/results/interventions.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.cases import Case, Made, make
from circuits.changes import Intervention
from circuits.interventions import intervene
from circuits.tracing import Trace, trace

RESULT = Path(__file__).parent / "results/interventions.md"
CASE = Case("gpt2", layers=12, width=768, heads=12, units=2048, tokens=16)
COUNTS = (48, 192)
SAME = 1e-5  # of the largest logit


@dataclass(frozen=True)
class Measured:
    """Median CPU seconds of each way, and how far the last two are from the first, over the largest logit."""

    count: int
    hooks: float
    alone: float
    together: float
    apart: float

    def __str__(self) -> str:
        gains = f"{self.hooks / self.together:.1f} | {self.alone / self.together:.1f}"
        seconds = f"{self.hooks:.2f} | {self.alone:.2f} | {self.together:.2f}"
        return f"| {CASE.name} | {self.count} | {seconds} | {gains} | {self.apart:.0e} |"


def measure(made: Made, run: Trace, count: int, repeats: int) -> Measured:
    """Ablate so many of the active units, evenly spread, in each of the ways."""
    model, dictionary = made.model, made.dictionary
    chosen = np.linspace(0, len(run.layer) - 1, count).astype(int).tolist()
    units = [Intervention(int(run.layer[at]), int(run.position[at]), int(run.unit[at])) for at in chosen]

    def with_a_hook(at: int) -> Tensor:
        layer, position = int(run.layer[at]), int(run.position[at])
        change = -run.activation[at] * dictionary.writing(layer, run.unit[at][None], layer)[0]

        def edit(out: Tensor) -> Tensor:
            out[:, position] += change
            return out

        return model.run(run.tokens[None], edit={(dictionary.writes, layer): edit})[0]

    ways: list[Callable[[], Tensor]] = [
        lambda: torch.cat([with_a_hook(at) for at in chosen]),
        lambda: torch.cat([intervene(model, dictionary, run, [[unit]]) for unit in units]),
        lambda: intervene(model, dictionary, run, [[unit] for unit in units]),
    ]
    spent: list[list[float]] = [[] for _ in ways]
    logits: list[Tensor] = []
    for _ in range(repeats):
        logits = []
        for way, seconds in zip(ways, spent, strict=True):
            start = time.process_time()
            logits.append(way())
            seconds.append(time.process_time() - start)
    apart = max(float((each - logits[0]).abs().max()) for each in logits[1:]) / float(logits[0].abs().max())
    hooks, alone, together = (float(np.median(seconds)) for seconds in spent)
    return Measured(count, hooks, alone, together, apart)


def report(found: Sequence[Measured], repeats: int) -> str:
    """The results as a table."""
    lines = ["# Many interventions at once", ""]
    lines += [f"What `python -m benchmarks.interventions` found: medians of {repeats}, CPU seconds on one thread."]
    lines += ["Its docstrings say what the columns are.", ""]
    lines += ["| case | units ablated | hooks | alone | together | hooks / together | alone / together | apart |"]
    lines += ["|---" * 8 + "|", *map(str, found)]
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str]) -> int:
    """Measure, print and store; 1 if the ways do not agree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interventions", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    made = make(CASE)
    run = trace(made.model, made.dictionary, made.tokens)
    found = [measure(made, run, count, options.repeats) for count in COUNTS]
    print(text := report(found, options.repeats))
    RESULT.write_text(text, encoding="utf-8")
    return int(any(not each.apart <= SAME for each in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
