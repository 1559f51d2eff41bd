"""Exact edge patching: every edge by itself carries what takes its place, and the loss is measured.

The truth that other methods are held to. What comes before the reader is the clean run's; from there the model goes on
once for every edge, edges of one reader's layer side by side.

Source: METHODS section 8.2, edge patching.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.ablations import Ablation, resample
from circuits.components.edge_scores import components_of, loss_of, read_logits
from circuits.components.head_changes import beyond_norm, change_one_head, read_by_heads
from circuits.components.metrics import Metric
from circuits.components.norms import normalise
from circuits.components.pairs import Pairs
from circuits.components.transformer import Run, Transformer

ROWS = 2**14  # positions of all pairs and edges that go on at once


@torch.no_grad()
def patch_every_edge(
    transformer: Transformer, pairs: Pairs, metric: Metric, *, ablation: Ablation = resample
) -> Float[Tensor, "source reader"]:
    """What patching each edge adds to the loss, summed over the pairs. One run from the reader's layer for each."""
    clean, corrupted = transformer.run(transformer.embed(pairs.clean)), ablation(transformer, pairs)
    logits = read_logits(transformer, clean.after, pairs)
    before = loss_of(transformer, logits, pairs, metric, logits)
    components = components_of(transformer)
    found = logits.new_zeros(len(components.sources), len(components.readers), dtype=torch.float64)

    def risen(after: Float[Tensor, "edge pair pos d_model"]) -> Float[Tensor, "edge"]:
        losses = [loss_of(transformer, read_logits(transformer, each, pairs), pairs, metric, logits) for each in after]
        return (torch.stack(losses) - before).double().sum(1)

    at_once = max(1, ROWS // pairs.clean.numel())
    for source in range(len(components.sources)):
        change = _change(transformer, clean, corrupted, source)
        for at in range(len(transformer.layers)):
            column, heads = components.first_reader(at), components.heads
            if source < components.before(at):
                after = _through_heads(transformer, clean, at, change)
                for first in range(0, 3 * heads, at_once):
                    chunk = after[first : first + at_once]
                    found[source, column + first : column + first + len(chunk)] = risen(
                        transformer.go_on_beside(clean, at, chunk)
                    )
            if source < components.mlp_sources(at):
                mlp = transformer.layers[at].mlp(clean.mlp_input[at] + change)
                end = clean.before[at + 1] if at + 1 < len(transformer.layers) else clean.after
                stream = end + mlp - clean.mlp[at]
                found[source, column + 3 * heads] = risen(transformer.go_on(stream, at + 1, keep=False).after[None])[0]
        found[source, -1] = risen((clean.after + change)[None])[0]
    return found


def _change(transformer: Transformer, clean: Run, corrupted: Run, source: int) -> Float[Tensor, "pair pos d_model"]:
    """How what a source writes differs between the runs, as it reaches the stream."""
    if source == 0:
        return corrupted.before[0] - clean.before[0]
    at, head = divmod(source - 1, transformer.heads + 1)
    if head == transformer.heads:
        return corrupted.mlp[at] - clean.mlp[at]
    layer = transformer.layers[at]
    change = (corrupted.mixed[at][:, head] - clean.mixed[at][:, head]) @ layer.W_O[head]
    return beyond_norm(layer, clean.attention[at], change)


def _through_heads(
    transformer: Transformer, clean: Run, at: int, change: Float[Tensor, "pair pos d_model"]
) -> Float[Tensor, "reader pair pos d_model"]:
    """For each query, key and value of a layer that reads the change: what the layer's attention then adds more."""
    layer = transformer.layers[at]
    x = normalise(layer.norm, clean.before[at] + change)
    read = read_by_heads(clean, at)
    found = [
        beyond_norm(layer, clean.attention[at], change_one_head(layer, read, clean.mixed[at], own, project(x)))
        for own, project in enumerate((layer.query, layer.key, layer.value))
    ]
    return torch.cat(found)
