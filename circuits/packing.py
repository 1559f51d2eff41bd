"""Rows of edges packed side by side: a row has room for what can reach its target, and for nothing else.

Columns stand in groups: tokens, biases, then the sources of each layer by position. A target of layer l at position p
can have the first l + 2 groups, of each of them what stands up to p. Where attention is replaced, what it writes is a
group of its own before that of its layer's MLP, which a target of that layer can have too. Scores are added on a
`Sheet` of some rows; `pack` drops what is zero, and sums up each row on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from numba import njit
from torch import Tensor

BIASES, FIRST_LAYER = 1, 2  # which groups these are; tokens are group 0
IN_MEMORY = 2**30  # bytes of edges; more stand in files


@dataclass(frozen=True, eq=False)
class Stretches:
    """Which columns a row can have.

    begin: where each group begins. [group] end: where what stands up to each position ends. [group pos]
    halved: whether a layer has two groups, its attention's and its MLP's.
    """

    begin: Int[np.ndarray, "group"]
    end: Int[np.ndarray, "group pos"]
    halved: bool = False

    @property
    def width(self) -> Int[np.ndarray, "group pos"]:
        """How many columns a row at each position has in the groups up to each."""
        return (self.end - self.begin[:, None]).cumsum(0)

    @property
    def shift(self) -> Int[np.ndarray, "group pos"]:
        """What is added to a column for its place in a row at each position."""
        return self.width - self.end

    def groups(self, layer: Shaped[np.ndarray, "row"]) -> Int[np.ndarray, "row"]:
        """How many groups rows of targets in these layers have; one between two layers has the lower one's."""
        before = 2 * layer + 1 if self.halved else np.ceil(layer)
        return np.minimum(before.astype(np.int64) + FIRST_LAYER, len(self.begin))

    def widths(self, layer: Shaped[np.ndarray, "row"], position: Int[np.ndarray, "row"]) -> Int[np.ndarray, "row"]:
        """How many columns rows of these targets have."""
        return self.width[self.groups(layer) - 1, position]


@dataclass(frozen=True, eq=False)
class Runs:
    """Columns of a matrix of scores, as runs of neighbours in a row.

    column: of each score. [score] group: its group. [score]
    first: where each run begins, and the end of the last. [run + 1]
    """

    column: Int[np.ndarray, "score"]
    group: Int[np.ndarray, "score"]
    first: Int[np.ndarray, "_"]


class Sheet:
    """Some rows being filled, all zero at first.

    weight: the rows, one after the other. [place] start: where each begins, and the end of the last. [row + 1]
    groups: how many groups of columns each row has. position: of its target. [row]

    layer: of each row's target; half a layer more for one that sees what is written at its own layer. [row]
    """

    def __init__(
        self, stretches: Stretches, layer: Shaped[np.ndarray, "row"], position: Int[np.ndarray, "row"], like: Tensor
    ) -> None:
        self.start = np.concatenate([[0], np.cumsum(stretches.widths(layer, position))])
        self.groups, self.position = stretches.groups(layer), position
        self.weight = like.new_zeros(int(self.start[-1]))
        self._shift, self._end = stretches.shift, stretches.end

    def add(self, rows: Int[Tensor, "row"], scores: Float[Tensor, "row score"], runs: Runs, first: int = 0) -> None:
        """Add scores to these rows, which must differ; theirs are the runs' columns from `first` on."""
        kernel = self._add_on_cpu if self.weight.device.type == "cpu" else self._add_indexed
        kernel(rows, scores, runs, first)

    def _add_on_cpu(self, rows: Tensor, scores: Tensor, runs: Runs, first: int) -> None:
        run = int(np.searchsorted(runs.first, first))
        place = self.weight.numpy(), self.start, self._shift, self._end, self.groups, self.position
        _add(*place, rows.numpy(), scores.numpy(), runs.column, runs.group, runs.first, run)

    def _add_indexed(self, rows: Tensor, scores: Tensor, runs: Runs, first: int) -> None:
        at, here = rows.cpu().numpy(), slice(first, first + scores.shape[1])
        place = self.start[at][:, None] + self._shift[runs.group[here]][:, self.position[at]].T + runs.column[here]
        self.weight[torch.from_numpy(place).to(self.weight.device)] += scores


