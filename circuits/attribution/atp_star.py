"""Attribution patching with two corrections, AtP*: for attention that is saturated, and for effects that cancel.

Queries and keys   The softmax is taken anew with the patched queries or keys, and only what follows it is linear:
                   Σ (pattern' - pattern) · ∂loss/∂pattern. A saturated pattern has no gradient, but it does move.
GradDrop           One pass back for each layer, in which that layer's heads and MLP hand nothing back; the mean size of
                   the scores over the passes. A direct and an indirect effect that cancel do not cancel in all. In a
                   model of two layers, what acts through the other one alone gets nothing.

For key t alone, let δ be what patching it adds to a query's score, p the pattern, g its gradient, Σ over other keys:

    share = Σp / (Σp + p_t e^δ) = σ(log Σp - log p_t - δ)          the part of the pattern left to the others
    score = (share - Σp) · (Σ p g / Σp - g_t)                      summed over the queries

Sums over the others are those before t and those after it, as logarithms, never 1 - p_t, which is nothing but rounding
where p_t is nearly one. The published form divides by that.

Source: Kramár et al. 2024, "AtP*", equations 4 to 11; METHODS section 8.3.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.ablations import Ablation, resample
from circuits.components.metrics import Metric
from circuits.components.pairs import Pairs
from circuits.components.part_gradients import PartGradients, differentiate_parts
from circuits.components.parts import Column, Parts, by_part, column_of, total
from circuits.components.transformer import Run, Transformer


def score_parts_with_corrections(
    transformer: Transformer,
    pairs: Pairs,
    metric: Metric,
    parts: Parts,
    *,
    positions: bool = False,
    ablation: Ablation = resample,
) -> Float[Tensor, "node *position"]:
    """The size of what patching each part would add to the loss, summed over the pairs. Never negative.

    positions: each position patched by itself, else all together. The softmax is taken anew where `parts` has heads
    apart. As many runs forward and back as there are layers.
    """
    layers = len(transformer.layers)
    embedding = transformer.embed(pairs.clean)
    with torch.no_grad():
        other = ablation(transformer, pairs, neurons=bool(parts.width))
        clean = transformer.run(embedding, neurons=bool(parts.width))
    sizes: dict[Column, Tensor] = {}
    for dropped in range(layers) if layers > 1 else (None,):
        replace = (
            {} if dropped is None else {(name, dropped): getattr(clean, name)[dropped] for name in ("mixed", "mlp")}
        )
        gradients = differentiate_parts(transformer, parts, embedding, pairs, metric, replace=replace)
        for column in parts.columns:
            score = _score(transformer, clean, other, gradients, column, each_key=positions)
            score = score if positions else score.sum(-1, keepdim=True)
            sizes[column] = sizes.get(column, torch.zeros_like(score)) + score.abs()
    # The pass that drops a layer gives it nothing; the tokens belong to none.
    passes = {column: max(1, layers - (column[0] != "input")) for column in parts.columns}
    return total([sizes[column] / passes[column] for column in parts.columns], positions=positions)


@torch.no_grad()
def _score(
    transformer: Transformer, clean: Run, other: Run, gradients: PartGradients, column: Column, *, each_key: bool
) -> Float[Tensor, "pair part pos"]:
    """Signed scores of one pass."""
    name, at, heads = column
    if name not in ("query", "key"):
        return by_part(column, (column_of(other, column) - column_of(clean, column)) * gradients.at[column])
    layer, theirs = transformer.layers[at], getattr(other, name)[at]
    read = {"query": clean.query[at], "key": clean.key[at]}
    before = layer.scores(read["query"], read["key"])
    of_pattern = gradients.at[("mixed", at, heads)] @ clean.value[at].mT

    def by_head(patched: Tensor) -> Float[Tensor, "pair head pos"]:
        after = layer.scores(**(read | {name: patched}))
        if name == "key" and each_key:
            return patch_keys_alone(before, after, of_pattern)
        return ((after.softmax(-1) - before.softmax(-1)) * of_pattern).sum(-1)

    if not layer.joint:
        return by_head(theirs)
    # One head moves the norm of all, so each is patched by itself, and what all patterns then do is its own.
    own = torch.eye(heads, dtype=torch.bool, device=theirs.device)[:, :, None, None]
    return torch.stack([by_head(torch.where(each, theirs, read[name])).sum(1) for each in own], 1)


def patch_keys_alone(
    before: Float[Tensor, "*batch query key"],
    after: Float[Tensor, "*batch query key"],
    gradient: Float[Tensor, "*batch query key"],
) -> Float[Tensor, "*batch key"]:
    """Σ over queries of (pattern' - pattern) · gradient, one key's scores being those after, the others' those before.

    Scores are minus infinity where a key is not seen. Stable wherever the pattern is saturated.
    """
    pattern = before.double().log_softmax(-1)
    gradient = gradient.double()
    added = (after - before).double().nan_to_num(0.0)  # unseen keys stay unseen
    others = _log_others(pattern)
    up, down = (_log_others(pattern + side.clamp_min(0).log()) for side in (gradient, -gradient))
    mean = (up - others).exp() - (down - others).exp()
    share = torch.sigmoid(others - pattern - added)
    moved = (share - others.exp()) * (mean - gradient)
    return moved.nan_to_num(0.0).sum(-2).to(before)  # where there is no other key, nothing moves


def _log_others(values: Float[Tensor, "*batch key"]) -> Float[Tensor, "*batch key"]:
    """For each key the logarithm of the sum over the other keys, of what these are logarithms of."""
    earlier = values.logcumsumexp(-1).roll(1, -1)
    later = values.flip(-1).logcumsumexp(-1).roll(1, -1).flip(-1)
    earlier[..., 0], later[..., -1] = -torch.inf, -torch.inf
    return torch.logaddexp(earlier, later)
