"""Everything a trace holds that writes into the residual stream, by the place and position where it is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.sweep import Gradient
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary, written_within

PUSHED = 2**26  # numbers in the embeddings carried through the first attention, at most
KEPT = 2**25  # numbers in the vectors kept from one sweep to the next, at most; more are gathered anew each time
RUNS = 4  # stretches of neighbouring columns that are worth adding one by one


@dataclass(frozen=True, eq=False)
class Columns:
    """Which column of a score matrix each source has, -1 for those that are not scored.

    tokens [pos], units [active], errors [layer pos], constants [constant].
    """

    tokens: Int[np.ndarray, "pos"]
    units: Int[np.ndarray, "active"]
    errors: Int[np.ndarray, "layer pos"]
    constants: Int[np.ndarray, "constant"]


@dataclass(frozen=True, eq=False)
class Written:
    """What is written at one place and position.

    vectors: [source d_model]. parts: (first, last, columns): where the scores of vectors[first:last] belong.
    """

    vectors: Float[Tensor, "source d_model"]
    parts: list[tuple[int, int, slice | Tensor]]


class Sources:
    """The sources of one trace as vectors in the residual stream, found place by place as a sweep comes by.

    window: how many layers past its own a unit's writes count; None for all.
    """

    def __init__(self, run: Trace, dictionary: Dictionary, columns: Columns, *, window: int | None = None) -> None:
        self._run = run
        self._dictionary = dictionary
        self._columns = columns
        self._window = window
        layers, length = run.frozen.layers, len(run.tokens)
        # Units stand by layer, then by position: those of one cell are first[cell] up to first[cell + 1].
        cell = (run.layer * length + run.position).cpu().numpy()
        self._first = np.searchsorted(cell, np.arange(layers * length + 1))
        self.pushed = not run.frozen.parallel and length * length * run.residual.shape[1] <= PUSHED
        self._embedded = self._embed()
        writes = sum(
            int(self._first[(source + 1) * length] - self._first[source * length])
            * len(written_within(dictionary, source, window))
            for source in range(layers)
        )
        self._room = writes * run.residual.shape[1] <= KEPT
        self._kept: dict[tuple[str, int], list[Written | None]] = {}

    def score(self, weight: Float[Tensor, "target column"], place: str, layer: int, gradient: Gradient) -> None:
        """Add to each target's row what every source written at this place gives, by the gradient there."""
        if gradient.live == 0:
            return
        for position, written in enumerate(self._written(place, layer)):
            if written is None:
                continue
            targets, g = gradient.at(position)
            if targets.shape[0] == 0:
                continue
            scores = g @ written.vectors.T
            for first, last, columns in written.parts:
                if isinstance(columns, slice):
                    weight[:, columns].index_add_(0, targets, scores[:, first:last])
                else:
                    weight.index_put_((targets[:, None], columns), scores[:, first:last], accumulate=True)

    def _written(self, place: str, layer: int) -> list[Written | None]:
        """For each position what is written there; kept for the next sweep if there is room for all of it."""
        if (place, layer) in self._kept:
            return self._kept[(place, layer)]
        found = [_join(entries, self._run.residual.device) for entries in self._entries(place, layer)]
        if self._room:
            self._kept[(place, layer)] = found
        return found

    def _entries(self, place: str, layer: int) -> Iterator[list[tuple[np.ndarray, Tensor]]]:
        """For each position, (columns, vectors) of what is written there. Columns of one entry differ."""
        run, columns = self._run, self._columns
        constants = [
            (columns.constants[i : i + 1], constant.vectors)
            for i, constant in enumerate(run.constants)
            if (constant.place, constant.layer) == (place, layer) and columns.constants[i] >= 0
        ]
        embeddings = place == "embedding" or (self.pushed and (place, layer) == ("attention", 0))
        by_source = list(self._units(layer)) if place == "mlp" else []
        for position in range(len(run.tokens)):
            written = [(column, vectors[position : position + 1]) for column, vectors in constants]
            for unit_columns, vectors, first in by_source:
                here = slice(first[position], first[position + 1])
                scored = unit_columns[here] >= 0
                if scored.all():
                    written.append((unit_columns[here], vectors[here]))
                elif scored.any():
                    written.append((unit_columns[here][scored], vectors[here][torch.from_numpy(scored)]))
            if place == "mlp" and run.errors is not None and columns.errors[layer, position] >= 0:
                written.append((columns.errors[layer, position : position + 1], run.errors[layer, position, None]))
            if embeddings:
                written += self._embedded[position]
            yield [entry for entry in written if len(entry[0])]

    def _units(self, layer: int) -> Iterator[tuple[np.ndarray, Tensor, np.ndarray]]:
        """For each layer that writes here: its units' columns, what they write, and where each position begins."""
        run, length = self._run, len(self._run.tokens)
        for source in range(layer + 1):
            if layer not in written_within(self._dictionary, source, self._window):
                continue
            first = self._first[source * length : (source + 1) * length + 1]
            here = slice(first[0], first[-1])
            vectors = run.activation[here, None] * self._dictionary.writing(source, run.unit[here], layer)
            vectors = run.frozen.written(vectors, layer, run.position[here], self._dictionary.writes)
            yield self._columns.units[here], vectors, first - first[0]

    def _embed(self) -> list[list[tuple[np.ndarray, Tensor]]]:
        """For each position, embeddings as they stand there: its own, or all to the left carried through attention 0.

        Where they are carried, position embeddings are too; else they are constants like any other.
        """
        run, columns = self._run, self._columns
        embedding, length = run.frozen.embedding, len(run.tokens)
        if not self.pushed:
            found = [[(columns.tokens[at : at + 1], embedding[at, None])] for at in range(length)]
        else:
            attention = run.frozen.attention[0]
            carried = attention.spread_each(embedding)
            carried.diagonal().add_(embedding.T)
            found = [[(columns.tokens[: at + 1], carried[at, : at + 1])] for at in range(length)]
            for i, constant in enumerate(run.constants):
                if constant.place == "embedding":
                    vectors = constant.vectors + attention.forward(constant.vectors)
                    for at, entries in enumerate(found):
                        entries.append((columns.constants[i : i + 1], vectors[at, None]))
        return [[entry for entry in entries if (entry[0] >= 0).all()] for entries in found]


def _join(entries: list[tuple[np.ndarray, Tensor]], device: torch.device) -> Written | None:
    """Entries in one matrix, for one product; columns that are neighbours go to their place in one piece."""
    if not entries:
        return None
    columns = np.concatenate([columns for columns, _ in entries])
    vectors = torch.cat([vectors for _, vectors in entries])
    ends = [0, *(np.flatnonzero(np.diff(columns) != 1) + 1).tolist(), len(columns)]
    if len(ends) - 1 > max(RUNS, len(columns) // 8):
        return Written(vectors, [(0, len(columns), torch.from_numpy(columns).to(device))])
    runs: list[tuple[int, int, slice | Tensor]] = [
        (first, last, slice(int(columns[first]), int(columns[last - 1]) + 1)) for first, last in pairwise(ends)
    ]
    return Written(vectors, runs)
