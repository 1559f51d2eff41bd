"""The parts of a transformer that are nodes when whole components are scored, not edges.

Coarse, the parts are the sources of components.py: the tokens, each head's output, each MLP. A head may be taken apart,
into its queries, keys and values besides its output, and an MLP into its neurons ("m3.n17").
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
READS: dict[str, str] = dict(zip(OF_HEADS[:-1], (f"<{letter}>" for letter in LETTERS), strict=True))
Column = tuple[str, int, int]  # a column of `Run`, its layer, how many parts it holds


@dataclass(frozen=True)
class Parts:
    """Which parts are nodes. apart: queries, keys and values too. width: neurons of an MLP; 0: each MLP is one part."""

    components: Components
    apart: bool = False
    width: int = 0

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Where the parts are in a run, in reading order; ("input", 0, 1) is the stream before the first layer."""
        heads, found = self.components.heads, [("input", 0, 1)]
        for layer in range(self.components.layers):
            found += [(name, layer, heads) for name in (OF_HEADS if self.apart else OF_HEADS[-1:])]
            found.append(("neurons", layer, self.width) if self.width else ("mlp", layer, 1))
        return tuple(found)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the parts are called, in order."""
        found = []
        for name, layer, count in self.columns:
            if name in OF_HEADS:
                found += [f"a{layer}.h{head}{READS.get(name, '')}" for head in range(count)]
            elif name == "neurons":
                found += [f"m{layer}.n{neuron}" for neuron in range(count)]
            else:
                found.append("input" if name == "input" else f"m{layer}")
        return tuple(found)


def parts_of(transformer: Transformer, *, apart: bool = False, neurons: bool = False) -> Parts:
    """The parts of a transformer: heads and MLPs, heads apart, MLPs by neurons."""
    return Parts(components_of(transformer), apart, len(transformer.layers[0].W_out) if neurons else 0)


def column_of(run: Run, column: Column) -> Tensor:
    """The tensor of a run that holds these parts."""
    name, layer, _ = column
    return run.before[0] if name == "input" else getattr(run, name)[layer]


def by_part(column: Column, products: Tensor) -> Float[Tensor, "pair part pos"]:
    """Products of two tensors that hold these parts, summed over what each part writes at a position."""
    name = column[0]
    if name in OF_HEADS:
        return products.sum(-1)
    return products.mT if name == "neurons" else products.sum(-1)[:, None]


def total(scores: list[Float[Tensor, "pair _ pos"]], *, positions: bool) -> Float[Tensor, "node *position"]:
    """Scores of all columns one after another, summed over the pairs, and over positions unless they are kept."""
    parts = torch.cat([each.double().sum(0) for each in scores])
    return parts if positions else parts.sum(-1)
