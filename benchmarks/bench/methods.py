"""METHODS: all that can be put side by side, each with what its circuits are made of.

A method of `circuits.attribution` is here as soon as it stands in its own table. "NAME-neurons" is a method of nodes
with an MLP's neurons in its place, "NAME-features" one with the features of a set, and an error for what they miss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks.bench.levels import Level
from circuits import attribution
from circuits.attribution import EDGE_METHODS, PART_METHODS, SEARCHES
from circuits.components.ablations import Ablation
from circuits.components.metrics import METRICS, Metric, logit_difference
from circuits.components.pairs import Pairs
from circuits.components.transformer import Transformer

BATCH = 32
THRESHOLDS = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)  # of searches, in units of what they measure


@dataclass(frozen=True, eq=False)
class Job:
    """What a method is given: what is measured, and what takes the place of all else. batch: pairs at a time."""

    transformer: Transformer
    metric: Metric
    ablation: Ablation
    level: Level
    seed: int
    batch: int = BATCH

    def scores(self, method: Callable[..., Any], pairs: Pairs, *given: Any) -> Float[np.ndarray, "unit *more"]:
        """The sum over the pairs of what a method says."""
        taken = signature(method).parameters
        more = {"ablation": self.ablation} if "ablation" in taken else {}
        more |= {"seed": self.seed} if "seed" in taken else {}
        found = [
            method(self.transformer, few, self.metric, *given, **more).double().cpu().numpy()
            for few in pairs.split(self.batch)
        ]
        return np.sum(found, axis=0)


@dataclass(frozen=True)
class Method:
    """level: one of LEVELS. score: pairs, as they came, to the sum of the scores over them.

    in_parts: whether it looks at each pair by itself, so that scores of parts of the pairs add up; else at all at once.
    """

    level: str
    score: Callable[[Job, Sequence[Pairs]], Float[np.ndarray, "unit *more"]]
    in_parts: bool = True


def score_edges(method: Callable[..., Any], job: Job, pairs: Sequence[Pairs]) -> Float[np.ndarray, "source reader"]:
    """A method of EDGE_METHODS."""
    return np.sum([job.scores(method, each) for each in pairs], axis=0)


def score_parts(method: Callable[..., Any], job: Job, pairs: Sequence[Pairs]) -> Float[np.ndarray, "node"]:
    """A method of PART_METHODS."""
    return np.sum([job.scores(method, each, job.level.over) for each in pairs], axis=0)


def search_edges(search: Callable[..., Any], job: Job, pairs: Sequence[Pairs]) -> Float[np.ndarray, "source reader"]:
    """An order of edges out of a search's circuits at falling thresholds: what stays at a higher one comes first.

    Of those that stay at the same ones, what made more difference when its turn came comes first. On tasks the KL
    divergence is kept, as ACDC's authors do.
    """
    metric = METRICS["kl"] if job.metric is logit_difference else job.metric
    total = np.zeros(job.level.units.shape)
    for threshold in THRESHOLDS:
        left = search(job.transformer, pairs, metric, threshold=threshold, ablation=job.ablation)
        total += left.chosen
        rise = np.where(job.level.units, left.rise, 0.0)
    least, most = rise.min(), rise.max()
    within = (rise - least) / (2 * (most - least)) if most > least else rise * 0
    return (total + within) * job.level.units * sum(len(each) for each in pairs)


def draw_parts(job: Job, pairs: Sequence[Pairs]) -> Float[np.ndarray, "node"]:
    """A number from 0 to 1 for every node, times the pairs."""
    drawn = np.random.default_rng(job.seed).random(job.level.units.shape)
    return drawn * sum(len(each) for each in pairs)


METHODS: dict[str, Method] = {
    **{name: Method("edges", partial(score_edges, each), name != "random") for name, each in EDGE_METHODS.items()},
    **{name: Method("edges", partial(search_edges, each), False) for name, each in SEARCHES.items()},
    **{name: Method("nodes", partial(score_parts, each)) for name, each in PART_METHODS.items()},
    "random-nodes": Method("nodes", draw_parts, False),
    **{f"{name}-neurons": Method("neurons", partial(score_parts, each)) for name, each in PART_METHODS.items()},
    "random-neurons": Method("neurons", draw_parts, False),
    **{f"{name}-features": Method("features", partial(score_parts, each)) for name, each in PART_METHODS.items()},
    "random-features": Method("features", draw_parts, False),
}
GRAPH_METHODS = tuple(attribution.METHODS)  # graphs of features, prompt by prompt: see benchmarks.bench.traces
RANDOM = {"edges": "random", "nodes": "random-nodes", "neurons": "random-neurons", "features": "random-features"}
