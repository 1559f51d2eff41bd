"""What every experiment on one graph works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.assaying import thresholds
from circuits.assaying.metric import Metric
from circuits.attending import places_of
from circuits.attribution.direct import UNITS
from circuits.model import Model
from circuits.progress import Progress
from circuits.sampling import activations_on, mean_activations, sample_prompts
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary
from graphs.graph import AttributionGraph


@dataclass(frozen=True, eq=False)
class Bench:
    """One graph, the model and transcoders it was made with, and the clean run of its prompt.

    metric: what is measured. ablated: rows of the nodes that are ablated one by one.
    controls: how many random sets. seed: of every random choice.
    progress: called with (what is being done, runs done, runs in all).
    paraphrases: the question in other words, as token ids. groups: rows of the groups that are tested, by name.
    """

    model: Model
    transcoders: Dictionary
    run: Trace
    graph: AttributionGraph
    metric: Metric
    ablated: Int[np.ndarray, "ablated"]
    controls: int
    seed: int
    progress: Progress
    paraphrases: Sequence[Sequence[int]] = ()
    groups: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @cached_property
    def active(self) -> Int[Tensor, "active 3"]:
        """(layer, position, unit) of every active unit."""
        return torch.stack([self.run.layer, self.run.position, self.run.unit], dim=1)

    @cached_property
    def units(self) -> Int[np.ndarray, "unit"]:
        """The graph's features or neurons but for what it explains, rows of its node table, most influential first."""
        return strongest_units(self.graph, self.metric.rows)

    def places(self, rows: Int[np.ndarray, "unit"]) -> Int[Tensor, "unit 3"]:
        """(layer, position, unit) of some of the graph's nodes."""
        return torch.from_numpy(places_of(self.graph.nodes, rows)).to(self.active)

    @cached_property
    def means(self) -> list[Float[Tensor, "_"]]:
        """Each unit's mean activation over prompts that the model samples itself, per layer."""
        length = min(max(len(self.run.tokens), 2), thresholds.LONGEST)
        return mean_activations(self.model, self.transcoders, self._sample(thresholds.PROMPTS, length, self.seed))

    @cached_property
    def elsewhere(self) -> list[list[Float[Tensor, "pos _"]]]:
        """Every unit's activation at each position of other prompts, as long as this one; per prompt, per layer."""
        prompts = self._sample(thresholds.RESAMPLED, max(len(self.run.tokens), 2), self.seed + 1)
        return [activations_on(self.model, self.transcoders, prompt[: len(self.run.tokens)]) for prompt in prompts]

    def fills(self, ablation: str) -> list[list[Tensor] | None]:
        """What ablated units get under "mean", "zero" or "resample": one filling, or several to be averaged over."""
        return {"mean": lambda: [self.means], "zero": lambda: [None], "resample": lambda: [*self.elsewhere]}[ablation]()

    def count(self, what: str, total: int) -> Callable[[int], None]:
        """A function that reports some more runs done of so many."""
        done = 0

        def add(runs: int) -> None:
            nonlocal done
            done += runs
            self.progress(what, done, total)

        return add

    def _sample(self, count: int, length: int, seed: int) -> Int[Tensor, "prompt pos"]:
        first = int(self.run.tokens[0])
        return sample_prompts(self.model, first, count=count, length=length, seed=seed, progress=self.progress)


def strongest_units(graph: AttributionGraph, but: Sequence[int] | np.ndarray = ()) -> Int[np.ndarray, "unit"]:
    """A graph's features or neurons but for some, rows of its node table, the most influential first."""
    rows = np.setdiff1d(graph.nodes.where(*UNITS), np.asarray(but, dtype=np.int64))
    return rows[np.argsort(-graph.nodes.influence[rows], kind="stable")]
