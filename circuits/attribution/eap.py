"""Edge attribution patching: the corrupted prompt's change of every source along the clean run's gradients.

Source: Syed et al. 2023, "Attribution Patching Outperforms Automated Circuit Discovery"; METHODS section 8.3.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.ablations import Ablation, resample
from circuits.components.edge_scores import differentiate, score_edges
from circuits.components.metrics import Metric
from circuits.components.pairs import Pairs
from circuits.components.transformer import Transformer


def score_by_gradient(
    transformer: Transformer,
    pairs: Pairs,
    metric: Metric,
    *,
    positions: bool = False,
    ablation: Ablation = resample,
) -> Float[Tensor, "source reader *position"]:
    """What patching each edge would add to the loss if everything were linear, summed over the pairs.

    positions: of each position, else summed over them. Two runs forward, one back.
    """
    with torch.no_grad():
        corrupted = ablation(transformer, pairs).written()
    gradients = differentiate(transformer, transformer.embed(pairs.clean), pairs, metric)
    return score_edges(transformer, gradients.run, corrupted, gradients, positions=positions)
