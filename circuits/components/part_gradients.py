"""Gradients of the loss at what every part of a transformer puts out, in one run.

Source: Nanda 2023, "Attribution Patching"; METHODS section 8.3, AtP.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.edge_scores import loss_of, read_logits
from circuits.components.metrics import Metric
from circuits.components.pairs import Pairs
from circuits.components.parts import Column, Parts, column_of
from circuits.components.transformer import NOTHING, Replaced, Run, Transformer


@dataclass(frozen=True, eq=False)
class PartGradients:
    """The gradient of the summed loss at each column of parts; zero where nothing leads back.

    run: where they were taken. logits: of each pair, where its answer is read.
    """

    run: Run
    at: dict[Column, Tensor]
    logits: Float[Tensor, "pair vocab"]


def differentiate_parts(
    transformer: Transformer,
    parts: Parts,
    embedding: Float[Tensor, "pair pos d_model"],
    pairs: Pairs,
    metric: Metric,
    clean: Float[Tensor, "pair vocab"] | None = None,
    *,
    replace: Replaced = NOTHING,
) -> PartGradients:
    """Gradients in a run on these token embeddings; see `Transformer.run`.

    clean: the clean run's logits; None where this is the clean run.
    """
    with torch.enable_grad():
        start = embedding.detach().requires_grad_()
        run = transformer.run(start, neurons=bool(parts.width), replace=replace)
        logits = read_logits(transformer, run.after, pairs)
        loss = loss_of(transformer, logits, pairs, metric, logits.detach() if clean is None else clean)
        outputs = {column: column_of(run, column) for column in parts.columns}
        reached = {column: tensor for column, tensor in outputs.items() if tensor.requires_grad}
        found = torch.autograd.grad(loss.sum(), list(reached.values()), allow_unused=True, materialize_grads=True)
    gradients = dict(zip(reached, found, strict=True))
    gradients = {column: gradients.get(column, torch.zeros_like(tensor)) for column, tensor in outputs.items()}
    return PartGradients(run.detached(), gradients, logits.detach())
