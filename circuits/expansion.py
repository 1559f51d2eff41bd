"""Which units are traced, in what order, and what is known of those that are not.

Influence is exact for a unit when every later one was either traced or left as the end of its paths. What is left is
then bounded: of all paths to the goal, `left` is the share that meets a unit left untraced, so no node carries more
than its influence in the graph plus `left`.

    all      every unit
    rounds   the most influential so far, some at a time, until a number of them is traced (circuit-tracer's order)
    layers   from the last layer to the first, every unit whose influence is at least a share of the goal

Source: Ameisen et al. 2025, "Circuit Tracing", adaptive expansion; METHODS section 4; `layers` and the bound are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from circuits.errors import BadOption
from circuits.packing import Rows, carry, stack
from circuits.reading import Reading, join_readings

ROUND = 2048  # under a budget, units traced before influence is estimated anew; the peer's four batches of 512

Part = tuple[Reading, Int[np.ndarray, "_"]]


@dataclass(frozen=True)
class Expansion:
    """How much of a trace is expanded; all of it by default.

    max_features: so many units at most, the most influential. round_size: how many before influence is taken anew.
    min_influence: instead, every unit that carries at least this share of the goal.

    Raises:
        BadOption: a number out of range, or two rules at once.
    """

    max_features: int | None = None
    min_influence: float | None = None
    round_size: int = ROUND

    def __post_init__(self) -> None:
        if self.max_features is not None and self.max_features < 1:
            raise BadOption(f"max_features must be at least 1 or left out, found {self.max_features}.")
        if self.min_influence is not None and not 0 < self.min_influence < 1:
            raise BadOption(f"min_influence must be a share above 0 and below 1, found {self.min_influence}.")
        if self.max_features is not None and self.min_influence is not None:
            raise BadOption("max_features and min_influence are two rules for one thing: give one of them.")
        if self.round_size < 1:
            raise BadOption(f"round_size must be at least 1, found {self.round_size}.")

    @property
    def order(self) -> str:
        if self.min_influence is not None:
            return "layers"
        return "all" if self.max_features is None else "rounds"


def expand(
    wanted: Expansion,
    units: Reading,
    at_units: Int[np.ndarray, "unit"],
    own: Sequence[int],
    others: Reading | None,
    at_others: Int[np.ndarray, "other"],
    goal: Float[np.ndarray, "node"],
    found: list[Rows],
) -> Iterator[Part]:
    """What to trace next, with the node rows of it, later layers first.

    units, others: every target there is, units and what is a target only, with their node rows. own: the units that are
        targets of the goal; they are always traced. goal: how much each node counts.
    found: the rows traced so far. They must have grown by what was asked for before the next is asked for.
    """
    first = [] if others is None else [(others, at_others)]
    budget = len(at_units) if wanted.max_features is None else max(wanted.max_features, len(own))
    if wanted.order == "layers":
        yield from _by_layers(wanted, units, at_units, own, first, goal, found)
    elif budget >= len(at_units):
        yield _together([*first, (units, at_units)])
    else:
        yield from _by_rounds(wanted, budget, units, at_units, own, first, goal, found)


def carried_by(rows: Rows, goal: Float[np.ndarray, "node"]) -> Float[np.ndarray, "node"]:
    """The influence of every node, paths ending where they meet one that is not traced. Rows sorted by target.

    Over the nodes that are not traced it counts every path once, where it first meets one of them.
    """
    reached = goal.copy()
    carry(rows, reached, rows.size - rows.bias)
    return reached - goal


def _by_rounds(
    wanted: Expansion,
    budget: int,
    units: Reading,
    at_units: Int[np.ndarray, "unit"],
    own: Sequence[int],
    first: list[Part],
    goal: Float[np.ndarray, "node"],
    found: list[Rows],
) -> Iterator[Part]:
    seen = np.zeros(len(at_units), dtype=bool)
    chosen = np.array(own, dtype=np.int64)
    parts = first
    while True:
        seen[chosen] = True
        yield _together([*parts, (units.take(chosen), at_units[chosen])])
        left = budget - int(seen.sum())
        if left == 0:
            return
        estimate = np.where(seen, -1.0, carried_by(stack(found), goal)[at_units])
        chosen = np.sort(np.argsort(-estimate, kind="stable")[: min(left, wanted.round_size)])
        parts = []


def _by_layers(
    wanted: Expansion,
    units: Reading,
    at_units: Int[np.ndarray, "unit"],
    own: Sequence[int],
    first: list[Part],
    goal: Float[np.ndarray, "node"],
    found: list[Rows],
) -> Iterator[Part]:
    least = (wanted.min_influence or 0.0) * goal.sum()
    reached, counted = goal.copy(), 0
    always = np.zeros(len(at_units), dtype=bool)
    always[list(own)] = True
    if first:
        yield _together(first)
    for layer in np.unique(units.targets.layer)[::-1]:
        for rows in found[counted:]:  # of one layer: none feeds another
            carry(rows, reached, rows.size - rows.bias)
        counted = len(found)
        here = units.targets.layer == layer
        chosen = np.flatnonzero(here & (always | (reached[at_units] >= least)))
        if len(chosen):
            yield _together([(units.take(chosen), at_units[chosen])])


def _together(parts: Sequence[Part]) -> Part:
    """Several in one, the latest in reading order first, as a sweep wants them."""
    reading = join_readings([reading for reading, _ in parts])
    at = np.concatenate([rows for _, rows in parts])
    order = np.lexsort((-at, -reading.targets.layer))
    return reading.take(order), at[order]
