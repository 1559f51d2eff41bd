"""Attribution patching: what patching each head and MLP would do, by the clean run's gradients.

    score(n) = Σ (n(corrupted) - n(clean)) · ∂loss/∂n

The gradient of an MLP is taken at its output, which is what is patched; a known implementation takes its input's.

Source: Nanda 2023, "Attribution Patching"; METHODS section 8.3.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.ablations import Ablation, resample
from circuits.components.metrics import Metric
from circuits.components.pairs import Pairs
from circuits.components.part_gradients import differentiate_parts
from circuits.components.parts import Parts, by_part, column_of, total
from circuits.components.transformer import Transformer


def score_parts_by_gradient(
    transformer: Transformer,
    pairs: Pairs,
    metric: Metric,
    parts: Parts,
    *,
    positions: bool = False,
    ablation: Ablation = resample,
) -> Float[Tensor, "node *position"]:
    """What patching each part would add to the loss if everything were linear, summed over the pairs.

    positions: by position, else summed over them. Two runs forward, one back.
    """
    with torch.no_grad():
        other = ablation(transformer, pairs, neurons=bool(parts.width))
    gradients = differentiate_parts(transformer, parts, transformer.embed(pairs.clean), pairs, metric)
    scores = [
        by_part(column, (column_of(other, column) - column_of(gradients.run, column)) * gradients.at[column])
        for column in parts.columns
    ]
    return total(scores, positions=positions)
