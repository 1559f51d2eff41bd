"""The nodes of a graph: one column per property, one row per node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from graphs.errors import BadGraph

KINDS = (
    *("token", "feature", "attention", "error", "bias", "unselected"),
    *("neuron", "head", "mlp", "supernode", "direction", "logit"),
)
OF_ATTENTION = -2  # in the column `feature`: an error of what stands in for attention
TERMINAL = ("token", "error", "bias", "unselected")  # sources only: nothing flows into them


@dataclass(frozen=True, eq=False)
class Nodes:
    """Columns of equal length, frozen. Rows stand in reading order: every edge points to a later row.

    kind: one of KINDS. A "feature" stands in for an MLP, an "attention" is a feature that stands in for attention. A
        sink (the MLP output at a position its dictionary leaves out) is a bias, a supernode several units made one by
        `group`. [node]
    layer: -1 for tokens and what is added beside them, the number of layers for logits. [node]
    position: index into the prompt, -1 for a bias that belongs to no single position. [node]
    feature: the unit of a feature, attention or neuron, OF_ATTENTION of an error of attention, the head of a head, the
        token id of a token or logit, the place of a supernode in `provenance["groups"]`, else -1. [node]
    activation: a feature's activation, a logit's probability, 1 for the others. [node]
    value: what a target's inputs sum to, constants included: pre-activation, or demeaned logit; nan for sources. [node]
    gross: the sum of the sizes of a target's inputs in the whole trace, biases left out; 0 for sources.
        Kept through pruning, so that what was pruned away is still known. [node]
    influence: the share of the goal that passes through the node, measured in the whole trace. [node]
    label: what a person reads. [node]
    """

    kind: Shaped[np.ndarray, "node"]
    layer: Int[np.ndarray, "node"]
    position: Int[np.ndarray, "node"]
    feature: Int[np.ndarray, "node"]
    activation: Float[np.ndarray, "node"]
    value: Float[np.ndarray, "node"]
    gross: Float[np.ndarray, "node"]
    influence: Float[np.ndarray, "node"]
    label: Shaped[np.ndarray, "node"]

    def __post_init__(self) -> None:
        types = {"kind": "U10", "label": object, "layer": np.int32, "position": np.int32, "feature": np.int64}
        for field in fields(self):
            column = np.array(getattr(self, field.name), dtype=types.get(field.name, np.float64))
            column.flags.writeable = False
            object.__setattr__(self, field.name, column)
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) != 1:
            raise BadGraph(f"the columns of a graph's nodes must be equally long, found {lengths}.")
        strange = sorted(set(self.kind) - set(KINDS))
        if strange:
            raise BadGraph(f"node kinds are {', '.join(KINDS)}; found {', '.join(strange)}.")

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, rows: Sequence[int] | np.ndarray) -> Nodes:
        """The same columns with only these rows, in this order."""
        return Nodes(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def where(self, *kinds: str) -> Int[np.ndarray, "found"]:
        """The rows of these kinds, in reading order."""
        return np.flatnonzero(np.isin(self.kind, kinds))

    def unit(self, row: int) -> str:
        """Which unit of the model a row is, wherever it fires: `2/544`, or `2/attn/544` in place of attention."""
        attends = "attn/" if self.kind[row] == "attention" else ""
        return f"{self.layer[row]}/{attends}{self.feature[row]}"

    def notes_among(self, provenance: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same provenance with the notes on units that are among these nodes, and on no others."""
        notes = provenance.get("feature_notes")
        if not isinstance(notes, Mapping):
            return provenance
        units = {self.unit(row) for row in self.where("feature", "attention", "neuron").tolist()}
        return {**provenance, "feature_notes": {unit: notes[unit] for unit in notes if unit in units}}

    def with_columns(self, **columns: np.ndarray) -> Nodes:
        """The same nodes with some columns replaced."""
        return replace(self, **columns)
