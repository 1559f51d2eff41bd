"""A task in a model under one ablation, made ready once for all methods: what is chosen on, what is measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.bench.bootstrap import draw_weights, interval
from benchmarks.bench.curves import Course, Ends, run_ends
from benchmarks.bench.levels import INSIDE
from circuits.components.ablations import ABLATIONS, Ablation
from circuits.components.metrics import Metric, logit_difference
from circuits.components.opening import check_faithful
from circuits.components.pairs import Pairs, gather
from circuits.components.taking_apart import take_apart
from circuits.components.transformer import Transformer
from circuits.errors import BadOption
from circuits.model import Model
from circuits.transcoders.base import Dictionary

MEASURED = ("validation", "test")
Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Situation:
    """parts: pieces of the training split, each of one length and one phrasing, with that phrasing.

    train: the same, all together. courses, ends: of the other splits. unfit: why nothing can be measured here, or "".
    """

    transformer: Transformer
    metric: Metric
    ablation: str
    ablate: Ablation
    train: Sequence[Pairs]
    parts: Sequence[tuple[str, Pairs]]
    courses: Mapping[str, Course]
    ends: Mapping[str, Ends]
    unfit: str


def prepare(
    model: Model,
    transformer: Transformer,
    splits: Mapping[str, Records],
    ablation: str,
    *,
    level: str,
    dictionary: Callable[[], Dictionary],
    features: int,
    parts: int,
    draws: int,
) -> Situation:
    """Lay a task out. What takes the place of components is learned on the training split alone.

    level: one of LEVELS; for features the MLPs are taken apart into those of the dictionary that are active on training
    prompts, so many at most. parts: into about how many pieces the training split is cut. draws: of the bootstrap.

    Raises:
        UnfitTranscoders: the dictionary's features are parts of no one MLP.
        BadOption: means by position are wanted of lengths that no training prompt has.
        BadPairs: a record is no pair for this model. UnfaithfulModel: it has a part that is not known here.
    """
    gathered = {name: gather(model, _named(name, splits[name])) for name in ("train", *MEASURED)}
    check_faithful(transformer, model, gathered["train"][0].clean[:1])
    lengths = {name: {each.clean.shape[1] for each in pairs} for name, pairs in gathered.items()}
    if ablation == "mean-by-position" and set().union(*lengths.values()) != lengths["train"]:
        raise BadOption("means by position are those of training prompts, and some others are of another length.")
    if level == "features":
        transformer = take_apart(transformer, dictionary(), gathered["train"], features)
    ablate = ABLATIONS[ablation](
        transformer, gathered["train"], lambda name, done, total: None, neurons=level in INSIDE
    )
    courses = {name: Course(transformer, gathered[name], logit_difference, ablate) for name in MEASURED}
    ends = {name: run_ends(course) for name, course in courses.items()}
    return Situation(
        transformer=transformer,
        metric=logit_difference,
        ablation=ablation,
        ablate=ablate,
        train=gathered["train"],
        parts=_cut(model, splits["train"], parts),
        courses=courses,
        ends=ends,
        unfit=next((why for name, each in ends.items() if (why := _unfit(name, each, draws))), ""),
    )


def _named(split: str, records: Records) -> list[tuple[str, Mapping[str, Any]]]:
    return [(f"{split} pair {number}", each) for number, each in enumerate(records, start=1)]


def _cut(model: Model, records: Records, parts: int) -> list[tuple[str, Pairs]]:
    size = max(1, -(-len(records) // parts))
    phrasings: dict[str, list[Mapping[str, Any]]] = {}
    for each in records:
        phrasings.setdefault(str(each.get("phrasing", "")), []).append(each)
    return [
        (phrasing, few)
        for phrasing, those in phrasings.items()
        for pairs in gather(model, _named("train", those))
        for few in pairs.split(size)
    ]


def _unfit(split: str, ends: Ends, draws: int) -> str:
    """Why a share of the difference between clean and ablated would mean nothing."""
    weights = draw_weights(len(ends.clean), draws=draws)
    _, low, _ = interval(weights @ (ends.clean - ends.ablated))
    if low > 0:
        return ""
    return (
        f"on the {split} split the metric is {np.mean(ends.clean):.2f} in the model and {np.mean(ends.ablated):.2f} "
        f"where all is ablated, not surely more, over {len(ends.clean)} prompts, {np.mean(ends.right):.0%} of them "
        "answered rightly: there is no difference for a circuit to keep"
    )
