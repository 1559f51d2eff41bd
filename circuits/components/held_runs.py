"""A run in which every component writes what it is told, whatever it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from circuits.components.norms import normalise
from circuits.components.transformer import Run, Transformer

HELD = ("query", "key", "value", "mixed", "neurons", "features", "errors", "mlp")  # the columns of a run that are told


def hold(
    transformer: Transformer, start: Float[Tensor, "pair pos d_model"], told: Mapping[str, Sequence[Tensor]]
) -> Run:
    """The run that begins with this stream and in which heads and MLPs write these values.

    told: for each of HELD, one tensor a layer, of the shape that a run has there. Streams are sums of "mixed" through
    the output weights and of "mlp"; the others are as they are told.
    """
    stream, streams, attention, read = start, [], [], []
    for layer, mixed, mlp in zip(transformer.layers, told["mixed"], told["mlp"], strict=True):
        streams.append(stream)
        attention.append(layer.write(mixed))
        middle = stream + normalise(layer.post_norm, attention[-1])
        read.append(stream if transformer.parallel else middle)
        stream = middle + mlp
    columns = {name: list(told[name]) for name in HELD}
    return Run(before=streams, attention=attention, mlp_input=read, after=stream, **columns)


def spread(values: Tensor, pairs: int, length: int) -> Tensor:
    """Values of one position, or of each, as a run holds that column: [pair head pos d_head] or [pair pos d].

    values: [head pos d_head] or [pos d], one position or all of them.
    """
    shape = list(values.shape)
    shape[-2] = length
    return values.expand(pairs, *shape)
