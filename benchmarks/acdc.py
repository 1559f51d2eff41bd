"""What it saves to share runs in ACDC: `python -m benchmarks.acdc [--layers 2] [--repeats 1]`.

The same search in three ways: for each edge into what still leads anywhere a whole run of the circuit; a run from its
reader's layer on; candidates several at a time, as `circuits find --method acdc` does. On pairs of prompts of the
shipped model, and on a random model of GPT-2's kind, width 256, 4 pairs of 16 tokens. Float64, one thread, the ways
taking turns, medians of CPU seconds; all must leave the same edges. Results go to benchmarks/results/acdc.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from circuits.attribution.acdc import take_edges_out
from circuits.components.ablations import resample
from circuits.components.circuit_runs import run_circuit
from circuits.components.edge_scores import components_of, loss_of, read_logits
from circuits.components.metrics import Metric, divergence
from circuits.components.opening import transformer_of
from circuits.components.pairs import Pairs, gather
from circuits.components.transformer import Transformer
from circuits.model import load_model

RESULT = Path(__file__).parent / "results/acdc.md"
CITIES = {"dallas": "austin", "oakland": "sacramento", "miami": "tallahassee", "chicago": "springfield"}
THRESHOLDS = {"world": (1e-7, 1e-3), "random": (1e-8,)}


@dataclass(frozen=True)
class Measured:
    """Median CPU seconds of each way, how many circuits the last two ran, and whether all left the same edges.

    plain, in the table whole: a whole run for each edge. alone: one from the reader's layer on. together: several.
    """

    case: str
    threshold: float
    edges: int
    left: int
    plain: float
    alone: float
    together: float
    tried: tuple[int, int]
    same: bool

    def __str__(self) -> str:
        gains = f"{self.plain / self.alone:.1f} | {self.plain / self.together:.1f}"
        seconds = f"{self.plain:.1f} | {self.alone:.1f} | {self.together:.1f}"
        tried = f"{self.tried[0]:,} | {self.tried[1]:,}"
        return (
            f"| {self.case} | {self.threshold} | {self.edges:,} | {self.left:,} | {seconds} | {gains} | {tried} | "
            f"{'yes' if self.same else 'no'} |"
        )


@torch.no_grad()
def take_out_plainly(
    transformer: Transformer, pairs: Sequence[Pairs], metric: Metric, threshold: float, *, skip: bool = True
) -> Bool[np.ndarray, "source reader"]:
    """What is left when every edge is tried by itself, from the last reader to the first; a whole run for each.

    threshold: in units of the metric. skip: edges into what no longer leads anywhere go without a run.
    """
    components = components_of(transformer)
    cut = torch.zeros(components.edges.shape, dtype=torch.float64)
    ends = [(each, transformer.embed(each.clean), resample(transformer, each)) for each in pairs]
    wanted = [read_logits(transformer, transformer.run(clean).after, each) for each, clean, _ in ends]

    def loss() -> float:
        total = 0.0
        for (each, clean, other), said in zip(ends, wanted, strict=True):
            logits = read_logits(transformer, run_circuit(transformer, clean, other, cut), each)
            total += float(loss_of(transformer, logits, each, metric, said).sum())
        return total / sum(len(each) for each in pairs)

    now = loss()
    for reader in reversed(range(cut.shape[1])):
        own = int(components.component[reader])
        if skip and own < len(components.sources) and not (components.edges[own] & (cut[own].numpy() == 0)).any():
            cut[components.edges[:, reader], reader] = 1
            continue
        for source in reversed(np.flatnonzero(components.edges[:, reader])):
            cut[source, reader] = 1
            without = loss()
            if without - now < threshold:
                now = without
            else:
                cut[source, reader] = 0
    return components.edges & (cut.numpy() == 0)


def measure(case: str, transformer: Transformer, pairs: Pairs, threshold: float, repeats: int) -> Measured:
    """The same search in each of the ways."""
    ways: list[Callable[[], Any]] = [
        lambda: take_out_plainly(transformer, [pairs], divergence, threshold),
        lambda: take_edges_out(transformer, [pairs], divergence, threshold=threshold, at_once=1),
        lambda: take_edges_out(transformer, [pairs], divergence, threshold=threshold),
    ]
    spent: list[list[float]] = [[] for _ in ways]
    found = []
    for _ in range(repeats):
        found = []
        for way, seconds in zip(ways, spent, strict=True):
            start = time.process_time()
            found.append(way())
            seconds.append(time.process_time() - start)
    plain, alone, together = found
    same = bool((alone.chosen == plain).all() and (together.chosen == plain).all())
    medians = [float(np.median(seconds)) for seconds in spent]
    edges = int(components_of(transformer).edges.sum())
    return Measured(case, threshold, edges, int(plain.sum()), *medians, (alone.tried, together.tried), same)


def shipped() -> tuple[Transformer, Pairs]:
    """The shipped model, every city against the next."""
    model, said = load_model("world", device="cpu", dtype="float64"), "the capital of the state containing {} is"
    names = list(CITIES)
    records = [
        {
            "clean": said.format(name),
            "corrupted": said.format(other),
            "right": CITIES[name],
            "wrong": CITIES[other],
        }
        for name, other in zip(names, names[1:] + names[:1], strict=True)
    ]
    (pairs,) = gather(model, [(f"pair {at}", record) for at, record in enumerate(records)])
    return transformer_of(model), pairs


def random_model(layers: int) -> tuple[Transformer, Pairs]:
    """A random model of GPT-2's kind and random prompts, of which one token differs."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(n_embd=256, n_layer=layers, n_head=8, n_positions=32, vocab_size=512, bos_token_id=1)
    model = load_model(GPT2LMHeadModel(config), device="cpu", dtype="float64")
    clean = torch.randint(2, 512, (4, 16))
    corrupted = clean.clone()
    corrupted[:, 8] = (corrupted[:, 8] + 7) % 512
    answers = torch.randint(2, 256, (4,))
    return transformer_of(model), Pairs(clean, corrupted, answers, answers + 1, torch.full((4,), 15))


def report(found: Sequence[Measured], repeats: int) -> str:
    """The results as a table."""
    lines = ["# ACDC with shared runs", ""]
    lines += [f"What `python -m benchmarks.acdc` found: medians of {repeats}, CPU seconds on one thread, float64."]
    lines += ["Its docstrings say what the columns are.", ""]
    ways = "whole | alone | together | whole / alone | whole / together | runs alone | runs together"
    lines += [f"| case | threshold | edges | left | {ways} | same |"]
    lines += ["|---" * 12 + "|", *map(str, found)]
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str]) -> int:
    """Measure, print as it goes, and store; 1 if the ways do not agree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.acdc", description=__doc__)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--layers", type=int, default=2, help="of the random model")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cases = {"world": shipped(), "random": random_model(options.layers)}
    found = []
    for name, made in cases.items():
        for threshold in THRESHOLDS[name]:
            found.append(measure(f"{name}, {len(made[0].layers)} layers", *made, threshold, options.repeats))
            print(found[-1], flush=True)
    RESULT.write_text(report(found, options.repeats), encoding="utf-8")
    return int(not all(each.same for each in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
