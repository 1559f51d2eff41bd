"""Autoencoders of MLP outputs as a dictionary: each feature is read through the MLP whose output it reads.

An autoencoder's feature reads what its layer's MLP puts out, `h = e · y + b`, and writes into that same output. What an
edge has to know is how the stream before the MLP makes h; no gradient leads there through the frozen model, which cuts
the MLP out. So the MLP is made linear where the feature stands, neuron by neuron, by the rules of `neurons.RULES`,

    y = J x + c   at this input x, exactly,   h = (eᵀJ) x + (e · c + b)

and eᵀJ is the feature's read vector: one that depends on the position, like that of a gated neuron. Behind a post-norm
e goes back through that norm first, its denominator held. The rule decides which inputs get the credit, not how much of
it there is: h is the sum of what is read under each. Decoder, bias and error are what they are for a transcoder.

Source: the reading through a linearised MLP is ours; for the rules METHODS section 2.7. Autoencoders of MLP outputs:
Bricken et al. 2023, "Towards Monosemanticity"; Lieberum et al. 2024, "Gemma Scope".
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.frozen import FrozenNorm
from circuits.model import Model
from circuits.transcoders.base import StandIn
from circuits.transcoders.neurons import RULES, Neurons
from circuits.transcoders.transcoders import Transcoders
from circuits.weights import Norm


class Autoencoders:
    """A per-layer set of autoencoders that reads and writes "mlp_output" or "mlp_raw". See `Dictionary` for the fields.

    rule: one of RULES, how the MLPs are made linear.

    Raises:
        UnfitTranscoders: the model's neurons cannot be read, see `Neurons`.
    """

    def __init__(self, found: Transcoders, model: Model, *, rule: str = RULES[0]) -> None:
        self.name = found.name
        self.content_hash = found.content_hash
        self.layers = found.layers
        self.d_model = found.d_model
        self.notes = found.notes
        self._set = found
        self._neurons = Neurons(model, rule=rule)
        self._rule = rule
        self._numbers = found.of_layers
        behind = [model.blocks[number].mlp_post_norm for number in self._numbers]
        self._post_norms = behind if found.writes == "mlp_output" else [None] * len(behind)
        self._centred = model.family.norm == "layer"
        self._epsilon = model.network.config.rms_norm_eps if any(self._post_norms) else 0.0

    def at(self, layer: int) -> StandIn:
        found = self._set
        return StandIn(found.kind, found.units, "mlp_input", found.writes, False, found.silent_positions)

    def for_model(self, model: Model) -> Autoencoders:
        return Autoencoders(self._set, model, rule=self._rule)

    def activations(self, layer: int, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... unit"]:
        out = self._neurons.output(self._numbers[layer], x)
        behind = self._post_norms[layer]
        if behind is not None:
            norm = self._held(behind, out.flatten(0, -2))
            out = norm.apply(out.flatten(0, -2)).view_as(out)
            out = out if norm.bias is None else out + norm.bias
        return self._set.activations(layer, out)

    def reading(
        self, layer: int, x: Float[Tensor, "n d_in"], unit: Int[Tensor, "n"]
    ) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n"]]:
        encoder, constant = self._set.reading(layer, x, unit)
        behind = self._post_norms[layer]
        if behind is not None:
            places, which = torch.unique_consecutive(x, dim=0, return_inverse=True)
            norm = self._held(behind, self._neurons.output(self._numbers[layer], places))
            constant = constant if norm.bias is None else constant + encoder @ norm.bias
            encoder = norm.transpose(encoder, which)
        vector, rest = self._neurons.read_output(self._numbers[layer], x, encoder)
        return vector, constant + rest

    def _held(self, norm: Norm, out: Float[Tensor, "n d_out"]) -> FrozenNorm:
        """The norm behind an MLP with the denominators that these outputs have."""
        spread = out - out.mean(-1, keepdim=True) if self._centred else out
        scale = (spread.square().mean(-1, keepdim=True) + self._epsilon).sqrt()
        return FrozenNorm(norm.gain, norm.bias, scale, self._centred)

    def written_layers(self, layer: int) -> range:
        return self._set.written_layers(layer)

    def writing(self, layer: int, unit: Int[Tensor, "n"], to: int) -> Float[Tensor, "n d_out"]:
        return self._set.writing(layer, unit, to)

    def decode(self, layer: int, activations: Float[Tensor, "... unit"], to: int) -> Float[Tensor, "... d_out"]:
        return self._set.decode(layer, activations, to)

    def bias(self, layer: int) -> Float[Tensor, "d_out"]:
        return self._set.bias(layer)

    def skip(self, layer: int) -> None:
        return None
