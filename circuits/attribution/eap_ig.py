"""Edge attribution patching with integrated gradients over the inputs: gradients between the two prompts, averaged.

    gradients at  corrupted + k/m (clean - corrupted),  of the token embeddings

    steps from "corrupted"   k = 0 … m-1: the corrupted point in, the clean one out, as EAP-IG's program has it
    steps from "clean"       k = 1 … m, as its paper has it

Source: Hanna et al. 2024, "Have Faith in Faithfulness"; METHODS section 8.3.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.ablations import Ablation, resample
from circuits.components.edge_scores import differentiate, read_logits, score_edges
from circuits.components.metrics import Metric
from circuits.components.pairs import Pairs
from circuits.components.transformer import Transformer


@torch.no_grad()
def score_between_inputs(
    transformer: Transformer,
    pairs: Pairs,
    metric: Metric,
    *,
    positions: bool = False,
    ablation: Ablation = resample,
    steps: int = 5,
    begin: str = "corrupted",
) -> Float[Tensor, "source reader *position"]:
    """Scores with gradients averaged over `steps` points between the prompts, summed over the pairs.

    begin: which end is one of the points, "corrupted" or "clean". positions: of each position, else
    summed over them.
    """
    embedding = transformer.embed(pairs.clean)
    clean, corrupted = transformer.run(embedding).written(), ablation(transformer, pairs).written()
    way = clean.before[0] - corrupted.before[0]
    logits = read_logits(transformer, clean.after, pairs)
    total = logits.new_zeros((), dtype=torch.float64)
    for step in range(steps):
        share = (step + (begin == "clean")) / steps
        between = embedding + (share - 1) * way
        gradients = differentiate(transformer, between, pairs, metric, logits)
        total = total + score_edges(transformer, clean, corrupted, gradients, positions=positions)
        del gradients  # not held into the next step
    return total / steps
