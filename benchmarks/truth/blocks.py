"""Blocks that a transformer with a known circuit is compiled from: named subspaces of the stream, heads, MLPs.

The stream is a row of subspaces, each so many numbers wide. What reads says by which matrix it reads each of some
subspaces, what writes by which matrix it writes to each; `ONE`, the constant 1, may be read like a subspace and is a
bias. Nothing is trained. Every layer also has an idle head, and where the program has none an idle MLP, that copy
tokens to where nobody reads them: components whose activity means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from circuits.components.layers import Layer, Projection, bare_layer
from circuits.components.norms import LiveNorm
from circuits.components.transformer import Transformer

ONE = "one"
TOKEN, POSITION = "token", "position"  # of every stream: a number for each token, and for each position
SHARP = 100.0  # between a head's scores: what it does not look at gets e^-100 of its pattern
EPSILON = 1e-12  # of the norms
Matrix = Float[Tensor, "row column"]
Map = Mapping[str, Matrix]  # a matrix for each of some subspaces


@dataclass(frozen=True, eq=False)
class Head:
    """A head: for each subspace it reads a matrix [width d], for each it writes one [d width]. Scores are as they are.

    Nothing read as query or key is an even pattern.
    """

    query: Map
    key: Map
    value: Map
    write: Map


@dataclass(frozen=True, eq=False)
class Mlp:
    """A rectified MLP: for each subspace it reads a matrix [width neuron], for each it writes one [neuron width]."""

    read: Map
    write: Map


@dataclass(frozen=True, eq=False)
class Stage:
    """A layer: its heads, and then its MLP."""

    heads: Sequence[Head] = ()
    mlp: Mlp | None = None


def one_hot(count: int) -> Matrix:
    """Every row its own column."""
    return torch.eye(count, dtype=torch.float64)


def entries(rows: int, columns: int, at: Mapping[tuple[int, int], float]) -> Matrix:
    """A matrix that is zero but for these."""
    found = torch.zeros(rows, columns, dtype=torch.float64)
    for place, value in at.items():
        found[place] = value
    return found


def column(values: Iterable[float]) -> Matrix:
    """A matrix of one column: one number out of many."""
    return torch.tensor([[value] for value in values], dtype=torch.float64)


def looking_back(length: int, by: int) -> tuple[Map, Map]:
    """Query and key of a head that looks so many positions back, and at the first where there are fewer."""
    at = {(position, max(position - by, 0)): SHARP for position in range(length)}
    return {POSITION: entries(length, length, at)}, {POSITION: one_hot(length)}


def compile_transformer(
    name: str,
    stages: Sequence[Stage],
    *,
    tokens: int,
    length: int,
    widths: Mapping[str, int],
    logits: Map,
    normed: bool = False,
) -> Transformer:
    """The transformer of these stages: causal, in float64.

    tokens: how many there are. length: of every prompt. widths: of the subspaces beside `TOKEN` and `POSITION`.
    logits: as what they are read. normed: before every reader an RMS norm, which brings the stream to length 1.
    """
    spare = {f"spare {what} {at}": tokens for at in range(len(stages)) for what in ("head", "mlp")}
    sizes = {TOKEN: tokens, POSITION: length, **widths, **spare}
    width = sum(sizes.values())
    whole = [
        Stage([*each.heads, _idle_head(at, tokens, length)], each.mlp or _idle_mlp(at, tokens))
        for at, each in enumerate(stages)
    ]
    heads = max(len(each.heads) for each in whole)
    norm = LiveNorm(torch.full((width,), width**-0.5, dtype=torch.float64), None, False, EPSILON) if normed else None
    W_U, b_U = _read(sizes, logits)
    return Transformer(
        name=name,
        layers=[_layer(sizes, each, heads, norm) for each in whole],
        W_E=_write(sizes, {TOKEN: one_hot(tokens)}),
        embedding_scale=1.0,
        W_pos=_write(sizes, {POSITION: one_hot(length)}),
        W_U=W_U,
        b_U=b_U,
        final_norm=norm,
        parallel=False,
    )


def _idle_head(layer: int, tokens: int, length: int) -> Head:
    query, key = looking_back(length, 0)
    return Head(query, key, {TOKEN: one_hot(tokens)}, {f"spare head {layer}": one_hot(tokens)})


def _idle_mlp(layer: int, tokens: int) -> Mlp:
    return Mlp({TOKEN: one_hot(tokens)}, {f"spare mlp {layer}": one_hot(tokens)})


def _layer(sizes: Mapping[str, int], stage: Stage, heads: int, norm: LiveNorm | None) -> Layer:
    """A layer of so many heads; those that its stage lacks read and write nothing."""
    columns = max(each.shape[1] for head in stage.heads for map in _reads(head) for each in map.values())
    projections = []
    for maps in zip(*(_reads(head) for head in stage.heads), strict=True):
        read = [_read(sizes, map, columns) for map in maps]
        weight, bias = (torch.stack(each) for each in zip(*read, strict=True))
        more = heads - len(stage.heads)
        projections.append(Projection(pad(weight, (0, 0, 0, 0, 0, more)), pad(bias, (0, 0, 0, more)), 1))
    query, key, value = projections
    W_O = torch.stack([_write(sizes, head.write, columns) for head in stage.heads])
    assert stage.mlp is not None
    W_in, b_in = _read(sizes, stage.mlp.read)
    return bare_layer(
        query,
        key,
        value,
        pad(W_O, (0, 0, 0, 0, 0, heads - len(W_O))),
        W_in,
        b_in,
        _write(sizes, stage.mlp.write),
        norm=norm,
    )


def _reads(head: Head) -> tuple[Map, Map, Map]:
    return head.query, head.key, head.value


def _read(sizes: Mapping[str, int], map: Map, columns: int = 0) -> tuple[Matrix, Float[Tensor, "column"]]:
    """A map as weight [d_model column] and bias, with at least so many columns."""
    columns = max(columns, *(each.shape[1] for each in map.values()), 1) if map else max(columns, 1)
    found = [map.get(name, torch.zeros(size, 1, dtype=torch.float64)) for name, size in sizes.items()]
    constant = map.get(ONE, torch.zeros(1, 1, dtype=torch.float64))
    return torch.cat([pad(each, (0, columns - each.shape[1])) for each in found]), pad(
        constant, (0, columns - constant.shape[1])
    )[0]


def _write(sizes: Mapping[str, int], map: Map, rows: int = 0) -> Matrix:
    """A map as weight [row d_model], with at least so many rows."""
    rows = max(rows, *(len(each) for each in map.values()))
    found = [map.get(name, torch.zeros(1, size, dtype=torch.float64)) for name, size in sizes.items()]
    return torch.cat([pad(each, (0, 0, 0, rows - len(each))) for each in found], 1)
