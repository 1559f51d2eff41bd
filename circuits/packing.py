"""Rows of edges packed side by side: what is zero is not stored, and sums are taken on the way in.

Edges of row i are start[i] : start[i + 1]. Rows may stand in any order; each names the node it leads to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Int, Shaped
from numba import njit


@dataclass(frozen=True, eq=False)
class Rows:
    """Targets with all that flows into them.

    target: the node each row leads to. [row] start: where its edges begin. [row + 1]
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


def pack(
    target: Int[np.ndarray, "row"], weight: Float[np.ndarray, "row node"], is_bias: Shaped[np.ndarray, "node"]
) -> Rows:
    """Rows of a matrix, without its zeros."""
    start, total, size, bias = _measure(weight, is_bias)
    source, packed = _fill(weight, start)
    return Rows(target, start, source, packed, total, size, bias)


def stack(parts: Sequence[Rows], place: Int[np.ndarray, "node"] | None = None) -> Rows:
    """All rows in one, sorted by target.

    place: where each node is to stand instead; edges from nodes that come to stand together are added up.
    """
    target = np.concatenate([part.target for part in parts])
    order = np.argsort(target, kind="stable")
    lengths = np.concatenate([np.diff(part.start) for part in parts])
    first = np.concatenate([[0], np.cumsum(lengths)])
    source = np.concatenate([part.source for part in parts])
    weight = np.concatenate([part.weight for part in parts])
    sums = [np.concatenate([getattr(part, name) for part in parts])[order] for name in ("total", "size", "bias")]
    if place is None:
        start, source, weight = _reorder(order, first, source, weight)
        return Rows(target[order], start, source, weight, *sums)
    start, source, weight = _merge(order, first, source, weight, place, int(place.max()) + 1)
    return Rows(place[target[order]], start, source, weight, *sums)


def carry(rows: Rows, reached: Float[np.ndarray, "node"], gross: Float[np.ndarray, "row"]) -> None:
    """Hand on, in place, what has reached each row's target to its sources, by the size of their share.

    Rows must be sorted by target. gross: what shares are shares of. [row]
    """
    _carry(rows.target, rows.start, rows.source, rows.weight, gross, reached)


# Sums may be taken in any order, so that several are taken at once; what is not finite must stay so.
@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
@no_type_check
def _measure(weight, is_bias):
    rows, nodes = weight.shape
    start = np.zeros(rows + 1, dtype=np.int64)
    total, size, bias = np.zeros(rows), np.zeros(rows), np.zeros(rows)
    for row in range(rows):
        found, summed, sized, biased = 0, 0.0, 0.0, 0.0
        for node in range(nodes):
            value = np.float64(weight[row, node])
            found += value != 0
            summed += value
            sized += abs(value)
            biased += abs(value) * is_bias[node]
        start[row + 1] = start[row] + found
        total[row], size[row], bias[row] = summed, sized, biased
    return start, total, size, bias


@njit(cache=True)
@no_type_check
def _fill(weight, start):
    source = np.empty(start[-1] + 1, dtype=np.int32)
    packed = np.empty(start[-1] + 1, dtype=weight.dtype)
    edge = 0
    for row in range(len(weight)):
        for node in range(weight.shape[1]):
            # Written in any case and overwritten by the next: no branch to guess wrongly.
            value = weight[row, node]
            source[edge] = node
            packed[edge] = value
            edge += value != 0
    return source[:-1], packed[:-1]


@njit(cache=True)
@no_type_check
def _reorder(order, first, source, weight):
    start = np.zeros(len(order) + 1, dtype=np.int64)
    sources, weights = np.empty_like(source), np.empty_like(weight)
    for row in range(len(order)):
        begin, end = first[order[row]], first[order[row] + 1]
        at = start[row]
        start[row + 1] = at + end - begin
        sources[at : start[row + 1]] = source[begin:end]
        weights[at : start[row + 1]] = weight[begin:end]
    return start, sources, weights


@njit(cache=True)
@no_type_check
def _merge(order, first, source, weight, place, nodes):
    start = np.zeros(len(order) + 1, dtype=np.int64)
    sources, weights = np.empty_like(source), np.empty_like(weight)
    sums = np.zeros(nodes)
    seen = np.zeros(nodes, dtype=np.bool_)
    touched = np.empty(nodes, dtype=np.int32)
    for row in range(len(order)):
        count = 0
        for edge in range(first[order[row]], first[order[row] + 1]):
            to = place[source[edge]]
            if not seen[to]:
                seen[to] = True
                touched[count] = to
                count += 1
            sums[to] += weight[edge]
        found = np.sort(touched[:count])
        at = start[row]
        for i in range(count):
            sources[at + i] = found[i]
            weights[at + i] = sums[found[i]]
            sums[found[i]] = 0.0
            seen[found[i]] = False
        start[row + 1] = at + count
    return start, sources[: start[-1]].copy(), weights[: start[-1]].copy()


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
