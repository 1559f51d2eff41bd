"""Norms as a model computes them: their scale follows their input, and has a gradient unless it is held."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LiveNorm:
    """A norm as the model computes it: its scale follows its input.

    gain, bias [d]; centred: it takes the mean off (a layer norm); epsilon: added to the variance.
    held: to gradients its scale is a constant.
    """

    gain: Tensor
    bias: Tensor | None
    centred: bool
    epsilon: float
    held: bool = False

    def __call__(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        if self.held:
            centred = x - x.mean(-1, keepdim=True) if self.centred else x
            normalised = self.gain * centred / self.parts(x)[1].detach()
            return normalised if self.bias is None else normalised + self.bias
        if self.centred:
            return torch.nn.functional.layer_norm(x, x.shape[-1:], self.gain, self.bias, self.epsilon)
        return self.gain * (x * (x.square().mean(-1, keepdim=True) + self.epsilon).rsqrt())

    def parts(self, x: Float[Tensor, "... d"]) -> tuple[Float[Tensor, "... d"], Float[Tensor, "... 1"]]:
        """What it gives before gain and bias, and the scale it divided by."""
        x = x - x.mean(-1, keepdim=True) if self.centred else x
        scale = (x.square().mean(-1, keepdim=True) + self.epsilon).sqrt()
        return x / scale, scale

    def carry(self, change: Float[Tensor, "... d"], x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """What a small change of the input x becomes: the derivative of the norm at x times the change."""
        normalised, scale = self.parts(x)
        change = change - change.mean(-1, keepdim=True) if self.centred else change
        if not self.held:
            change = change - normalised * (normalised * change).mean(-1, keepdim=True)
        return self.gain * change / scale


@dataclass(frozen=True, eq=False)
class SharedNorm:
    """An RMS norm over the queries, or the keys, of all heads at once: each head's depend on what the others read.

    gain [head d_head]; epsilon: added to the mean square. held: to gradients its scale is a constant. Where heads share
    keys the mean is over every head's copy, so that each may be another.
    """

    gain: Float[Tensor, "head d_head"]
    epsilon: float
    held: bool = False

    def __call__(self, x: Float[Tensor, "batch head pos d_head"]) -> Float[Tensor, "batch head pos d_head"]:
        scale = (x.square().mean((1, 3), keepdim=True) + self.epsilon).sqrt()
        return self.gain[:, None] * x / (scale.detach() if self.held else scale)


def normalise(norm: LiveNorm | SharedNorm | None, x: Tensor) -> Tensor:
    """What a norm makes of x; x itself where there is none."""
    return x if norm is None else norm(x)
