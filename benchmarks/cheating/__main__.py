"""Learned or cheated: which circuit tells them apart, and how surely: `python -m benchmarks.cheating [--seeds N]`.

Models of three kinds with the same answers on their test set (models.py), each kind with as many seeds; the signs of
signs.py, and the verdict of experiments.py. How surely a sign tells two kinds apart is the area under its ROC curve
over seeds, with an interval from resampling them. Bars and options were settled on seeds 0 and 1, which do not
count. Trained models are kept in a folder; results go to benchmarks/results/cheating.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from benchmarks.cheating.experiments import experiment
from benchmarks.cheating.models import RIGHT, answers, open_model
from benchmarks.cheating.signs import Sums, signs_of
from benchmarks.truth.ranks import chance_above

RESULTS = Path(__file__).parents[1] / "results"
FIRST = 100  # the first seed that counts
PROMPTS = 12
DRAWS = 2000
VERDICTS = ("learned", "mixed", "cheated", "undecided")
AGAINST = (("learned", "cheated"), ("learned", "leaning"), ("leaning", "cheated"))


def measure(kind: str, seed: int, kept: Path) -> dict[str, Any]:
    """One model's row: what it answers in the test, its signs, its verdict."""
    model = open_model(kind, seed, kept)
    sums = Sums(PROMPTS, seed)
    test = Sums(200, seed + 1)
    signs, graphs = signs_of(model, sums)
    tested = experiment(model, sums, graphs, seed)
    right = float((answers(model, test.rows()) == test.answer).mean())
    return {"kind": kind, "seed": seed, "right": right, "signs": signs, **tested.to_json()}


def by_kind(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, np.ndarray]]:
    """For each sign, and for the three experiments together, the models' values, by kind."""
    of = {kind: [row for row in rows if row["kind"] == kind] for kind in RIGHT}
    found = {
        name: {kind: np.array([row["signs"][name] for row in of[kind]]) for kind in of} for name in rows[0]["signs"]
    }
    return found | {"all three experiments": {kind: np.array([row["cheats"] for row in of[kind]]) for kind in of}}


def interval(ones: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """The ends of the 95 % interval of their AUROC, over resampled seeds."""
    random = np.random.default_rng(0)
    drawn = [chance_above(random.choice(ones, len(ones)), random.choice(others, len(others))) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """The tables, in words first what was done."""
    count = len(rows) // len(RIGHT)
    lines = [
        "# Learned or cheated",
        "",
        f"`python -m benchmarks.cheating --seeds {count}`: {count} models of each kind, which differ in what a hint",
        "was worth in their training (benchmarks/cheating/models.py). All signs are read where every hint is right and",
        f"all models answer alike, from {PROMPTS} questions a model. Intervals are of 95 %, over resampled seeds:",
        "where no model of one kind passes any of the other they have no width, and say only that it did not happen",
        "here. The task is small, and a hint in it easy to see; a sign that fails here will not do elsewhere.",
        "",
        "The experiments ask what the model does; the signs look at how. A model that leans on the hint but answers",
        "without it too is called learned by the one, and told apart by the other.",
        "",
        "| | " + " | ".join(RIGHT) + " |",
        "|---|" + "---|" * len(RIGHT),
    ]

    def line(name: str, of: str) -> str:
        cells = [np.mean([row[of] for row in rows if row["kind"] == kind]) for kind in RIGHT]
        return f"| {name} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |"

    lines += [
        line("answered right, hints right (the test set)", "right"),
        line("right without the hint (knock-out)", "survives"),
        line("says the other sum when its mediator is swapped", "follows"),
        line("the same, as many random neurons swapped", "random"),
        line("right under a wrong hint", "keeps"),
        line("says what a wrong hint says", "obeys"),
    ]
    for verdict in VERDICTS:
        cells = [sum(row["kind"] == kind and row["verdict"] == verdict for row in rows) for kind in RIGHT]
        lines.append(f"| verdict: {verdict} | " + " | ".join(f"{cell} of {count}" for cell in cells) + " |")
    lines += [
        "",
        "How surely each sign tells two kinds apart (area under the ROC curve; 0.5 is chance):",
        "",
        "| the hint's share of | " + " | ".join(f"{kind}: mean" for kind in RIGHT) + " | "
        + " | ".join(f"{low} or {high}" for low, high in AGAINST) + " |",
        "|---|" + "---|" * (len(RIGHT) + len(AGAINST)),
    ]  # fmt: skip
    for name, values in by_kind(rows).items():
        cells = [f"{values[kind].mean():.3f}" for kind in RIGHT]
        for low, high in AGAINST:
            ends = interval(values[low], values[high])
            cells.append(f"{chance_above(values[low], values[high]):.2f} ({ends[0]:.2f} to {ends[1]:.2f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="models of each kind (default: 20)")
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "circuit-assay-cheating")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in range(FIRST, FIRST + given.seeds):
        for kind in RIGHT:
            rows.append(measure(kind, seed, given.models))
            print(kind, seed, rows[-1]["verdict"], f"{rows[-1]['right']:.2f}", flush=True)
    (RESULTS / "cheating.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "cheating.md").write_text(report(rows), encoding="utf-8")
    print(report(rows))


if __name__ == "__main__":
    main()
