"""Edge attribution patching with the gradients of both runs, the clean and the corrupted, averaged.

Source: Hanna et al. 2024 (EAP-IG), "clean-corrupted"; METHODS section 8.3.
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


def score_at_both_ends(
    transformer: Transformer, pairs: Pairs, metric: Metric, *, ablation: Ablation = resample
) -> Float[Tensor, "source reader"]:
    """The mean of two scores, with gradients at the clean run and at one on what takes the tokens' place.

    Three runs forward, two back.
    """
    embedding = transformer.embed(pairs.clean)
    with torch.no_grad():
        other = ablation(transformer, pairs).written()
        end = embedding + other.before[0] - transformer.begin(embedding)
    clean = differentiate(transformer, embedding, pairs, metric)
    corrupted = differentiate(transformer, end, pairs, metric, clean.logits)
    both = (score_edges(transformer, clean.run, other, each) for each in (clean, corrupted))
    return sum(both, start=clean.loss.new_zeros(())) / 2
