"""The node table of a trace: everything that writes or reads, in reading order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from circuits.attending import OFFSET, name_unit
from circuits.goal import Goal
from circuits.packing import Stretches
from circuits.reading import Reading
from circuits.sources import Columns
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary
from graphs.nodes import OF_ATTENTION, Nodes


@dataclass(frozen=True, eq=False)
class Table:
    """The nodes in reading order, and where the sources are among them.

    reading: the rows of biases that are read with a target (encoder, norm before the MLP, final norm, unembedding) and
        so have no vector of their own; by name and layer, as in `Targets`.
    sources: how many nodes may be sources; those after them are targets only.
    """

    nodes: Nodes
    columns: Columns
    reading: dict[tuple[str, float], int]
    sources: int


def lay_out(
    run: Trace, dictionary: Dictionary, goal: Goal, read: Reading | None, reach: Int[np.ndarray, "place layer"]
) -> Table:
    """Tokens and biases, then by layer and position the active units and the error, then what is a target only.

    Where attention is replaced, its units and errors stand before those of its layer's MLP.

    run, reach: see `keep_upstream`. read: `goal.read(run)`.
    """
    layers, length = run.frozen.layers, len(run.tokens)
    aimed = [] if read is None else np.ceil(read.targets.layer).astype(int).tolist()
    top = max([*aimed, *run.layer[goal.units].tolist()])
    tokens = [
        ("token", -1, p, t, 1.0, text) for p, (t, text) in enumerate(zip(run.tokens.tolist(), run.texts, strict=True))
    ]
    biases, reading = _biases(run, top)
    front = [*tokens, *biases]

    unit_layer, position, unit = (column.cpu().numpy() for column in (run.layer, run.position, run.unit))
    stands_in = [dictionary.at(layer) for layer in range(layers)]
    of_attention = unit >= OFFSET
    unit = np.where(of_attention, unit - OFFSET, unit)
    kinds = np.where(of_attention, "attention", np.array([here.kind for here in stands_in], dtype=object)[unit_layer])
    names = list(map(name_unit, unit_layer.tolist(), run.unit.tolist()))
    notes = dictionary.notes
    labels = [(name in notes and notes[name].get("label")) or f"L{name}" for name in names]
    inner = [kinds, unit_layer, position, unit, run.activation.double().cpu().numpy(), np.array(labels, dtype=object)]
    covered = np.arange(length) <= reach[:, :, None]  # where there is an error: of attention, of MLPs
    for layer, here in enumerate(stands_in):
        covered[0, layer] &= layer in run.attended
        covered[1, layer, : length if here.exact else here.silent_positions] = False
    of_mlp, *places = np.nonzero(covered)
    count = len(of_mlp)
    names = np.array(
        [f"{'' if mlp else 'attention '}error L{at}" for mlp, at in zip(of_mlp, places[0], strict=True)], dtype=object
    )
    error = [np.full(count, "error", dtype=object), *places, of_mlp + OF_ATTENTION, np.ones(count), names]
    inner = [np.concatenate(pair) for pair in zip(inner, error, strict=True)]
    stage = inner[1]
    if run.attended:
        stage = 2 * stage + np.concatenate([~of_attention, of_mlp])
    order = np.lexsort((inner[0] == "error", inner[2], stage))  # stable: units stay in their own order
    place = np.empty(len(order), dtype=np.int64)
    place[order] = len(front) + np.arange(len(order))
    errors = np.full(covered.shape, -1)
    errors[covered] = place[len(unit) :]

    others = len(goal.kind) - len(goal.right)
    where = [] if read is None else read.targets.position.tolist()
    token, probability = [*goal.right, *[-1] * others], [*goal.probability, *[1.0] * others]
    aims = list(zip(goal.kind, aimed, where, token, probability, goal.labels, strict=True))
    columns = [np.concatenate([_column(front, i), inner[i][order], _column(aims, i)]) for i in range(len(inner))]
    unknown, nothing = np.full(len(columns[0]), np.nan), np.zeros(len(columns[0]))
    kind, layer, position, feature, activation, label = columns
    nodes = Nodes(
        kind.astype("U10"),
        layer.astype(np.int32),
        position.astype(np.int32),
        feature.astype(np.int64),
        activation.astype(np.float64),
        unknown,
        nothing,
        nothing,
        label,
    )
    found = Columns(
        tokens=np.arange(length),
        units=place[: len(unit)],
        errors=errors[1],
        attention_errors=errors[0],
        constants=length + np.arange(len(run.constants)),
        stretches=_stretches(
            len(front), stage[order] * length + inner[2][order], layers, length, bool(run.attended), run.frozen.causal
        ),
    )
    return Table(nodes, found, {name: length + at for name, at in reading.items()}, len(nodes) - len(aims))


def _stretches(
    front: int, cell: Int[np.ndarray, "inner"], layers: int, length: int, halved: bool, causal: bool
) -> Stretches:
    """Where each group of columns begins and ends: tokens, biases, layers. cell: layer * length + position, sorted.

    halved: there are two groups a layer; see `Stretches`. causal: what stands to the right of a target is no input.
    """
    groups = 2 * layers if halved else layers
    ends = front + np.searchsorted(cell, np.arange(groups * length), side="right").reshape(groups, length)
    begin = np.concatenate([[0, length, front], ends[:-1, -1]])
    ends = np.concatenate([[np.arange(1, length + 1)], np.full((1, length), front), ends])
    return Stretches(begin, ends if causal else np.broadcast_to(ends[:, -1:], ends.shape).copy(), halved)


def _biases(run: Trace, top: int) -> tuple[list[tuple], dict[tuple[str, float], int]]:
    """The bias nodes, those with vectors first; and where the others are among them, up to the top layer read."""
    found, reading = [], {}
    for each in run.constants:
        where = "" if each.layer < 0 else f" L{each.layer}"
        at = f" @{run.texts[each.position]}" if each.position >= 0 else ""
        found.append(("bias", each.layer, each.position, -1, 1.0, f"{each.name}{where}{at}"))

    def add(name: str, layer: int, label: str, before: float = 0) -> None:
        reading[(name, layer - before)] = len(found)
        found.append(("bias", layer, -1, -1, 1.0, label))

    layers = run.frozen.layers
    for layer in range(min(layers, top + 1)):
        if layer in run.attended:
            add("encoder", layer, f"attention encoder bias L{layer}", before=0.5)
            if run.attended[layer].patterns is None:
                add("norm", layer, f"biases within attention L{layer}", before=0.5)
            elif run.frozen.attention_norm[layer].bias is not None:
                add("norm", layer, f"norm bias before attention L{layer}", before=0.5)
        add("encoder", layer, f"encoder bias L{layer}")
        if run.frozen.mlp_norm[layer].bias is not None:
            add("norm", layer, f"norm bias before MLP L{layer}")
    if top == layers:
        if run.frozen.final_norm.bias is not None:
            add("norm", layers, "final norm bias")
        add("encoder", layers, "unembedding bias")
    return found, reading


def _column(rows: list[tuple], which: int) -> np.ndarray:
    return np.array([row[which] for row in rows], dtype=object)
