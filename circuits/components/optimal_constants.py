"""For each component the constant that, in its place, changes what the model says least.

    a* = argmin_a  mean over the pairs of KL(clean run || clean run in which the component writes a everywhere)

Each component by itself, all else live, by gradient descent (Adam) from its mean. A step is measured by how far the
component strays from its mean; of all steps the best is kept, so that no component ends worse than at its mean.

Source: Li & Janson 2024, "Optimal ablation for interpretability"; METHODS section 8.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.edge_scores import read_logits
from circuits.components.held_runs import spread
from circuits.components.pairs import Pairs
from circuits.components.transformer import Run, Transformer, normalise

STEPS = 40
RATE = 0.1  # of how far a component strays, by step
ROWS = 2**12  # positions of all pairs and components that run at once


def fit_constants(
    transformer: Transformer,
    pairs: Sequence[Pairs],
    means: Mapping[str, Sequence[Tensor]],
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> dict[str, list[Tensor]]:
    """Constants of the tokens ("input"), of heads ("mixed") and of MLPs ("mlp"), shaped as the means are.

    means: of all positions, where they begin: [head 1 d_head] or [1 d_model].
    """
    begin = [means["input"][0], *(each for both in zip(means["mixed"], means["mlp"], strict=True) for each in both)]
    begin = [each if each.dim() == 3 else each[None] for each in begin]  # [component 1 d]
    few = [part for each in pairs for part in each.split(max(1, ROWS // each.clean.shape[1]))]
    unit = _straying(transformer, few, begin)
    moved = [torch.zeros_like(each).requires_grad_() for each in begin]
    descent = torch.optim.Adam(moved, lr=RATE)
    best, least = [each.clone() for each in begin], [torch.full_like(each, torch.inf) for each in unit]
    for step in range(STEPS + 1):
        descent.zero_grad()
        losses = [torch.zeros_like(each) for each in unit]
        for part in few:
            _add_losses(transformer, part, begin, unit, moved, losses)
        with torch.no_grad():
            for at, loss in enumerate(losses):
                better = loss < least[at]
                least[at] = torch.where(better, loss, least[at])
                best[at] = torch.where(better, begin[at] + unit[at] * moved[at], best[at])
        descent.step()
        progress("fitting constants", step, STEPS)
    return {"input": [best[0][0]], "mixed": best[1::2], "mlp": [each[0] for each in best[2::2]]}


def cost_of_constant(
    transformer: Transformer, pairs: Pairs, clean: Run, column: int, values: Float[Tensor, "component 1 d"]
) -> Float[Tensor, "component"]:
    """KL(clean || with each of these components at its value), summed over the pairs.

    column: 0 the tokens, then heads and MLP of each layer in turn. clean: the clean run.
    """
    count, length = pairs.clean.shape
    at = (column - 1) // 2
    if column == 0:
        ends = transformer.go_on(transformer.begin(spread(values[0], count, length)), 0, keep=False).after[None]
    elif column % 2:
        layer = transformer.layers[at]
        change = (values - clean.mixed[at]).transpose(0, 1) @ layer.W_O[:, None]
        if layer.post_norm is not None:
            change = layer.post_norm(clean.attention[at] + change) - layer.post_norm(clean.attention[at])
        size = max(1, ROWS // (count * length))
        ends = torch.cat([transformer.go_on_beside(clean, at, each) for each in change.split(size)])
    else:
        middle = clean.before[at] + normalise(transformer.layers[at].post_norm, clean.attention[at])
        ends = transformer.go_on(middle + values[0], at + 1, keep=False).after[None]
    wanted = transformer.log_probabilities(read_logits(transformer, clean.after, pairs))
    said = [transformer.log_probabilities(read_logits(transformer, each, pairs)) for each in ends]
    return torch.stack([(wanted.exp() * (wanted - each)).sum() for each in said])


def _add_losses(
    transformer: Transformer,
    pairs: Pairs,
    begin: list[Tensor],
    unit: list[Tensor],
    moved: list[Tensor],
    losses: list[Tensor],
) -> None:
    """Add what each constant costs, and how it would fall."""
    with torch.no_grad():
        clean = transformer.run(transformer.embed(pairs.clean))
    for column, parameter in enumerate(moved):
        cost = cost_of_constant(transformer, pairs, clean, column, begin[column] + unit[column] * parameter)
        cost.sum().backward()
        losses[column] += cost.detach()[:, None, None]


@torch.no_grad()
def _straying(transformer: Transformer, few: list[Pairs], means: list[Tensor]) -> list[Float[Tensor, "component 1 1"]]:
    """How far each component is from its mean, by coordinate, on the corrupted prompts."""
    squares, rows = [each.new_zeros(len(each), 1, 1) for each in means], 0
    for pairs in few:
        embedding = transformer.embed(pairs.corrupted)
        run = transformer.run(embedding)
        inner = [each for mixed, mlp in zip(run.mixed, run.mlp, strict=True) for each in (mixed, mlp[:, None])]
        for at, values in enumerate([embedding[:, None], *inner]):
            squares[at] += (values - means[at]).square().mean(-1, keepdim=True).sum((0, 2), keepdim=True)[0]
        rows += pairs.corrupted.numel()
    return [(each / rows).sqrt() for each in squares]
