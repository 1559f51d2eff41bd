"""Transcoders under training, or just trained: their weights with gradients, one tensor a layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Trained:
    """Slot j of layer l's decoder writes to the output of MLP l + j.

    encoder: one a layer. [feature d_in]
    encoder_bias: one a layer. [feature]
    threshold: one a layer; says nothing where there is a k. [feature]
    decoder: one a layer; one slot when per-layer. [feature slot d_out]
    decoder_bias: belongs to the layer written to. [layer d_out]
    skip: one a layer, a linear path beside the features; None without. [d_out d_in]
    k: TopK, as circuit-tracer has it: the k largest are active, whatever their sign. None: JumpReLU.
    """

    encoder: tuple[Float[Tensor, "feature d_in"], ...]
    encoder_bias: tuple[Float[Tensor, "feature"], ...]
    threshold: tuple[Float[Tensor, "feature"], ...]
    decoder: tuple[Float[Tensor, "feature _slot d_out"], ...]
    decoder_bias: Float[Tensor, "layer d_out"]
    skip: tuple[Float[Tensor, "d_out d_in"], ...] | None = None
    k: int | None = None

    @property
    def layers(self) -> int:
        return len(self.encoder)

    @property
    def weights(self) -> dict[str, Tensor]:
        """What is learned by gradient, by name and layer."""
        found = {
            f"{name}.{layer}": tensor
            for name in ("encoder", "encoder_bias", "decoder", "skip")
            for layer, tensor in enumerate(getattr(self, name) or ())
        }
        return {**found, "decoder_bias": self.decoder_bias}

    def before(self, x: Float[Tensor, "*batch d_in"], layer: int) -> Float[Tensor, "*batch feature"]:
        """What each feature has before it is decided which are active."""
        return nn.functional.linear(x, self.encoder[layer], self.encoder_bias[layer])

    def gate(self, h: Float[Tensor, "*batch feature"], layer: int) -> Float[Tensor, "*batch feature"]:
        """The same, zero where a feature is not active."""
        if self.k is None:
            return h * (h > self.threshold[layer])
        top = h.topk(self.k, dim=-1)
        return torch.zeros_like(h).scatter(-1, top.indices, top.values)

    def encode(self, x: Float[Tensor, "*batch d_in"], layer: int) -> Float[Tensor, "*batch feature"]:
        return self.gate(self.before(x, layer), layer)

    def decode(self, active: Sequence[Float[Tensor, "*batch feature"]], layer: int) -> Float[Tensor, "*batch d_out"]:
        """What the features of layers 0 to `layer` write to the output of MLP `layer`.

        active: activations of the layers up to this one; only the last is read when per-layer.
        """
        out = self.decoder_bias[layer]
        for source in range(layer + 1):
            if layer - source < self.decoder[source].shape[1]:
                out = out + active[source] @ self.decoder[source][:, layer - source]
        return out

    def rebuild(
        self, active: Sequence[Float[Tensor, "*batch feature"]], x: Float[Tensor, "*batch d_in"], layer: int
    ) -> Float[Tensor, "*batch d_out"]:
        """The output of MLP `layer`: what features write, and what the skip passes on of its input."""
        out = self.decode(active, layer)
        return out if self.skip is None else out + nn.functional.linear(x, self.skip[layer])

    def map(self, change: Callable[[Tensor], Tensor]) -> "Trained":
        """The same with every tensor changed, say moved or rounded."""
        return replace(
            self,
            encoder=tuple(map(change, self.encoder)),
            encoder_bias=tuple(map(change, self.encoder_bias)),
            threshold=tuple(map(change, self.threshold)),
            decoder=tuple(map(change, self.decoder)),
            decoder_bias=change(self.decoder_bias),
            skip=None if self.skip is None else tuple(map(change, self.skip)),
        )
