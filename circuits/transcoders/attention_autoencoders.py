"""Autoencoders of what attention puts out: their features stand in for it, and are read through it."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from circuits.transcoders.transcoders import Transcoders


class AttentionAutoencoders:
    """A set that rebuilds the attention output of some layers from itself. Fields: see `Lorsa`.

    What a feature reads is what the model's own attention makes of the stream before it, its pattern and norms held:
    that is passed from its features back, and from nothing above.
    """

    reads = "attention_output"
    writes = "attention_output"

    def __init__(self, found: Transcoders) -> None:
        self.name = found.name
        self.content_hash = found.content_hash
        self.numbers = found.of_layers
        self.d_model = found.d_model
        self.units = found.units
        self.notes = {name.replace("/", "/attn/", 1): note for name, note in found.notes.items()}
        self._found = found

    def activations(self, layer: int, x: Float[Tensor, "... pos d_model"]) -> Float[Tensor, "... pos unit"]:
        """Every unit's activation at every position."""
        return self._found.activations(self.numbers.index(layer), x)

    def reading(self, layer: int, unit: Int[Tensor, "n"]) -> tuple[Float[Tensor, "n d_model"], Float[Tensor, "n"]]:
        """What each unit reads of the output at its own position, and its constant."""
        nowhere = self._found.b_dec[0].new_zeros(len(unit), self.d_model)
        return self._found.reading(self.numbers.index(layer), nowhere, unit)

    def writing(self, layer: int, unit: Int[Tensor, "n"]) -> Float[Tensor, "n d_model"]:
        """What each unit adds to the attention's output, per one of activation."""
        at = self.numbers.index(layer)
        return self._found.writing(at, unit, at)

    def decode(self, layer: int, activations: Float[Tensor, "... unit"]) -> Float[Tensor, "... d_model"]:
        """What all units together add to the attention's output, the bias not included."""
        at = self.numbers.index(layer)
        return self._found.decode(at, activations, at)

    def bias(self, layer: int) -> Float[Tensor, "d_model"]:
        """The constant part of what it says the attention puts out."""
        return self._found.bias(self.numbers.index(layer))
