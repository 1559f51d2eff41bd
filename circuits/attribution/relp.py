"""Relevance patching: edge attribution patching whose way back follows the rules of layer-wise relevance propagation.

    norms          their scale is a constant
    activations    f(x) = (f(x) / x) x, the ratio a constant, in place of the slope
    gated MLPs     each of the two factors gets half

Patterns keep their gradients: with those held as well, as some have it, no edge into queries or keys would count.

Source: Rezaei Jafari et al. 2025, "RelP"; METHODS section 8.3.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.ablations import Ablation, resample
from circuits.components.edge_scores import differentiate, score_edges
from circuits.components.layers import Layer
from circuits.components.metrics import Metric
from circuits.components.norms import LiveNorm, SharedNorm
from circuits.components.pairs import Pairs
from circuits.components.transformer import Transformer

AnyNorm = TypeVar("AnyNorm", LiveNorm, SharedNorm)
NORMS = ("norm", "post_norm", "mlp_norm", "mlp_post_norm", "query_norm", "key_norm")


def score_by_relevance(
    transformer: Transformer, pairs: Pairs, metric: Metric, *, ablation: Ablation = resample
) -> Float[Tensor, "source reader"]:
    """Scores summed over the pairs. Two runs forward, one back."""
    ruled = follow_rules(transformer)
    with torch.no_grad():
        corrupted = ablation(ruled, pairs)
    gradients = differentiate(ruled, ruled.embed(pairs.clean), pairs, metric)
    return score_edges(ruled, gradients.run, corrupted, gradients)


def follow_rules(transformer: Transformer) -> Transformer:
    """The same transformer forward; backward by the rules."""
    return replace(
        transformer, layers=[_rule(each) for each in transformer.layers], final_norm=_hold(transformer.final_norm)
    )


def _rule(layer: Layer) -> Layer:
    norms = {name: _hold(getattr(layer, name)) for name in NORMS}
    return replace(layer, **norms, function=lambda x: x * layer.ratio(x).detach(), product=_half)


def _hold(norm: AnyNorm | None) -> AnyNorm | None:
    return None if norm is None else replace(norm, held=True)


def _half(a: Tensor, b: Tensor) -> Tensor:
    return (a * b.detach() + a.detach() * b) / 2
