"""LEVELS: what circuits are made of: edges, whole components, neurons, features; how one is chosen, and run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from circuits.components.components import Components, strongest
from circuits.components.edge_scores import components_of
from circuits.components.finding import carrying
from circuits.components.node_finding import strongest_nodes
from circuits.components.node_runs import run_nodes
from circuits.components.parts import Parts, parts_of
from circuits.components.searching import Carry
from circuits.components.transformer import Transformer

Mask = Bool[np.ndarray, "unit *more"]
Scores = Float[np.ndarray, "unit *more"]


@dataclass(frozen=True, eq=False)
class Level:
    """What a circuit may hold.

    over: what scores are of. units: which scores stand for something that can be left out. groups: of each unit, the
    layers that it joins or lies in. choose: the circuit of so many units, the strongest; signed, the highest.
    carry: the run of a circuit.
    """

    name: str
    over: Components | Parts
    units: Mask
    groups: Int[np.ndarray, "unit *more"]
    choose: Callable[..., Mask]
    carry: Callable[[Mask], Carry]

    @property
    def total(self) -> int:
        """How many units there are."""
        return int(self.units.sum())

    def at(self, share: float, scores: Scores, *, signed: bool = False) -> Mask:
        """The circuit of a share of all units, rounded down; of edges, without those on no path."""
        count = int(share * self.total)
        return self.choose(scores, count, signed=signed) if count else ~self.units & self.always

    @property
    def always(self) -> Mask:
        """What every circuit holds: of nodes the tokens."""
        return ~self.units if isinstance(self.over, Parts) else np.zeros_like(self.units)

    def without(self, chosen: Mask) -> Mask:
        """All but a circuit."""
        return self.units & ~chosen | self.always

    def count(self, chosen: Mask) -> int:
        """How many units a circuit holds."""
        return int((chosen & self.units).sum())

    def shuffle(self, scores: Scores, seed: int) -> Scores:
        """The same scores in other places of the same layers: circuits as large, that know nothing else."""
        numbers, found = np.random.default_rng(seed), scores.copy()
        for group in np.unique(self.groups[self.units]):
            here = self.units & (self.groups == group)
            found[here] = numbers.permutation(scores[here])
        return found


def edge_level(transformer: Transformer) -> Level:
    """Edges; those of a group join the same two layers."""
    components = components_of(transformer)
    layers = components.layers
    source = np.array([0, *(1 + layer for layer in range(layers) for _ in range(components.written))])
    reader = np.array([*(layer for layer in range(layers) for _ in range(components.read)), layers])
    return Level(
        "edges",
        components,
        components.edges,
        source[:, None] * (layers + 1) + reader,
        lambda scores, count, signed=False: strongest(components, scores, count, signed=signed),
        lambda chosen: carrying(transformer, chosen),
    )


def node_level(transformer: Transformer) -> Level:
    """Heads and MLPs; those of a group lie in the same layer."""
    return _of_parts("nodes", transformer, parts_of(transformer), lambda name, layer: layer)


def neuron_level(transformer: Transformer) -> Level:
    """Heads and the neurons of MLPs; those of a group are of one kind and lie in the same layer."""
    parts = parts_of(transformer, neurons=True)
    return _of_parts("neurons", transformer, parts, lambda name, layer: 2 * layer + (name != "mixed"))


def feature_level(transformer: Transformer) -> Level:
    """Heads, the features that MLPs were taken apart into, and what these miss; as of neurons."""
    return replace(neuron_level(transformer), name="features")


LEVELS: dict[str, Callable[[Transformer], Level]] = {
    "edges": edge_level,
    "nodes": node_level,
    "neurons": neuron_level,
    "features": feature_level,
}
INSIDE = ("neurons", "features")  # levels at which MLPs are taken apart


def _of_parts(name: str, transformer: Transformer, parts: Parts, group: Callable[[str, int], int]) -> Level:
    groups = np.concatenate([np.full(count, group(column, layer)) for column, layer, count in parts.columns])
    units = np.arange(len(groups)) > 0  # the first are the tokens

    def carry(chosen: Mask) -> Carry:
        kept = torch.from_numpy(chosen).to(transformer.W_U.device)
        return lambda embedding, other: run_nodes(transformer, embedding, other, parts, kept)

    return Level(name, parts, units, groups, strongest_nodes, carry)
