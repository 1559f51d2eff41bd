"""What every experiment on one graph works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from circuits.assaying.metric import Metric
from circuits.model import Model
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary
from graphs.graph import AttributionGraph

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Bench:
    """One graph, the model and transcoders it was made with, and the clean run of its prompt.

    metric: what is measured. seed: of every random choice. controls: how many random sets.
    progress: called with (what is being done, runs done, runs in all).
    """

    model: Model
    transcoders: Dictionary
    run: Trace
    graph: AttributionGraph
    metric: Metric
    seed: int
    controls: int
    progress: Progress

    @property
    def units(self) -> list[int]:
        """The graph's features or neurons, rows of its node table, the most influential first."""
        rows = self.graph.nodes.where("feature", "neuron")
        return rows[(-self.graph.nodes.influence[rows]).argsort(kind="stable")].tolist()
