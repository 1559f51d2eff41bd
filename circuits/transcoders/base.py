"""What every dictionary offers: the units that stand in for a model's MLPs, seen from attribution and intervention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from circuits.model import Model


@dataclass(frozen=True)
class StandIn:
    """What stands in for the MLP of one layer.

    kind: the node kind of a unit, "feature" or "neuron". units: how many there are.
    reads: where they read: "mlp_input" (after the norm and gain), "mlp_normalised" (before the gain), "residual_mid".
    writes: where the output belongs: "mlp_output" (as it joins the residual stream) or "mlp_raw" (before a post-norm).
    exact: the reconstruction is the MLP itself, so that there is no error.
    silent_positions: how many of the first positions it leaves alone; the MLP output there is a constant, the sink.
    """

    kind: str
    units: int
    reads: str
    writes: str
    exact: bool
    silent_positions: int


@runtime_checkable
class Dictionary(Protocol):
    """A set of units replacing the MLPs of a model.

    name, content_hash: which one it is. layers, d_model: the model it fits.
    notes: per unit "layer/unit", what is known about it, any of: label, fires_on, context, promotes, suppresses,
        density, act_max, histogram, examples; see `circuits.transcoders.notes`. May be empty.
    """

    @property
    def name(self) -> str: ...
    @property
    def content_hash(self) -> str: ...
    @property
    def layers(self) -> int: ...
    @property
    def d_model(self) -> int: ...
    @property
    def notes(self) -> dict[str, dict[str, Any]]: ...

    def at(self, layer: int) -> StandIn:
        """What stands in for the MLP of a layer."""
        ...

    def for_model(self, model: Model) -> Dictionary:
        """The same dictionary for another model of the same sizes: what it takes from a model, it takes from that."""
        ...

    def activations(self, layer: int, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... unit"]:
        """Every unit's activation on inputs x of a layer."""
        ...

    def reading(
        self, layer: int, x: Float[Tensor, "n d_in"], unit: Int[Tensor, "n"]
    ) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n"]]:
        """For each unit at its input x, its read vector and its constant: `vector · x + constant` is its value."""
        ...

    def written_layers(self, layer: int) -> range:
        """The layers whose MLP output a unit of this layer writes to."""
        ...

    def writing(self, layer: int, unit: Int[Tensor, "n"], to: int) -> Float[Tensor, "n d_out"]:
        """What each unit adds to the MLP output of layer `to`, per one of activation."""
        ...

    def decode(self, layer: int, activations: Float[Tensor, "... unit"], to: int) -> Float[Tensor, "... d_out"]:
        """What all units of a layer together add to the MLP output of layer `to`, biases not included."""
        ...

    def bias(self, layer: int) -> Float[Tensor, "d_out"]:
        """The constant part of the reconstruction of a layer."""
        ...

    def skip(self, layer: int) -> Float[Tensor, "d_out d_in"] | None:
        """The linear path from a layer's input straight to its reconstruction, None where the set has none."""
        ...


def written_within(dictionary: Dictionary, layer: int, window: int | None) -> range:
    """The layers that a unit of `layer` writes to, up to `window` past its own; None for all of them."""
    written = dictionary.written_layers(layer)
    return written if window is None else range(written.start, min(written.stop, layer + window + 1))
