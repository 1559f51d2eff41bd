"""The MLP outputs of a clean run taken apart: what units write to them, and what the dictionary misses."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary


def missed(transcoders: Dictionary, run: Trace, layer: int) -> Float[Tensor, "pos d_out"]:
    """What the dictionary misses of a layer's MLP output, at the site where it writes; 0 where it leaves that alone."""
    skip = transcoders.skip(layer)
    rebuilt = written_by_units(transcoders, run, layer) + transcoders.bias(layer)
    rebuilt = rebuilt if skip is None else rebuilt + run.inputs[layer] @ skip.T
    covered = torch.arange(len(run.tokens), device=run.tokens.device) >= transcoders.at(layer).silent_positions
    return (run.written[layer] - rebuilt) * covered[:, None]


def written_by_units(transcoders: Dictionary, run: Trace, layer: int) -> Float[Tensor, "pos d_out"]:
    """What the clean run's active units write to a layer: the rest of that MLP output is bias, skip and error."""
    out = torch.zeros_like(run.written[layer])
    for source in range(layer + 1):
        if layer in transcoders.written_layers(source):
            here = run.units_at("mlp", source)
            vectors = run.activation[here, None] * transcoders.writing(source, run.unit[here], layer)
            out.index_add_(0, run.position[here], vectors)
    return out
