"""Conductance: how much of the change between two prompts flows through each part, neurons above all.

    score(n) = Σ_k ∂loss/∂n at step k · (n at step k - n at step k-1),   k = 1 … m

where the token embeddings go from the clean prompt's to the corrupted one's in m steps, and the gradient is that
halfway through each. Integrated gradients, read off inside: a part that answers to the inputs, and on which the loss
depends, has some. All that one layer must pass through, and all the positions of the tokens, add up to the loss's rise.

Source: Dhamdhere et al. 2018, "How Important Is a Neuron?".
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.ablations import Ablation, resample
from circuits.components.edge_scores import read_logits
from circuits.components.metrics import Metric
from circuits.components.pairs import Pairs
from circuits.components.part_gradients import differentiate_parts
from circuits.components.parts import Parts, by_part, column_of, total
from circuits.components.transformer import Transformer


@torch.no_grad()
def score_by_conductance(
    transformer: Transformer,
    pairs: Pairs,
    metric: Metric,
    parts: Parts,
    *,
    positions: bool = False,
    ablation: Ablation = resample,
    steps: int = 10,
) -> Float[Tensor, "node *position"]:
    """What flows through each part on the way to the other prompt, summed over the pairs. 2 steps + 1 runs, steps back.

    positions: by position, else summed over them.
    """
    clean = transformer.embed(pairs.clean)
    way = ablation(transformer, pairs).before[0] - transformer.begin(clean)
    kept = bool(parts.width)
    last = transformer.run(clean, neurons=kept)
    logits = read_logits(transformer, last.after, pairs)
    scores = [torch.zeros((), dtype=torch.float64, device=logits.device)] * len(parts.columns)
    for step in range(steps):
        here = transformer.run(clean + (step + 1) / steps * way, neurons=kept)
        gradients = differentiate_parts(transformer, parts, clean + (step + 0.5) / steps * way, pairs, metric, logits)
        for at, column in enumerate(parts.columns):
            moved = column_of(here, column) - column_of(last, column)
            scores[at] = scores[at] + by_part(column, moved * gradients.at[column])
        last = here
    return total(scores, positions=positions)
