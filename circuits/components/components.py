"""The component graph of a transformer: heads and MLPs, what each reads, and every edge between them.

Sources write into the residual stream: the tokens ("input"), each head ("a0.h1") and each MLP ("m0"). Readers take
from it: the queries, keys and values of each head ("a3.h2<q>"), each MLP, and the logits. An edge joins a source to
every reader that comes after it. Learned positions and biases are no nodes: they are the same on both prompts.

Source: the edge set and names of Hanna et al. 2024, "Have Faith in Faithfulness" (EAP-IG); METHODS section 8.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from circuits.errors import BadOption

LETTERS = "qkv"


@dataclass(frozen=True)
class Components:
    """Which components a transformer has. parallel: a layer's MLP does not read its heads."""

    layers: int
    heads: int
    parallel: bool

    @property
    def written(self) -> int:
        """How many sources a layer has."""
        return self.heads + 1

    @property
    def read(self) -> int:
        """How many readers a layer has."""
        return 3 * self.heads + 1

    def before(self, layer: int) -> int:
        """How many sources stand before a layer's heads: the row of its first head."""
        return 1 + layer * self.written

    def first_reader(self, layer: int) -> int:
        """The column of a layer's first query; keys, values and the MLP follow."""
        return layer * self.read

    def mlp_sources(self, layer: int) -> int:
        """How many sources a layer's MLP reads."""
        return self.before(layer) + (0 if self.parallel else self.heads)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The names of the sources, in order."""
        found = ["input"]
        for layer in range(self.layers):
            found += [f"a{layer}.h{head}" for head in range(self.heads)] + [f"m{layer}"]
        return tuple(found)

    @cached_property
    def readers(self) -> tuple[str, ...]:
        """The names of the readers, in order."""
        found = []
        for layer in range(self.layers):
            found += [f"a{layer}.h{head}<{letter}>" for letter in LETTERS for head in range(self.heads)] + [f"m{layer}"]
        return (*found, "logits")

    @cached_property
    def edges(self) -> Bool[np.ndarray, "source reader"]:
        """Where there is an edge."""
        found = np.zeros((len(self.sources), len(self.readers)), dtype=bool)
        for layer in range(self.layers):
            at = self.first_reader(layer)
            found[: self.before(layer), at : at + 3 * self.heads] = True
            found[: self.mlp_sources(layer), at + 3 * self.heads] = True
        found[:, -1] = True
        return found

    @cached_property
    def component(self) -> Int[np.ndarray, "reader"]:
        """For each reader the source that the same component is; the number of sources for the logits."""
        place = {name: at for at, name in enumerate(self.sources)}
        return np.array([place.get(name.split("<")[0], len(place)) for name in self.readers])

    def name(self, source: int, reader: int, *position: int) -> str:
        """An edge's name, "a0.h1->a3.h2<k>"; at a position "a0.h1->a3.h2<k>@4"."""
        return "@".join((f"{self.sources[source]}->{self.readers[reader]}", *map(str, position)))

    def edge(self, name: str) -> tuple[int, int]:
        """The edge of that name.

        Raises:
            BadOption: there is none.
        """
        source, _, reader = name.partition("->")
        if source in self.sources and reader in self.readers:
            found = self.sources.index(source), self.readers.index(reader)
            if self.edges[found]:
                return found
        raise BadOption(f"there is no edge {name!r}; edges read a0.h1->a3.h2<k>, input->m0, m3->logits.")


def strongest(
    components: Components, scores: Float[np.ndarray, "source reader *position"], count: int, *, signed: bool = False
) -> Bool[np.ndarray, "source reader *position"]:
    """The `count` edges of the largest size, or value, and of these what lies on a path from the input to the logits.

    signed: by value, so that edges which speak against the answer come last. Where scores are those of edges at
    positions, so is the choice, and a path may lead through any of them.

    Source: METHODS section 8.6, top-n, then pruned.
    """
    rank = scores if signed else np.abs(scores)
    rank = np.where(components.edges.reshape(components.edges.shape + (1,) * (rank.ndim - 2)), rank, -np.inf)
    order = np.argsort(-rank, axis=None, kind="stable")[: min(count, int(np.isfinite(rank).sum()))]
    chosen = np.zeros(scores.shape, dtype=bool)
    chosen.flat[order] = True
    if scores.ndim == 2:
        return connected(components, chosen)
    return chosen & connected(components, np.asarray(chosen.any(-1)))[..., None]


def connected(components: Components, chosen: Bool[np.ndarray, "source reader"]) -> Bool[np.ndarray, "source reader"]:
    """The chosen edges without those that nothing comes into, or that lead nowhere."""
    count = len(components.sources)
    reached, needed = np.zeros(count + 1, dtype=bool), np.zeros(count + 1, dtype=bool)
    reached[0] = needed[count] = True
    for node in range(1, count + 1):
        reached[node] = (chosen[:, components.component == node] & reached[:count, None]).any()
    for node in reversed(range(count)):
        needed[node] = (chosen[node] & needed[components.component]).any()
    return chosen & (reached & needed)[:count, None] & (reached & needed)[components.component]
