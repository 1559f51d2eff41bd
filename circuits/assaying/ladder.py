"""The experiments, in the order in which they are run when time is short."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from circuits.assaying.bench import Bench
from circuits.assaying.between import test_between
from circuits.assaying.controls import test_controls
from circuits.assaying.curves import test_curves
from circuits.assaying.disturbing import test_disturbances
from circuits.assaying.edges import test_edges
from circuits.assaying.examples import test_examples
from circuits.assaying.minimality import test_minimality
from circuits.assaying.sets import test_seeds, test_sets
from circuits.assaying.single import test_doses, test_singly
from circuits.assaying.stability import test_prunings, test_rewordings
from circuits.assaying.steps import test_steps
from graphs.assays import (
    Ablation,
    Between,
    Contributions,
    Control,
    Curve,
    Disturbance,
    Edges,
    Examples,
    Prunings,
    Rewording,
    Steps,
    Subset,
)


@dataclass(frozen=True)
class Experiment:
    """words: what it tests, for a reader. record: what it leaves, a list of these. run: does it."""

    words: str
    record: type
    run: Callable[[Bench], list[Any]]


OF_WORDINGS = ("rewordings", "examples")  # run where there are other wordings

# By the field of an Assay that holds the records.
EXPERIMENTS = {
    "ablations": Experiment("nodes ablated one by one", Ablation, test_singly),
    "subsets": Experiment("the whole graph against random sets", Subset, test_sets),
    "edges": Experiment("each edge by experiment", Edges, test_edges),
    "doses": Experiment("nodes halved and turned round", Ablation, test_doses),
    "steps": Experiment("where predictions are lost", Steps, test_steps),
    "between": Experiment("nodes ablated, all others read", Between, test_between),
    "disturbances": Experiment("a small change in both models", Disturbance, test_disturbances),
    "contributions": Experiment("what each feature adds to the graph", Contributions, test_minimality),
    "curves": Experiment("keeping more and more of the graph", Curve, test_curves),
    "controls": Experiment("graphs that should do worse", Control, test_controls),
    "reseeded": Experiment("the whole graph, all that is random drawn anew", Subset, test_seeds),
    "prunings": Experiment("pruning it otherwise", Prunings, test_prunings),
    "rewordings": Experiment("asking in other words", Rewording, test_rewordings),
    "examples": Experiment("the graph's features in other wordings", Examples, test_examples),
}
QUICK = ("ablations", "subsets")  # what every trace gets
