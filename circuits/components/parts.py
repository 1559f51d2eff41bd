"""The parts of a transformer that are nodes when whole components are scored, not edges.

Coarse, the parts are the sources of components.py: the tokens, each head's output, each MLP. A head may be taken apart,
into its queries, keys and values besides its output, and an MLP into its neurons ("m3.n17"), or the features of a set
("m3.f544") and what they miss ("m3.error").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.components import LETTERS, Components
from circuits.components.edge_scores import components_of
from circuits.components.transformer import Run, Transformer

OF_HEADS = ("query", "key", "value", "mixed")
UNITS = ("neurons", "features")  # columns that hold one number for each part
READS: dict[str, str] = dict(zip(OF_HEADS[:-1], (f"<{letter}>" for letter in LETTERS), strict=True))
Column = tuple[str, int, int]  # a column of `Run`, its layer, how many parts it holds


@dataclass(frozen=True)
class Parts:
    """Which parts are nodes.

    apart: queries, keys and values too. width: neurons of an MLP; 0: each MLP is one part.
    features: by layer, those that are parts in the place of its neurons, by number; None for a layer of neurons.
    dictionary: the content hash of the set that they are of.
    """

    components: Components
    apart: bool = False
    width: int = 0
    features: tuple[tuple[int, ...] | None, ...] = ()
    dictionary: str = ""

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Where the parts are in a run, in reading order; ("input", 0, 1) is the stream before the first layer."""
        heads, found = self.components.heads, [("input", 0, 1)]
        for layer in range(self.components.layers):
            found += [(name, layer, heads) for name in (OF_HEADS if self.apart else OF_HEADS[-1:])]
            units = self.features[layer] if self.features else None
            if units is not None:
                found += [("features", layer, len(units)), ("errors", layer, 1)]
            else:
                found.append(("neurons", layer, self.width) if self.width else ("mlp", layer, 1))
        return tuple(found)

    @cached_property
    def places(self) -> tuple[tuple[Column, int], ...]:
        """Of each part, in order, the column and which one of it."""
        return tuple((column, own) for column in self.columns for own in range(column[2]))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the parts are called, in order."""
        found = []
        for name, layer, count in self.columns:
            if name in OF_HEADS:
                found += [f"a{layer}.h{head}{READS.get(name, '')}" for head in range(count)]
            elif name == "neurons":
                found += [f"m{layer}.n{neuron}" for neuron in range(count)]
            elif name == "features":
                found += [f"m{layer}.f{unit}" for unit in self.features[layer] or ()]
            elif name == "errors":
                found.append(f"m{layer}.error")
            else:
                found.append("input" if name == "input" else f"m{layer}")
        return tuple(found)


def parts_of(transformer: Transformer, *, apart: bool = False, neurons: bool = False, dictionary: str = "") -> Parts:
    """The parts of a transformer: heads and MLPs, heads apart, MLPs by neurons, or by the features that they have.

    dictionary: the content hash of the set of these.
    """
    components, width = components_of(transformer), len(transformer.layers[0].W_out) if neurons else 0
    units = [None if layer.features is None else tuple(layer.features.unit.tolist()) for layer in transformer.layers]
    taken_apart = neurons and any(each is not None for each in units)
    return Parts(components, apart, width, tuple(units) if taken_apart else (), dictionary)


def column_of(run: Run, column: Column) -> Tensor:
    """The tensor of a run that holds these parts."""
    name, layer, _ = column
    return run.before[0] if name == "input" else getattr(run, name)[layer]


def by_part(column: Column, products: Tensor) -> Float[Tensor, "pair part pos"]:
    """Products of two tensors that hold these parts, summed over what each part writes at a position."""
    name = column[0]
    if name in OF_HEADS:
        return products.sum(-1)
    return products.mT if name in UNITS else products.sum(-1)[:, None]


def total(scores: list[Float[Tensor, "pair _ pos"]], *, positions: bool) -> Float[Tensor, "node *position"]:
    """Scores of all columns one after another, summed over the pairs, and over positions unless they are kept."""
    parts = torch.cat([each.double().sum(0) for each in scores])
    return parts if positions else parts.sum(-1)
