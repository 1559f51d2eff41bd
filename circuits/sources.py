"""Everything a trace holds that writes into the residual stream, by the place and position where it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.attending import OFFSET
from circuits.packing import Runs, Sheet, Stretches, runs_of
from circuits.sweep import Gradient
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary, written_within
from circuits.transcoders.with_attention import attention_of

PUSHED = 2**25  # numbers in the embeddings carried through the first attention, at most
KEPT = 2**25  # numbers in the vectors kept from one sweep to the next, at most; more are gathered anew each time


@dataclass(frozen=True, eq=False)
class Columns:
    """Which column each source has, -1 for those that are not scored; and what rows of these columns look like.

    tokens [pos], units [active], errors [layer pos], constants [constant]. attention_errors: of replaced attentions.
    """

    tokens: Int[np.ndarray, "pos"]
    units: Int[np.ndarray, "active"]
    errors: Int[np.ndarray, "layer pos"]
    attention_errors: Int[np.ndarray, "layer pos"]
    constants: Int[np.ndarray, "constant"]
    stretches: Stretches


@dataclass(frozen=True, eq=False)
class Written:
    """What is written at one place.

    vectors: by position; those of position p are first[p] : first[p + 1]. [source d_model]
    runs: where their scores belong.
    """

    vectors: Float[Tensor, "source d_model"]
    first: Int[np.ndarray, "_"]
    runs: Runs


@dataclass(frozen=True, eq=False)
class Entry:
    """Sources of one sort that are written at a place: where, in which columns, and how to get what they write."""

    position: Int[np.ndarray, "source"]
    column: Int[np.ndarray, "source"]
    vectors: Callable[[], Float[Tensor, "source d_model"]]


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
        self._position = run.position.cpu().numpy()
        passed = not run.frozen.parallel and 0 not in run.frozen.looks
        self.pushed = passed and length * length * run.residual.shape[1] <= PUSHED
        writes = sum(
            _count(run.units_at("mlp", source)) * len(written_within(dictionary, source, window))
            + _count(run.units_at("attention", source))
            for source in range(layers)
        )
        self._room = writes * run.residual.shape[1] <= KEPT
        self._kept: dict[tuple[str, int], Written | None] = {}

    def score(self, sheet: Sheet, place: str, layer: int, gradient: Gradient) -> None:
        """Add to each target's row what every source written at this place gives, by the gradient there."""
        if gradient.live == 0:
            return
        written = self._written(place, layer)
        if written is None:
            return
        at = gradient.joined if place == "attention" and self._beside(layer) else gradient.at
        first = written.first.tolist()
        for position, (begin, end) in enumerate(pairwise(first)):
            if begin == end:
                continue
            targets, g = at(position)
            if targets.shape[0]:
                sheet.add(targets, g @ written.vectors[begin:end].T, written.runs, begin)

    def _beside(self, layer: int) -> bool:
        """Whether a gradient is the same at a layer's MLP output and at its attention's: no skip leads in between.

        What attention writes is then scored together with what the MLP writes; later only for targets that have joined.
        """
        return self._dictionary.skip(layer) is None

    def _written(self, place: str, layer: int) -> Written | None:
        """What is written at a place; kept for the next sweep if there is room for all of it."""
        if (place, layer) in self._kept:
            return self._kept[(place, layer)]
        found = _gather(list(self._entries(place, layer)), self._run.residual, self._columns.stretches)
        if self._room:
            self._kept[(place, layer)] = found
        return found

    def _entries(self, place: str, layer: int) -> Iterator[Entry]:
        run, columns = self._run, self._columns
        everywhere = np.arange(len(run.tokens))
        for i, constant in enumerate(run.constants):
            if (constant.place, constant.layer) == (place, layer):
                here = everywhere if constant.position < 0 else everywhere[constant.position : constant.position + 1]
                yield Entry(
                    here, np.full(len(here), columns.constants[i]), lambda at=here, each=constant: each.vectors[at]
                )
        if place == "attention" and layer in run.attended:
            yield from self._attended(layer)
        if place == "mlp":
            yield from self._units(layer)
            errors = run.errors
            if errors is not None:
                yield Entry(everywhere, columns.errors[layer], lambda: errors[layer])
            if self._beside(layer):
                yield from self._entries("attention", layer)
        elif place == "embedding":
            yield Entry(everywhere, columns.tokens, lambda: run.frozen.embedding)
        elif layer == 0 and self.pushed:
            yield from self._carried()

    def _units(self, layer: int) -> Iterator[Entry]:
        """The units of every layer that writes here."""
        for source in range(layer + 1):
            if layer in written_within(self._dictionary, source, self._window):
                here = self._run.units_at("mlp", source)
                yield Entry(
                    self._position[here],
                    self._columns.units[here],
                    lambda source=source, here=here: self._write(source, here, layer),
                )

    def _write(self, source: int, here: slice, layer: int) -> Float[Tensor, "source d_model"]:
        run, dictionary = self._run, self._dictionary
        vectors = run.activation[here, None] * dictionary.writing(source, run.unit[here], layer)
        return run.frozen.written(vectors, layer, run.position[here], dictionary.at(layer).writes)

    def _attended(self, layer: int) -> Iterator[Entry]:
        """What a replaced attention is made of, but for its bias."""
        run, attention = self._run, attention_of(self._dictionary)
        here = run.units_at("attention", layer)
        assert attention is not None

        def write() -> Tensor:
            vectors = run.activation[here, None] * attention.writing(layer, run.unit[here] - OFFSET)
            return run.frozen.attention_written(vectors, layer, run.position[here], attention.writes)

        yield Entry(self._position[here], self._columns.units[here], write)
        errors = run.attended[layer].errors
        yield Entry(np.arange(len(errors)), self._columns.attention_errors[layer], lambda: errors)

    def _carried(self) -> Iterator[Entry]:
        """Embeddings carried through the first attention: at each position what every token to its left has become.

        Position embeddings are carried too; without this they are constants like any other.
        """
        run, attention = self._run, self._run.frozen.attention[0]
        length = len(run.tokens)
        at, of = np.tril_indices(length) if run.frozen.causal else np.indices((length, length)).reshape(2, -1)

        def carried() -> Tensor:
            found = attention.spread_each(run.frozen.embedding)
            found.diagonal().add_(run.frozen.embedding.T)
            return found[at, of]

        yield Entry(at, self._columns.tokens[of], carried)
        for i, constant in enumerate(run.constants):
            if constant.place == "embedding":
                everywhere = np.arange(len(run.tokens))
                yield Entry(
                    everywhere,
                    np.full(len(everywhere), self._columns.constants[i]),
                    lambda each=constant: each.vectors + attention.forward(each.vectors),
                )


def _count(rows: slice) -> int:
    return rows.stop - rows.start


def _gather(entries: list[Entry], stream: Float[Tensor, "pos d_model"], stretches: Stretches) -> Written | None:
    """Entries in one matrix by position, then by column: neighbours there go to their places in one run."""
    scored = [entry.column >= 0 for entry in entries]
    if not any(each.any() for each in scored):
        return None
    position = np.concatenate([entry.position[at] for entry, at in zip(entries, scored, strict=True)])
    column = np.concatenate([entry.column[at] for entry, at in zip(entries, scored, strict=True)])
    order = np.lexsort((column, position))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    vectors, done = stream.new_empty(len(order), stream.shape[1]), 0
    for entry, at in zip(entries, scored, strict=True):
        if not at.any():
            continue
        given = entry.vectors()
        count = int(at.sum())
        to = torch.from_numpy(place[done : done + count]).to(given.device)
        vectors[to] = given if at.all() else given[torch.from_numpy(at).to(given.device)]
        done += count
    position, column = position[order], column[order]
    runs = runs_of(column, stretches, np.diff(position) != 0)
    return Written(vectors, np.searchsorted(position, np.arange(len(stream) + 1)), runs)
