"""The model's own MLP neurons as a dictionary: nothing to train, no error, any model.

Ungated neurons read with their input weights. A gated neuron `a = f(g) u` is a product, so its read vector depends on
where it stands: half rule and identity rule together, `½ [f(g) W_in + u φ(g) W_gate]` with `φ(g) = f(g) / g`, the one
linearisation of the common ones whose inputs sum to the activation and that shares the credit between both branches.

Source: METHODS section 2.7; RelP (Rezaei Jafari et al. 2025) for half and identity rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from circuits.errors import UnfitTranscoders
from circuits.model import Model


def _tanh_ratio(g: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (g + 0.044715 * g**3)))


def _erf_ratio(g: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(g / math.sqrt(2)))


# Hugging Face's name of an activation -> the function f, and φ(g) = f(g) / g written without a division.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "relu": (functional.relu, lambda g: (g > 0).to(g.dtype)),
    "silu": (functional.silu, torch.sigmoid),
    "swish": (functional.silu, torch.sigmoid),
    "gelu": (functional.gelu, _erf_ratio),
    "gelu_new": (lambda g: g * _tanh_ratio(g), _tanh_ratio),
    "gelu_fast": (lambda g: g * _tanh_ratio(g), _tanh_ratio),
    "gelu_pytorch_tanh": (lambda g: functional.gelu(g, approximate="tanh"), _tanh_ratio),
}


class Neurons:
    """Every MLP neuron of a model as a feature. See `Dictionary` for the fields."""

    kind = "neuron"
    reads = "mlp_input"
    writes = "mlp_raw"
    exact = True
    silent_positions = 0
    cross_layer = False

    def __init__(self, model: Model) -> None:
        if model.activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise UnfitTranscoders(
                f"neurons of {model.name} use {model.activation!r}; the functions known are {known}."
            )
        self.name = "neurons"
        self.content_hash = model.content_hash
        self.layers = model.layers
        self.d_model = model.d_model
        self.units = model.neurons
        self.notes: dict[str, dict[str, Any]] = {}
        self._blocks = model.blocks
        self._function, self._ratio = ACTIVATIONS[model.activation]

    @property
    def gated(self) -> bool:
        return self._blocks[0].W_gate is not None

    def _before(self, layer: int, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The input branch u and the gate g of every neuron; g is None without a gate."""
        block = self._blocks[layer]
        u = x @ block.W_in + (0 if block.b_in is None else block.b_in)
        if block.W_gate is None:
            return u, None
        return u, x @ block.W_gate + (0 if block.b_gate is None else block.b_gate)

    def activations(self, layer: int, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... unit"]:
        u, g = self._before(layer, x)
        return self._function(u) if g is None else self._function(g) * u

    def reading(
        self, layer: int, x: Float[Tensor, "n d_in"], unit: Int[Tensor, "n"]
    ) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n"]]:
        block = self._blocks[layer]
        W_in = block.W_in.T[unit]
        b_in = x.new_zeros(len(unit)) if block.b_in is None else block.b_in[unit]
        if block.W_gate is None:
            return W_in, b_in
        W_gate = block.W_gate.T[unit]
        b_gate = x.new_zeros(len(unit)) if block.b_gate is None else block.b_gate[unit]
        u = (x * W_in).sum(-1) + b_in
        g = (x * W_gate).sum(-1) + b_gate
        of_input, of_gate = self._function(g) / 2, u * self._ratio(g) / 2
        return of_input[:, None] * W_in + of_gate[:, None] * W_gate, of_input * b_in + of_gate * b_gate

    def written_layers(self, layer: int) -> range:
        return range(layer, layer + 1)

    def writing(self, layer: int, unit: Int[Tensor, "n"], to: int) -> Float[Tensor, "n d_out"]:
        return self._blocks[layer].W_out[unit]

    def decode(self, layer: int, activations: Float[Tensor, "... unit"], to: int) -> Float[Tensor, "... d_out"]:
        return activations @ self._blocks[layer].W_out

    def bias(self, layer: int) -> Float[Tensor, "d_out"]:
        block = self._blocks[layer]
        return block.W_out.new_zeros(self.d_model) if block.b_out is None else block.b_out

    def skip(self, layer: int) -> None:
        return None
