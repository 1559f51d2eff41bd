"""Edge attribution patching with integrated gradients over activations, one stage of the model at a time.

A stage is the input, the heads of a layer, or its MLP. For each, and for k of m steps, what the stage writes is set
between corrupted and clean, all else being clean, and the gradients at every component are taken; all are averaged.
What is set has no way back: components before a stage get no gradient through it.

    steps from "clean"       k = 1 … m: the clean point in, the corrupted one out, as EAP-IG's program has it here
    steps from "corrupted"   k = 0 … m-1, as that program has it for inputs

Source: Hanna et al. 2024 (EAP-IG), "EAP-IG-activations"; METHODS section 8.3.
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
def score_between_activations(
    transformer: Transformer,
    pairs: Pairs,
    metric: Metric,
    *,
    positions: bool = False,
    ablation: Ablation = resample,
    steps: int = 5,
    begin: str = "clean",
) -> Float[Tensor, "source reader *position"]:
    """Scores averaged over stages and steps, summed over the pairs. `steps` × (2 layers + 1) runs forward and back.

    begin: which end is one of the points, "clean" or "corrupted". positions: of each position, else
    summed over them.
    """
    start = transformer.embed(pairs.clean)
    clean, corrupted = transformer.run(start).written(), ablation(transformer, pairs).written()
    logits = read_logits(transformer, clean.after, pairs)
    total = logits.new_zeros((), dtype=torch.float64)
    layers = range(len(transformer.layers))
    stages = [None, *((name, layer) for layer in layers for name in ("mixed", "mlp"))]
    for stage in stages:
        for step in range(steps):
            share = (step + (begin == "clean")) / steps
            embedding, replace = start, {}
            if stage is None:
                embedding = start + (share - 1) * (clean.before[0] - corrupted.before[0])
            else:
                ours, theirs = (getattr(run, stage[0])[stage[1]] for run in (clean, corrupted))
                replace = {stage: theirs + share * (ours - theirs)}
            gradients = differentiate(transformer, embedding, pairs, metric, logits, replace=replace)
            total = total + score_edges(transformer, clean, corrupted, gradients, positions=positions)
            del gradients  # not held into the next step
    return total / (steps * len(stages))
