"""One layer of a transformer as plain tensors: each head reads its own, and every step between is in the open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.features import Features
from circuits.components.norms import LiveNorm, SharedNorm, normalise
from circuits.transcoders.neurons import ACTIVATIONS

Rotation = Callable[[int], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Projection:
    """Queries, keys or values of every head. weight [group d_model d_head], bias [group d_head]; group: heads sharing.

    share: how many heads read each group (grouped-query attention).
    """

    weight: Float[Tensor, "group d_model d_head"]
    bias: Tensor | None
    share: int
    flat: Float[Tensor, "d_model width"] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "flat", self.weight.transpose(0, 1).flatten(1).contiguous())

    def __call__(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch head pos d_head"]:
        """All heads read the same."""
        out = (x @ self.flat).unflatten(-1, (len(self.weight), -1)).transpose(1, 2)
        return self._finish(out)

    def each(self, x: Float[Tensor, "batch head pos d_model"]) -> Float[Tensor, "batch head pos d_head"]:
        """Each head reads its own."""
        weight, bias = self.per_head()
        out = x @ weight
        return out if bias is None else out + bias[:, None]

    def per_head(self) -> tuple[Float[Tensor, "head d_model d_head"], Tensor | None]:
        """Weight and bias of each head, shared ones repeated."""
        bias = self.bias if self.bias is None else self.bias.repeat_interleave(self.share, 0)
        return self.weight.repeat_interleave(self.share, 0) if self.share > 1 else self.weight, bias

    def _finish(self, out: Tensor) -> Tensor:
        if self.bias is not None:
            out = out + self.bias[:, None]
        return out.repeat_interleave(self.share, 1) if self.share > 1 else out


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer. Norms are None where it has none.

    W_O [head d_head d_model]. scale: of the scores. cap: soft cap of the scores. window: how many keys back a query
    sees. rotation: cosines and sines [pos rotated] for a length. function: the MLP's activation f; ratio: f(x) / x.
    product: how a gated MLP multiplies. features: those of a set that the MLP's output may be taken apart into.
    """

    query: Projection
    key: Projection
    value: Projection
    query_norm: LiveNorm | SharedNorm | None
    key_norm: LiveNorm | SharedNorm | None
    W_O: Float[Tensor, "head d_head d_model"]
    b_O: Tensor | None
    scale: float
    cap: float | None
    window: int | None
    rotation: Rotation | None
    causal: bool
    norm: LiveNorm | None
    post_norm: LiveNorm | None
    mlp_norm: LiveNorm | None
    mlp_post_norm: LiveNorm | None
    W_gate: Tensor | None
    W_in: Tensor
    W_out: Tensor
    b_gate: Tensor | None
    b_in: Tensor | None
    b_out: Tensor | None
    function: Callable[[Tensor], Tensor]
    ratio: Callable[[Tensor], Tensor]
    product: Callable[[Tensor, Tensor], Tensor] = torch.mul
    features: Features | None = None

    @property
    def joint(self) -> bool:
        """Whether one head's queries or keys change those of the others, by a norm over all."""
        return isinstance(self.query_norm, SharedNorm) or isinstance(self.key_norm, SharedNorm)

    def attend(
        self,
        query: Float[Tensor, "#batch head query d_head"],
        key: Float[Tensor, "#batch head pos d_head"],
        value: Float[Tensor, "#batch head pos d_head"],
    ) -> Float[Tensor, "batch head query d_head"]:
        """Values mixed by the pattern; any selection of heads unless they are joint, then all.

        Fewer queries than keys are those of the last ones.
        """
        return self.scores(query, key).softmax(-1) @ value

    def scores(
        self, query: Float[Tensor, "#batch head query d_head"], key: Float[Tensor, "#batch head pos d_head"]
    ) -> Float[Tensor, "batch head query pos"]:
        """How much each position looks at each, before the softmax; minus infinity where it does not see it."""
        length = key.shape[-2]
        query = _rotate(normalise(self.query_norm, query), self.rotation, length)
        key = _rotate(normalise(self.key_norm, key), self.rotation, length)
        scores = self.scale * (query @ key.mT)
        if self.cap:
            scores = self.cap * torch.tanh(scores / self.cap)
        if self.causal:
            scores = scores.masked_fill(self._unseen(*scores.shape[-2:], scores.device), -torch.inf)
        return scores

    def write(self, mixed: Float[Tensor, "batch head pos d_head"]) -> Float[Tensor, "batch pos d_model"]:
        """The sum of what the heads write, with the bias, before any norm on it."""
        out = mixed.transpose(1, 2).flatten(2) @ self.W_O.flatten(0, 1)
        return out if self.b_O is None else out + self.b_O

    def mlp(self, stream: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """What the MLP adds when it reads this stream, its norms included."""
        return self.write_mlp(self.neurons(stream))

    def neurons(self, stream: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos neuron"]:
        """The activations of the MLP's neurons when it reads this stream."""
        x = normalise(self.mlp_norm, stream)
        before = x @ self.W_in if self.b_in is None else x @ self.W_in + self.b_in
        if self.W_gate is None:
            return self.function(before)
        gate = x @ self.W_gate if self.b_gate is None else x @ self.W_gate + self.b_gate
        return self.product(self.function(gate), before)

    def write_mlp(self, neurons: Float[Tensor, "batch pos neuron"]) -> Float[Tensor, "batch pos d_model"]:
        """What the MLP adds when its neurons are these, the norm on it included."""
        return normalise(self.mlp_post_norm, self.write_unnormed(neurons))

    def split(
        self, features: Features, stream: Float[Tensor, "batch pos d_model"], neurons: Float[Tensor, "batch pos neuron"]
    ) -> tuple[Float[Tensor, "batch pos feature"], Float[Tensor, "batch pos d_model"]]:
        """Activations of features when the MLP reads this stream, and what they miss of what its neurons write."""
        out = self.write_unnormed(neurons) if features.unnormed else self.write_mlp(neurons)
        return features.split(stream, out)

    def write_units(
        self,
        neurons: Float[Tensor, "batch pos neuron"],
        active: Float[Tensor, "batch pos feature"],
        error: Float[Tensor, "batch pos *d_model"],
    ) -> Float[Tensor, "batch pos d_model"]:
        """What the MLP adds when its neurons are these, or if it has features, when those are so and miss so much."""
        if self.features is None:
            return self.write_mlp(neurons)
        out = self.features.join(active, error)
        return normalise(self.mlp_post_norm, out) if self.features.unnormed else out

    def write_unnormed(self, neurons: Float[Tensor, "batch pos neuron"]) -> Float[Tensor, "batch pos d_model"]:
        """The same before the norm on it."""
        out = neurons @ self.W_out
        return out if self.b_out is None else out + self.b_out

    def _unseen(self, queries: int, length: int, device: torch.device) -> Tensor:
        at = torch.arange(length, device=device)
        behind = at[length - queries :, None] - at
        return (behind < 0) if self.window is None else (behind < 0) | (behind >= self.window)


def bare_layer(
    query: Projection,
    key: Projection,
    value: Projection,
    W_O: Float[Tensor, "head d_head d_model"],
    W_in: Float[Tensor, "d_model neuron"],
    b_in: Tensor,
    W_out: Float[Tensor, "neuron d_model"],
    *,
    scale: float = 1.0,
    causal: bool = True,
    norm: LiveNorm | None = None,
    b_O: Tensor | None = None,
    b_out: Tensor | None = None,
) -> Layer:
    """A layer of plain attention and a rectified MLP, nothing normed but what both read. norm: before each of them."""
    function, ratio = ACTIVATIONS["relu"]
    nothing = dict.fromkeys(
        ("query_norm", "key_norm", "cap", "window", "rotation", "post_norm", "mlp_post_norm", "W_gate", "b_gate")
    )
    return Layer(
        query=query,
        key=key,
        value=value,
        W_O=W_O,
        b_O=b_O,
        scale=scale,
        causal=causal,
        norm=norm,
        mlp_norm=norm,
        W_in=W_in,
        W_out=W_out,
        b_in=b_in,
        b_out=b_out,
        function=function,
        ratio=ratio,
        **nothing,
    )


def _rotate(
    x: Float[Tensor, "... pos d_head"], rotation: Rotation | None, length: int
) -> Float[Tensor, "... pos d_head"]:
    """The first dimensions of each head turned by position, halves against halves. x: the last ones of a length."""
    if rotation is None:
        return x
    cosine, sine = (table[length - x.shape[-2] :] for table in rotation(length))
    width = cosine.shape[-1]
    turned, rest = x[..., :width], x[..., width:]
    low, high = turned.chunk(2, -1)
    return torch.cat((turned * cosine + torch.cat((-high, low), -1) * sine, rest), -1)
