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
from circuits.assaying.groups import test_groups
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
    Group,
    Prunings,
    Rewording,
    Steps,
    Subset,
)


@dataclass(frozen=True)
class Experiment:
    """record: what it leaves, a list of these. run: does it."""

    record: type
    run: Callable[[Bench], list[Any]]


OF_WORDINGS = ("rewordings", "examples")  # run where there are other wordings
OF_GROUPS = ("groups",)  # run where groups are given

# By the field of an Assay that holds the records; in words in `graphs.assays.STAGES`.
EXPERIMENTS = {
    "ablations": Experiment(Ablation, test_singly),
    "subsets": Experiment(Subset, test_sets),
    "groups": Experiment(Group, test_groups),
    "edges": Experiment(Edges, test_edges),
    "doses": Experiment(Ablation, test_doses),
    "steps": Experiment(Steps, test_steps),
    "between": Experiment(Between, test_between),
    "disturbances": Experiment(Disturbance, test_disturbances),
    "contributions": Experiment(Contributions, test_minimality),
    "curves": Experiment(Curve, test_curves),
    "controls": Experiment(Control, test_controls),
    "reseeded": Experiment(Subset, test_seeds),
    "prunings": Experiment(Prunings, test_prunings),
    "rewordings": Experiment(Rewording, test_rewordings),
    "examples": Experiment(Examples, test_examples),
}
QUICK = ("ablations", "subsets")  # what every trace gets
