"""Whether every unit of the graph is needed: what is lost without it, against what a random unit would add."""

from __future__ import annotations

import numpy as np
import torch

from circuits.assaying import thresholds
from circuits.assaying.bench import Bench
from circuits.assaying.survival import Survival
from graphs.assays import Contributions


def test_minimality(bench: Bench) -> list[Contributions]:
    """Take each unit out of the kept set, and put random active units into it, under mean ablation of all others.

    Source: Shi et al. 2024, minimality, over nodes in place of edges; METHODS section 7.4.
    """
    ours = bench.places(bench.units)
    taken = {tuple(unit) for unit in ours.tolist()}
    outside = torch.tensor([tuple(unit) not in taken for unit in bench.active.tolist()], dtype=torch.bool)
    free = bench.active[outside.to(bench.active.device)]
    drawn = np.random.default_rng(bench.seed).permutation(len(free))[: thresholds.REFERENCES]
    count = bench.count("leaving out one feature, or adding one", 1 + len(ours) + len(drawn))
    survival = Survival(bench, "mean")
    if survival.untested:
        return [Contributions([], [], [], survival.untested)]
    everyone = torch.arange(len(ours), device=ours.device)
    smaller = [ours[everyone != i] for i in range(len(ours))]
    larger = [torch.cat([ours, free[i : i + 1]]) for i in drawn.tolist()]
    whole, *others = survival.kept([ours, *smaller, *larger], count).tolist()
    untested = "the graph has no features" if not len(ours) else "" if larger else "no other features are active"
    return [
        Contributions(
            node=bench.units.tolist(),
            lost=[whole - each for each in others[: len(ours)]],
            reference=[each - whole for each in others[len(ours) :]],
            untested=untested,
        )
    ]