@dataclass(frozen=True, eq=False)
class Rows:
    """Targets with all that flows into them. Rows may stand in any order; each names the node it leads to.

    target: the node each row leads to. [row] start: where its edges begin, and the end of the last. [row + 1]
    source, weight: the edges, by row, sources ascending. [edge]
    total, size, bias: per row the sum of its weights, of their sizes, and of the sizes of those from biases, taken in
    float64. [row]
    """

    target: Int[np.ndarray, "row"]
    start: Int[np.ndarray, "_"]
    source: Int[np.ndarray, "edge"]
    weight: Float[np.ndarray, "edge"]
    total: Float[np.ndarray, "row"]
    size: Float[np.ndarray, "row"]
    bias: Float[np.ndarray, "row"]

    def edges(self) -> tuple[Int[np.ndarray, "edge"], Int[np.ndarray, "edge"], Float[np.ndarray, "edge"]]:
        """Source, target and weight of every edge, in columns that nobody can write to any more."""
        target = spacious(len(self.source), np.dtype(np.int32))
        _repeat(self.target, self.start, target)
        for column in (self.source, target, self.weight):
            column.flags.writeable = False
        return self.source, target, self.weight


def pack(target: Int[np.ndarray, "row"], sheet: Sheet, stretches: Stretches, *, in_file: bool = False) -> Rows:
    """The rows of a sheet, without its zeros. in_file: keep them in a file without a name, gone with the rows."""
    weight = sheet.weight.cpu().numpy()
    source, packed = (spacious(len(weight), np.dtype(kind), in_file=in_file) for kind in (np.int32, weight.dtype))
    start, sums = np.zeros(len(target) + 1, dtype=np.int64), np.zeros((3, len(target)))
    _pack(weight, sheet.groups, sheet.position, stretches.begin, stretches.end, source, packed, start, sums)
    return Rows(target, start, source[: start[-1]], packed[: start[-1]], *sums)


def stack(parts: Sequence[Rows], place: Int[np.ndarray, "node"] | None = None) -> Rows:
    """All rows in one, sorted by target, in float64.

    place: where each node is to stand instead; edges from nodes that come to stand together are added up.
    """
    order = np.argsort(np.concatenate([part.target for part in parts]), kind="stable")
    row = np.empty(len(order), dtype=np.int64)
    row[order] = np.arange(len(order))
    nodes = 0 if place is None else int(place.max()) + 1
    length = np.zeros(len(order), dtype=np.int64)
    of_part = np.split(row, np.cumsum([len(part.target) for part in parts])[:-1])
    for part, rows in zip(parts, of_part, strict=True):
        length[rows] = np.diff(part.start) if place is None else _count(part.start, part.source, place, nodes)
    start = np.concatenate([[0], np.cumsum(length)])
    source, weight = (spacious(int(start[-1]), np.dtype(kind)) for kind in (np.int32, np.float64))
    for part, rows in zip(parts, of_part, strict=True):
        if place is None:
            _copy(part.start, part.source, part.weight, start[rows], source, weight)
        else:
            _merge(part.start, part.source, part.weight, place, nodes, start[rows], source, weight)
    target, total, size, bias = (
        np.concatenate([getattr(part, name) for part in parts])[order] for name in ("target", "total", "size", "bias")
    )
    return Rows(target if place is None else place[target], start, source, weight, total, size, bias)


def carry(rows: Rows, reached: Float[np.ndarray, "node"], gross: Float[np.ndarray, "row"]) -> None:
    """Hand on, in place, what has reached each row's target to its sources, by the size of their share.

    Rows must be sorted by target. gross: what shares are shares of. [row]
    """
    _carry(rows.target, rows.start, rows.source, rows.weight, gross, reached)


def runs_of(column: Int[np.ndarray, "score"], stretches: Stretches, apart: np.ndarray | None = None) -> Runs:
    """Columns as runs. apart: whether something else parts each column from the one before it. [score - 1]"""
    group = np.searchsorted(stretches.begin, column, side="right") - 1
    breaks = (np.diff(column) != 1) | (np.diff(group) != 0)
    if apart is not None:
        breaks |= apart
    return Runs(column, group, np.concatenate([[0], np.flatnonzero(breaks) + 1, [len(column)]]))


