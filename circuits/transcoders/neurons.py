"""The model's own MLP neurons as a dictionary: nothing to train, no error, any model.

Ungated neurons read with their input weights. A gated neuron `a = f(g) u` is a product, so its read vector depends on
where it stands, by one of three rules:

    half          ½ [f(g) W_in + u φ(g) W_gate], φ(g) = f(g) / g: half rule and identity rule together. Both branches
                  share the credit, and the inputs sum to the activation.
    frozen-gate   f(g) W_in: the gate is a constant, and gets no credit. The inputs sum to the activation.
    gradient      f(g) W_in + u f'(g) W_gate: what a small change would do. The rest of the activation is a constant.

The whole output of an MLP is read by the same rules, neuron by neuron; an ungated neuron's activation f(u) then with
φ(u) W_in, or by the gradient with f'(u) W_in.

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

from circuits.errors import BadOption, UnfitTranscoders
from circuits.model import Model
from circuits.transcoders.base import StandIn


def _tanh_gelu(g: Tensor) -> Tensor:
    return functional.gelu(g, approximate="tanh")  # in one piece: to autograd, one tensor to keep


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
    "gelu_new": (_tanh_gelu, _tanh_ratio),
    "gelu_fast": (_tanh_gelu, _tanh_ratio),
    "gelu_pytorch_tanh": (_tanh_gelu, _tanh_ratio),
}


RULES = ("half", "frozen-gate", "gradient")


class Neurons:
    """Every MLP neuron of a model as a feature. See `Dictionary` and `StandIn` for the fields.

    rule: one of RULES, how a gated neuron is made linear; without gates they are all the same.
    """

    kind = "neuron"
    reads = "mlp_input"
    writes = "mlp_raw"
    exact = True
    silent_positions = 0

    def __init__(self, model: Model, *, rule: str = RULES[0]) -> None:
        if rule not in RULES:
            raise BadOption(f"the rule for gated neurons must be one of {', '.join(RULES)}, found {rule!r}.")
        if model.family.mlp == "experts":
            raise UnfitTranscoders(
                f"{model.name} is a mixture of experts: which neurons run depends on the token, and they are not read "
                "one by one. Its MLPs are replaced as a whole: give a set of transcoders."
            )
        if model.activation not in ACTIVATIONS and model.family.mlp != "none":
            known = ", ".join(ACTIVATIONS)
            raise UnfitTranscoders(
                f"neurons of {model.name} use {model.activation!r}; the functions known are {known}."
            )
        self.name = "neurons" if rule == RULES[0] else f"neurons/{rule}"
        self.content_hash = model.content_hash
        self.layers = model.layers
        self.d_model = model.d_model
        self.units = model.neurons
        self.notes: dict[str, dict[str, Any]] = {}
        self._blocks = model.whole_blocks
        self._function, self._ratio = ACTIVATIONS[model.activation if model.neurons else "relu"]
        self._rule = rule

    @property
    def gated(self) -> bool:
        return self._blocks[0].W_gate is not None

    def at(self, layer: int) -> StandIn:
        return StandIn(self.kind, self.units, self.reads, self.writes, self.exact, self.silent_positions)

    def for_model(self, model: Model) -> Neurons:
        return Neurons(model, rule=self._rule)

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

    def ratio(self, layer: int, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... unit"]:
        """What turns every neuron's value (see `reading`) into its activation: φ where there is no gate, else 1."""
        u, g = self._before(layer, x)
        return self._ratio(u) if g is None else torch.ones_like(u)

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
        of_input, of_gate = self._credit(u, g)
        vector = of_input[:, None] * W_in + of_gate[:, None] * W_gate
        if self._rule == "gradient":
            return vector, self._function(g) * u - (x * vector).sum(-1)
        return vector, of_input * b_in + of_gate * b_gate

    def output(self, layer: int, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """What the MLP puts out, before a post-norm."""
        return self.decode(layer, self.activations(layer, x), layer) + self.bias(layer)

    def read_output(
        self, layer: int, x: Float[Tensor, "n d_in"], along: Float[Tensor, "n d_out"]
    ) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n"]]:
        """For each direction at its input x, a read vector and a constant: `vector · x + constant` is `along · output`.

        Every neuron is read by the rule. Rows with the same x do best to stand together.
        """
        block = self._blocks[layer]
        places, which = torch.unique_consecutive(x, dim=0, return_inverse=True)
        u, g = self._before(layer, places)
        of_input, of_gate = self._credit(u, g)
        share = along @ block.W_out.T
        of_input = share * of_input[which]
        vector = of_input @ block.W_in.T
        constant = along @ self.bias(layer)
        of_gate = share * of_gate[which]
        if block.W_gate is not None:
            vector = vector + of_gate @ block.W_gate.T
        if self._rule == "gradient":
            activation = self._function(u) if g is None else self._function(g) * u
            return vector, constant + (share * activation[which]).sum(-1) - (x * vector).sum(-1)
        if block.b_in is not None:
            constant = constant + of_input @ block.b_in
        if block.b_gate is not None:
            constant = constant + of_gate @ block.b_gate
        return vector, constant

    def _credit(self, u: Float[Tensor, "... unit"], g: Float[Tensor, "... unit"] | None) -> tuple[Tensor, Tensor]:
        """How much of the input branch u and of the gate g each neuron's activation is, by the rule."""
        if g is None:
            of_input = self._slope(u) if self._rule == "gradient" else self._ratio(u)
            return of_input, torch.zeros_like(u)
        opened = self._function(g)
        if self._rule == "frozen-gate":
            return opened, torch.zeros_like(u)
        if self._rule == "gradient":
            return opened, u * self._slope(g)
        return opened / 2, u * self._ratio(g) / 2

    @torch.enable_grad()
    def _slope(self, g: Float[Tensor, "... unit"]) -> Float[Tensor, "... unit"]:
        """The derivative of the activation function."""
        g = g.detach().requires_grad_()
        return torch.autograd.grad(self._function(g).sum(), g)[0]

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
