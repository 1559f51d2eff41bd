"""Scores drawn by lot: what any method must do better than."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.edge_scores import components_of
from circuits.components.metrics import Metric
from circuits.components.pairs import Pairs
from circuits.components.transformer import Transformer


def draw_scores(
    transformer: Transformer, pairs: Pairs, metric: Metric, *, seed: int = 0
) -> Float[Tensor, "source reader"]:
    """A number from 0 to 1 for every edge, the same for every batch, times the pairs. No run."""
    components = components_of(transformer)
    numbers = torch.rand(components.edges.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn = numbers * torch.from_numpy(components.edges) * len(pairs)
    return drawn.to(transformer.W_U.device)