def spacious(length: int, dtype: np.dtype, *, in_file: bool = False) -> np.ndarray:
    """An array to be filled: in memory, or in a file without a name, gone with the array, if it is a very large one."""
    if length == 0 or (length * dtype.itemsize <= IN_MEMORY and not in_file):
        return np.empty(length, dtype=dtype)
    with TemporaryFile(prefix="circuits-") as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=(length,)).view(np.ndarray)


@njit(cache=True)
@no_type_check
def _add(weight, start, shift, end, groups, position, rows, scores, column, group, first, run):
    begin, count = first[run], scores.shape[1]
    for i in range(len(rows)):
        row = rows[i]
        at, here = start[row], position[row]
        r = run
        while r < len(first) - 1 and first[r] - begin < count:
            score = first[r]
            given = scores[i, score - begin : first[r + 1] - begin]
            if group[score] >= groups[row] or column[score] + len(given) > end[group[score], here]:
                raise IndexError("a row has no such column")
            to = at + shift[group[score], here] + column[score]
            taken = weight[to : to + len(given)]
            for k in range(len(given)):
                taken[k] += given[k]
            r += 1


# Sums may be taken in any order, so that several are taken at once; what is not finite must stay so.
@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
@no_type_check
def _pack(weight, groups, position, begin, end, source, packed, start, sums):
    at, edge = 0, 0
    for row in range(len(groups)):
        for group in range(groups[row]):
            first, last = begin[group], end[group, position[row]]
            length = last - first
            given = weight[at : at + length]
            found, summed, sized = 0, 0.0, 0.0
            for k in range(length):
                value = np.float64(given[k])
                found += value != 0
                summed += value
                sized += abs(value)
            sums[0, row] += summed
            sums[1, row] += sized
            if group == BIASES:
                sums[2, row] += sized
            if found == length:
                to, of = packed[edge : edge + length], source[edge : edge + length]
                for k in range(length):
                    to[k] = given[k]
                    of[k] = first + k
                edge += length
            elif found:
                for k in range(length):
                    if given[k] != 0:
                        packed[edge] = given[k]
                        source[edge] = first + k
                        edge += 1
            at += length
        start[row + 1] = edge


@njit(cache=True)
@no_type_check
def _carry(target, start, source, weight, gross, reached):
    for row in range(len(target) - 1, -1, -1):
        arrived = reached[target[row]]
        if arrived == 0 or gross[row] == 0:
            continue
        unit = arrived / gross[row]
        for edge in range(start[row], start[row + 1]):
            reached[source[edge]] += abs(weight[edge]) * unit


@njit(cache=True)
@no_type_check
def _repeat(target, start, targets):
    for row in range(len(target)):
        targets[start[row] : start[row + 1]] = target[row]


@njit(cache=True)
@no_type_check
def _copy(first, source, weight, start, sources, weights):
    for row in range(len(start)):
        begin, end, at = first[row], first[row + 1], start[row]
        sources[at : at + end - begin] = source[begin:end]
        weights[at : at + end - begin] = weight[begin:end]


@njit(cache=True)
@no_type_check
def _count(first, source, place, nodes):
    length = np.zeros(len(first) - 1, dtype=np.int64)
    seen = np.full(nodes, -1)
    for row in range(len(length)):
        for edge in range(first[row], first[row + 1]):
            to = place[source[edge]]
            length[row] += seen[to] != row
            seen[to] = row
    return length


@njit(cache=True)
@no_type_check
def _merge(first, source, weight, place, nodes, start, sources, weights):
    sums = np.zeros(nodes)
    seen = np.full(nodes, -1)
    for row in range(len(start)):
        highest, at = -1, start[row]
        for edge in range(first[row], first[row + 1]):
            to = place[source[edge]]
            seen[to] = row
            sums[to] += weight[edge]
            highest = max(highest, to)
        for node in range(highest + 1):
            if seen[node] == row:
                sources[at] = node
                weights[at] = sums[node]
                sums[node] = 0.0
                at += 1
