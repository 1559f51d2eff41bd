"""Several dictionaries in one: transcoders on some layers, say, and the model's own neurons on the others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from circuits.errors import UnfitTranscoders
from circuits.model import Model
from circuits.transcoders.base import Dictionary, StandIn


@dataclass(frozen=True, eq=False)
class Part:
    """A dictionary, and which of the model's layers its own layers are, in their order."""

    dictionary: Dictionary
    numbers: Sequence[int]


class Mixed:
    """Dictionaries that share a model's layers; each layer is the first one's that has it. Fields: see `Dictionary`.

    Raises:
        UnfitTranscoders: one of them is left without a layer, or without one that its other features write to.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.name = "+".join(part.dictionary.name for part in parts)
        self.layers = 1 + max(number for part in parts for number in part.numbers)
        self.d_model = parts[0].dictionary.d_model
        self._parts = parts
        self._homes = [next(part for part in parts if layer in part.numbers) for layer in range(self.layers)]
        self._check()
        self.notes: dict[str, dict[str, Any]] = {
            name: note for part in parts for name, note in part.dictionary.notes.items() if self._is_of(name, part)
        }
        hashes = [part.dictionary.content_hash for part in parts]
        owners = [parts.index(home) for home in self._homes]
        self.content_hash = hashlib.sha256(f"{hashes} {owners}".encode()).hexdigest()[:12]

    def _check(self) -> None:
        for part in self._parts:
            own = [layer for layer, home in enumerate(self._homes) if home is part]
            if not own:
                raise UnfitTranscoders(
                    f"{part.dictionary.name} is left without a layer: those named before it have all. Leave it out, or "
                    "name it first."
                )
            for layer in own:
                written = [part.numbers[to] for to in part.dictionary.written_layers(part.numbers.index(layer))]
                if not set(written) <= set(own) or any(after != before + 1 for before, after in pairwise(written)):
                    raise UnfitTranscoders(
                        f"the features of {part.dictionary.name} in layer {layer} write to layers "
                        f"{', '.join(map(str, written))}, of which others are to stand in for some: name it first."
                    )

    def _is_of(self, name: str, part: Part) -> bool:
        layer = name.partition("/")[0]
        return layer.isdecimal() and int(layer) < self.layers and self._homes[int(layer)] is part

    def find(self, layer: int) -> tuple[Dictionary, int]:
        """The dictionary in charge of a layer, and which of its own it is."""
        home = self._homes[layer]
        return home.dictionary, home.numbers.index(layer)

    def at(self, layer: int) -> StandIn:
        dictionary, own = self.find(layer)
        return dictionary.at(own)

    def for_model(self, model: Model) -> Mixed:
        return Mixed([Part(part.dictionary.for_model(model), part.numbers) for part in self._parts])

    def activations(self, layer: int, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... unit"]:
        dictionary, own = self.find(layer)
        return dictionary.activations(own, x)

    def reading(
        self, layer: int, x: Float[Tensor, "n d_in"], unit: Int[Tensor, "n"]
    ) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n"]]:
        dictionary, own = self.find(layer)
        return dictionary.reading(own, x, unit)

    def written_layers(self, layer: int) -> range:
        dictionary, own = self.find(layer)
        return range(layer, layer + len(dictionary.written_layers(own)))

    def writing(self, layer: int, unit: Int[Tensor, "n"], to: int) -> Float[Tensor, "n d_out"]:
        dictionary, own = self.find(layer)
        return dictionary.writing(own, unit, self.find(to)[1])

    def decode(self, layer: int, activations: Float[Tensor, "... unit"], to: int) -> Float[Tensor, "... d_out"]:
        dictionary, own = self.find(layer)
        return dictionary.decode(own, activations, self.find(to)[1])

    def bias(self, layer: int) -> Float[Tensor, "d_out"]:
        dictionary, own = self.find(layer)
        return dictionary.bias(own)

    def skip(self, layer: int) -> Float[Tensor, "d_out d_in"] | None:
        dictionary, own = self.find(layer)
        return dictionary.skip(own)
