"""Edge attribution patching with the gradients of both runs, the clean and the corrupted, averaged.

Source: Hanna et al. 2024 (EAP-IG), "clean-corrupted"; METHODS section 8.3.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from circuits.edge_scores import differentiate, score_edges
from circuits.metrics import Metric
from circuits.pairs import Pairs
from circuits.transformer import Transformer


def score_at_both_ends(transformer: Transformer, pairs: Pairs, metric: Metric) -> Float[Tensor, "source reader"]:
    """The mean of two scores, with gradients at the clean and at the corrupted run. Two runs forward, two back."""
    clean = differentiate(transformer, transformer.embed(pairs.clean), pairs, metric)
    corrupted = differentiate(transformer, transformer.embed(pairs.corrupted), pairs, metric, clean.logits)
    both = (score_edges(transformer, clean.run, corrupted.run, each) for each in (clean, corrupted))
    return sum(both, start=clean.loss.new_zeros(())) / 2
