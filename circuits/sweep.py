"""One pass back through the frozen model: the gradient of many targets at every place where something is written.

    at an MLP's output       the sources written there are scored; no gradient passes the MLP, but by a skip
    at an attention's output its biases are scored; the gradient passes on: g += attentionᵀ g
    a target joins           where it reads; its row of g is one vector at its own position until then

Source: METHODS section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.frozen import Frozen
from circuits.transcoders.base import Dictionary


@dataclass(frozen=True, eq=False)
class Targets:
    """What gradients start from. Rows stand in reverse reading order: later layers first.

    layer: the layer whose MLP a target reads beside; the number of layers for logits. [target]
    position: where it reads. [target]
    vector: its read vector in the residual stream there. [target d_model]
    """

    layer: Int[Tensor, "target"]
    position: Int[Tensor, "target"]
    vector: Float[Tensor, "target d_model"]


def sweep_back(
    frozen: Frozen, dictionary: Dictionary, targets: Targets
) -> Iterator[tuple[str, int, Float[Tensor, "live pos d_model"]]]:
    """Yield ("mlp" | "attention" | "embedding", layer, gradient there) from the last layer to the first.

    The gradient holds the first `live` targets: the others read below that place. Positions right of the last target's
    are cut off. The tensor is updated in place between two yields: score it, do not keep it.
    """
    length = int(targets.position.max()) + 1
    rows = torch.arange(len(targets.layer), device=targets.vector.device)
    g = targets.vector.new_zeros(len(rows), length, targets.vector.shape[1])
    g[rows, targets.position] = targets.vector
    for layer in reversed(range(frozen.layers)):
        above = int((targets.layer > layer).sum())
        reading = above if frozen.parallel else int((targets.layer >= layer).sum())
        yield "mlp", layer, g[:above]
        skipped = _through_skip(frozen, dictionary, layer, g[:above])
        if skipped is not None and not frozen.parallel:
            g[:above] += skipped
        yield "attention", layer, g[:reading]
        attended = frozen.attention[layer].transpose(g[:reading])
        if skipped is not None and frozen.parallel:
            g[:above] += skipped
        g[:reading] += attended
    yield "embedding", -1, g


def _through_skip(frozen: Frozen, dictionary: Dictionary, layer: int, g: Tensor) -> Tensor | None:
    skip = dictionary.skip(layer)
    if skip is None:
        return None
    here = slice(g.shape[1])
    post_norm = frozen.mlp_post_norm[layer]
    if dictionary.writes == "mlp_raw" and post_norm is not None:
        g = post_norm.transpose(g, here)
    g = g @ skip
    if dictionary.reads == "residual_mid":
        return g
    return frozen.mlp_norm[layer].transpose(g, here, gained=dictionary.reads == "mlp_input")
