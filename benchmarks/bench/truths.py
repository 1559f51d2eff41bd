"""One cell of a run on a program whose circuit is known: how well a method's scores tell the true edges, or nodes."""

from __future__ import annotations

from dataclasses import replace
from zlib import crc32

import numpy as np

from benchmarks.bench.bootstrap import LEVEL
from benchmarks.bench.cells import Cell, Result, row_of
from benchmarks.bench.levels import INSIDE, LEVELS
from benchmarks.bench.methods import METHODS, RANDOM, Job
from benchmarks.bench.spending import spend
from benchmarks.truth import Truth
from benchmarks.truth.ranks import area_under_roc, average_precision, recall, size_with_all
from circuits.components.ablations import ABLATIONS
from circuits.errors import BadOption

COMPILED = "compiled"  # in place of a model's name
DRAWS = 200  # of random scores
RANKS = {
    "auroc": area_under_roc,
    "average precision": average_precision,
    "recall": recall,
    "size with all true": size_with_all,
}
NAN = float("nan")


def measure_truth(cell: Cell, truth: Truth) -> Result:
    """All rows of a method on a program: of edges, or of tokens, heads and MLPs.

    Raises:
        CircuitError: the method cannot be used here; the message says why.
    """
    method = METHODS[cell.method]
    if method.level in INSIDE:
        raise BadOption(f"the truth is known of edges, heads and MLPs, not of {method.level}.")
    if cell.ablation == "optimal":
        raise BadOption("the truth is not known under optimal constants.")
    transformer, pairs = truth.transformer, [truth.pairs]
    level = LEVELS[method.level](transformer)
    ablate = ABLATIONS[cell.ablation](transformer, pairs, lambda name, done, total: None)
    true = truth.found(cell.ablation) if method.level == "edges" else truth.found_nodes(cell.ablation)
    first = crc32(truth.name.encode()) + DRAWS * cell.seed  # programs of one shape do not share their draws
    seeds = range(first, first + DRAWS) if cell.method in RANDOM.values() else [cell.seed]
    # All pairs at a time: the metric of a program may be of just these.
    jobs = [Job(transformer, truth.metric, ablate, level, seed, len(truth.pairs)) for seed in seeds]
    scores, spent = spend(lambda: [method.score(job, pairs) for job in jobs], transformer.W_U.device)
    units = level.units
    rows = []
    for name, rank in RANKS.items():
        found = np.array([rank(each[units], true[units]) for each in scores])
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(found, [tail, 1 - tail], method="nearest") if len(found) > 1 else (NAN, NAN)
        rows.append(
            replace(
                row_of(cell, level.name, says=f"{int(true[units].sum())} of {level.total} {level.name} are true"),
                **{"split": "all", "ranked": "size", "count": float(level.total)},
                **{"metric": name, "value": float(found.mean()), "low": float(low), "high": float(high)},
                **{"seconds": spent.seconds / len(scores), "peak_memory": spent.peak_memory},
            )
        )
    return Result(rows)
