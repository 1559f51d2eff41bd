"""The strongest nodes patched for real, and a bound on what a node that was not may do.

For the bound, each node that was left out is patched or not by the toss of a coin, all at once, time and again. Let
r(S) be the rise of the loss when the set S is patched, and D_n how much more it rises, on the mean over S, where n is
among them than where it is not. Whatever the nodes do to each other,

    variance of r(S) = within both + ¼ D_n²,   hence   |D_n| ≤ 2 · deviation of r(S)   for every n at once

The deviation is known from the sets drawn: its upper limit is that of a normal distribution. The effect that is bounded
is one in company. Where nodes add up it is what patching the node alone does.

Source: Kramár et al. 2024, "AtP*", verification and the diagnostic by random subsets. They test every node by itself,
we bound all by the law of total variance, which takes no assumption on how nodes interact.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor

from circuits.attribution.exact_parts import patch_parts
from circuits.components.ablations import Ablation, resample
from circuits.components.edge_scores import loss_of, read_logits
from circuits.components.metrics import Metric
from circuits.components.node_runs import run_nodes
from circuits.components.pairs import Pairs
from circuits.components.parts import Parts
from circuits.components.searching import Search, score_pairs
from circuits.components.transformer import Transformer

SUBSETS = 100
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Verified:
    """scores: exact where a node was patched, else as they were estimated. [node *position]

    missed: the bound on a node that was not, in units of the metric; 0 where all were patched.
    """

    scores: Float[np.ndarray, "node *position"]
    missed: float


def verify(
    search: Search,
    parts: Parts,
    estimates: Float[np.ndarray, "node *position"],
    which: Bool[np.ndarray, "node *position"],
    *,
    unfinished: Path | None = None,
) -> Verified:
    """Patch these nodes one by one, and random halves of the others. A run for each node, and 100."""
    settings = {"positions": estimates.ndim == 2}
    chosen, left = (tuple(np.flatnonzero(each).tolist()) for each in (which, ~which))
    how = {"unfinished": unfinished, **settings}
    scores = estimates.copy()
    scores.flat[list(chosen)] = score_pairs(
        search, "exact-nodes", patch_parts, {}, parts, chosen, doing="patching the strongest", **how
    )
    if not left:
        return Verified(scores, 0.0)
    rises = score_pairs(search, "subsets", patch_subsets, {}, parts, left, doing="patching random halves", **how)
    spare = stats.chi2.ppf(1 - CONFIDENCE, SUBSETS - 1) / (SUBSETS - 1)
    return Verified(scores, float(2 * np.sqrt(rises.var(ddof=1) / spare)))


@torch.no_grad()
def patch_subsets(
    transformer: Transformer,
    pairs: Pairs,
    metric: Metric,
    parts: Parts,
    left: tuple[int, ...],
    *,
    positions: bool = False,
    ablation: Ablation = resample,
    seed: int = 0,
) -> Float[Tensor, "subset"]:
    """What patching random halves of some nodes adds to the loss, summed over the pairs. The same halves every time.

    left: places of the nodes among the scores of all, laid flat.
    """
    embedding = transformer.embed(pairs.clean)
    logits = read_logits(transformer, transformer.run(embedding).after, pairs)
    other = ablation(transformer, pairs, neurons=bool(parts.width))
    numbers = torch.Generator().manual_seed(seed)
    shape = (len(parts.names), pairs.clean.shape[1])[: 1 + positions]
    places = torch.tensor(left)

    def loss(kept: Bool[Tensor, "node *position"]) -> Tensor:
        after = run_nodes(transformer, embedding, other, parts, kept.to(logits.device))
        return loss_of(transformer, read_logits(transformer, after, pairs), pairs, metric, logits).double().sum()

    kept = torch.ones(shape, dtype=torch.bool)
    before, found = loss(kept), []
    for _ in range(SUBSETS):
        half = kept.clone()
        half.view(-1)[places] = torch.rand(len(places), generator=numbers) < 0.5
        found.append(loss(half) - before)
    return torch.stack(found)
