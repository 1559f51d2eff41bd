"""Features of a transcoder set as parts of a layer's MLP, which itself stays the model's own.

    MLP output = Σ_f activation_f · decoder_f + bias + error

where the error is all that the features miss, whatever the MLP reads: nothing is replaced, only taken apart. Features
that are not among those looked at count as error, and so does the whole output at positions that the set leaves alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Features:
    """Some features of one layer, in the order of their numbers in the set.

    unit: these numbers. activate: their activations on a stream that the MLP reads, with gradients. W_dec: what each
    writes per one of activation. bias: of the decoder. unnormed: they write before the norm behind the MLP.
    silent: how many of the first positions are left alone.
    """

    unit: Int[Tensor, "feature"]
    activate: Callable[[Tensor, Tensor], Tensor]
    W_dec: Float[Tensor, "feature d_model"]
    bias: Float[Tensor, "d_model"]
    unnormed: bool
    silent: int

    def active(self, stream: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos feature"]:
        """How active they are when the MLP reads this stream."""
        heard = torch.arange(stream.shape[1], device=stream.device) >= self.silent
        return self.activate(stream, self.unit) * heard[:, None]

    def split(
        self, stream: Float[Tensor, "batch pos d_model"], out: Float[Tensor, "batch pos d_model"]
    ) -> tuple[Float[Tensor, "batch pos feature"], Float[Tensor, "batch pos d_model"]]:
        """How active they are, and what they miss of this output."""
        active = self.active(stream)
        error = out - self.join(active, torch.zeros_like(out))
        return active.clone(), error  # a tensor of its own: its gradient leaves out what the error makes of it

    def join(
        self, active: Float[Tensor, "batch pos feature"], error: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        """The output that they make with this error."""
        return active @ self.W_dec + self.bias + error

    def only(self, rows: Int[Tensor, "some"]) -> Features:
        """Some of them, by row."""
        return replace(self, unit=self.unit[rows], W_dec=self.W_dec[rows])
