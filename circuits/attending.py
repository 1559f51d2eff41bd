"""What stands in for attention on one prompt: where its features look, what they write, and what they miss.

A replaced attention is passed by no gradient: what reads above it takes from its features, its error and its bias.
These features in turn read the stream before it, at every position that they look at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.frozen import Frozen
from circuits.transcoders.lorsa import Lorsa
from circuits.transcoders.with_attention import AttentionSet
from graphs.nodes import Nodes

OFFSET = 2**40  # in a trace, units with numbers from here on are those of attention: each its own number above this


@dataclass(frozen=True, eq=False)
class Attended:
    """One layer whose attention is replaced.

    inputs: what its features read. [pos d_model] patterns: where they look, None for features that read the output of
        the model's own attention. [head query key]
    written: the real output at the site where the set writes. outputs: as it joins the residual stream. [pos d_model]
    bias, errors: the constant part of the output, and what the set misses of it. missed: the same of `written`.
        [pos d_model]
    """

    inputs: Float[Tensor, "pos d_model"]
    patterns: Float[Tensor, "head query key"] | None
    written: Float[Tensor, "pos d_model"]
    outputs: Float[Tensor, "pos d_model"]
    bias: Float[Tensor, "pos d_model"]
    errors: Float[Tensor, "pos d_model"]
    missed: Float[Tensor, "pos d_model"]

    def looks(self, frozen: Frozen, layer: int) -> Float[Tensor, "head query key"] | None:
        """The patterns over the scale of the norm that is read through, as `Frozen.looks` has them."""
        return None if self.patterns is None else self.patterns / frozen.attention_norm[layer].scale[:, 0]


def places_of(nodes: Nodes, rows: Int[np.ndarray, "unit"]) -> Int[np.ndarray, "unit 3"]:
    """(layer, position, unit) of some of a graph's units, numbered as in a trace."""
    unit = nodes.feature[rows] + OFFSET * (nodes.kind[rows] == "attention")
    return np.stack([nodes.layer[rows].astype(np.int64), nodes.position[rows].astype(np.int64), unit], axis=1)


def name_unit(layer: int, number: int) -> str:
    """`2/544`, or `2/attn/544` for a unit of attention; number: as in a trace."""
    return f"{layer}/{number}" if number < OFFSET else f"{layer}/attn/{number - OFFSET}"


def attend(
    frozen: Frozen,
    attention: AttentionSet,
    layer: int,
    stream: Float[Tensor, "pos d_model"],
    written: Float[Tensor, "pos d_model"],
    outputs: Float[Tensor, "pos d_model"],
) -> tuple[Attended, Float[Tensor, "pos unit"]]:
    """A set in place of one layer's attention, and what its features' activations are.

    stream: as it enters the layer. written, outputs: see `Attended`.
    """
    if isinstance(attention, Lorsa):
        inputs = frozen.attention_input(stream, layer, attention.reads)
        patterns = attention.patterns(layer, inputs)
    else:  # the frozen attention's output, as a sum over what it is made of: the real one comes from float32 norms
        own = frozen.attention[layer]
        inputs = outputs = written = own.forward(stream) + sum(own.constant.values())
        patterns = None
    activations = attention.activations(layer, inputs)
    here = torch.arange(len(stream), device=stream.device)
    bias = frozen.attention_written(attention.bias(layer).expand_as(stream), layer, here, attention.writes)
    post_norm = frozen.attention_post_norm[layer]
    if attention.writes == "attention_raw" and post_norm is not None and post_norm.bias is not None:
        bias = bias + post_norm.bias
    decoded = attention.decode(layer, activations)
    errors = outputs - frozen.attention_written(decoded, layer, here, attention.writes) - bias
    missed = written - decoded - attention.bias(layer)
    return Attended(inputs, patterns, written, outputs, bias, errors, missed), activations
