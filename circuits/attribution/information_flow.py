"""Information-flow routes: which sources a stream is near to, on the clean prompt alone.

    near[u, v] = max(0, ‖input_v‖ - ‖input_v - u‖),  taken at each position in the sum of sizes, then shared out over u

Neither a corrupted prompt nor an answer is asked: the score says where a reader's input comes from, not what it is for.
Biases and learned positions are sources of the stream too, but no components: they take their share and are left out.

Source: Ferrando & Voita 2024, "Information Flow Routes"; METHODS section 8.3.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.edge_scores import components_of
from circuits.components.metrics import Metric
from circuits.components.pairs import Pairs
from circuits.components.transformer import Run, Transformer


@torch.no_grad()
def score_by_flow(transformer: Transformer, pairs: Pairs, metric: Metric) -> Float[Tensor, "source reader"]:
    """Shares, averaged over positions and summed over the pairs. One run forward."""
    clean = transformer.run(transformer.embed(pairs.clean))
    components = components_of(transformer)
    found = clean.after.new_zeros(len(components.sources), len(components.readers), dtype=torch.float64)
    written = _written(transformer, pairs, clean)
    for at in range(len(transformer.layers)):
        column, heads = components.first_reader(at), components.heads
        share = _shares(written[: components.before(at)], clean.before[at])
        found[: components.before(at), column : column + 3 * heads] = share[:, None]
        found[: components.mlp_sources(at), column + 3 * heads] = _shares(
            written[: components.mlp_sources(at)], clean.mlp_input[at]
        )
    found[:, -1] = _shares(written, clean.after)
    return found


def _written(transformer: Transformer, pairs: Pairs, clean: Run) -> list[Tensor]:
    """What each source adds to the stream. Each [pair pos d_model]"""
    written = [transformer.embed(pairs.clean)]
    for at, layer in enumerate(transformer.layers):
        for head in range(transformer.heads):
            added = clean.mixed[at][:, head] @ layer.W_O[head]
            norm = layer.post_norm
            if norm is not None:  # its scale is the sum's
                centred = added - added.mean(-1, keepdim=True) if norm.centred else added
                added = norm.gain * centred / norm.parts(clean.attention[at])[1]
            written.append(added)
        written.append(clean.mlp[at])
    return written


def _shares(written: list[Tensor], stream: Tensor) -> Float[Tensor, "source"]:
    size = stream.abs().sum(-1)
    near = torch.stack([(size - (stream - each).abs().sum(-1)).clamp_min(0) for each in written])
    share = near / near.sum(0).clamp_min(torch.finfo(near.dtype).tiny)
    return share.mean(-1).sum(-1).double()
