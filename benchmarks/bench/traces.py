"""One cell of a run on graphs of features: what they explain, what survives as they are kept, what an assay says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.bench.bootstrap import draw_weights, interval
from benchmarks.bench.cells import Cell, Result, row_of
from benchmarks.bench.presets import Preset
from benchmarks.bench.spending import spend
from circuits.assaying import assay
from circuits.attributing import attribute
from circuits.components.pairs import Pairs
from circuits.model import Model
from circuits.transcoders.base import Dictionary
from graphs.assays import Assay
from graphs.graph import AttributionGraph
from graphs.pruning import prune
from graphs.scores import scores

EXPERIMENTS = ("ablations", "subsets", "curves")  # what the tables need; a deep assay has all
NAN = float("nan")


def measure_graphs(cell: Cell, model: Model, transcoders: Dictionary, pairs: Sequence[Pairs], preset: Preset) -> Result:
    """The first clean prompts of a split, each traced for right less wrong, pruned and put to the test.

    Raises:
        CircuitError: a prompt cannot be traced; the message says why.
    """
    asked = [few for each in pairs for few in each.split(1)][: preset.graphs]

    def trace() -> list[AttributionGraph]:
        return [
            prune(
                attribute(
                    model,
                    transcoders,
                    each.clean[0].tolist(),
                    [(int(each.right[0]), int(each.wrong[0]))],
                    max_features=preset.features,
                    method=cell.method,
                )
            )
            for each in asked
        ]

    graphs, spent = spend(trace, model.device)
    experiments = None if preset.deep else EXPERIMENTS
    more: dict[str, Any] = {
        "deep": preset.deep,
        "experiments": experiments,
        "controls": preset.graph_controls,
        "seed": cell.seed,
    }
    assays = [assay(model, transcoders, graph, **more) for graph in graphs]
    rows = []

    def tell(metric: str, of: Sequence[float], ablation: str = "", says: str = "") -> None:
        known = np.array([each for each in of if each == each])
        value, low, high = (NAN, NAN, NAN)
        if len(known) == 1:
            value = float(known[0])
        elif len(known):
            value, low, high = interval(draw_weights(len(known), draws=preset.draws) @ known)
        says = says or f"{len(known)} of {len(of)} prompts; {transcoders.name}"
        rows.append(
            replace(
                row_of(replace(cell, ablation=ablation), "graphs", says=says),
                **{"split": "test", "ranked": "influence", "count": float(len(known)), "metric": metric},
                **{"value": value, "low": low, "high": high},
                **{"seconds": spent.seconds / len(asked), "peak_memory": spent.peak_memory},
            )
        )

    for name in ("replacement", "completeness"):
        tell(f"graph {name}", [getattr(scores(graph), name) for graph in graphs])
    tell("graph nodes", [float(len(graph.nodes)) for graph in graphs])
    _tell_curves(assays, tell)
    for claim in dict.fromkeys(each.claim for found in assays for each in found.verdicts):
        said = [each.verdict for found in assays for each in found.verdicts if each.claim == claim]
        tested = [float(each == "supported") if each != "untested" else NAN for each in said]
        why = next((each.control for found in assays for each in found.verdicts if each.claim == claim), "")
        tell(f"supported: {claim}", tested, says="" if any(each == each for each in tested) else why)
    return Result(rows)


def _tell_curves(assays: Sequence[Assay], tell: Callable[..., None]) -> None:
    """Areas of level 5, beside those of random sets; none of graphs without a unit."""
    kinds = dict.fromkeys((each.ablation, each.errors) for found in assays for each in found.curves)
    for ablation, errors in kinds:
        curves = [
            each for found in assays for each in found.curves if (each.ablation, each.errors) == (ablation, errors)
        ]
        grown = [each for each in curves if len(each.kept) > 1 and each.kept[-2]]
        says = "" if grown else "no graph has a feature"
        tell(f"area, errors {errors}", [each.area for each in grown], ablation, says)
        null = [float(np.mean(each.random_area)) if len(each.random_area) else NAN for each in grown]
        tell(f"area of matched random, errors {errors}", null, ablation, says)
