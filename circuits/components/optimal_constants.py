"""For each component the constant that, in its place, changes what the model says least.

    a* = argmin_a  mean over the pairs of KL(clean run || clean run in which the component writes a everywhere)

Each component by itself, all else live, by gradient descent (Adam) from its mean. A step is measured by how far the
component strays from its mean; of all steps the best is kept, so that no component ends worse than at its mean. Every
step runs the rest of the model once for each component: thousands of times where neurons or features are.

Source: Li & Janson 2024, "Optimal ablation for interpretability"; METHODS section 8.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.edge_scores import read_logits
from circuits.components.head_changes import READ, beyond_norm, change_one_head, read_by_heads
from circuits.components.held_runs import spread
from circuits.components.layers import Layer
from circuits.components.norms import normalise
from circuits.components.pairs import Pairs
from circuits.components.parts import UNITS
from circuits.components.transformer import Run, Transformer
from circuits.progress import Progress

STEPS = 40
RATE = 0.1  # of how far a component strays, by step
ROWS = 2**12  # positions of all pairs and components that run at once
Place = tuple[str, int]  # a column of `Run` and its layer; ("input", 0) is the token embedding
Constants = dict[Place, Tensor]  # by component, [component 1 d]


@torch.enable_grad()
def fit_constants(
    transformer: Transformer,
    pairs: Sequence[Pairs],
    means: Mapping[str, Sequence[Tensor]],
    progress: Progress = lambda name, done, total: None,
    *,
    apart: bool = False,
    neurons: bool = False,
) -> dict[str, list[Tensor]]:
    """Constants of the tokens ("input"), of heads ("mixed") and of MLPs ("mlp"), shaped as the means are.

    means: of all positions, where they begin: [head 1 d_head] or [1 d]. apart: also of each head's "query", "key" and
    "value". neurons: of each neuron ("neurons") in the place of MLPs, or of each feature and of what they miss
    ("features", "errors") where an MLP has some.
    """
    places: list[Place] = [("input", 0)]
    for at, layer in enumerate(transformer.layers):
        units = ("mlp",) if not neurons else ("neurons",) if layer.features is None else ("features", "errors")
        places += [(name, at) for name in (*(READ if apart else ()), "mixed", *units)]
    begin = {(name, at): _by_component(name, means[name][at][None])[0] for name, at in places}
    few = [part for each in pairs for part in each.split(max(1, ROWS // each.clean.shape[1]))]
    unit = _straying(transformer, few, begin)
    moved = {place: torch.zeros_like(each).requires_grad_() for place, each in begin.items()}
    descent = torch.optim.Adam(moved.values(), lr=RATE)
    best = {place: each.clone() for place, each in begin.items()}
    least = {place: torch.full_like(each, torch.inf) for place, each in unit.items()}
    for step in range(STEPS + 1):
        descent.zero_grad()
        losses = {place: torch.zeros_like(each) for place, each in unit.items()}
        for part in few:
            _add_losses(transformer, part, begin, unit, moved, losses)
        with torch.no_grad():
            for place, loss in losses.items():
                better = loss < least[place]
                least[place] = torch.where(better, loss, least[place])
                best[place] = torch.where(better, begin[place] + unit[place] * moved[place], best[place])
        descent.step()
        progress("fitting constants", step, STEPS)
    found = {name: list(means[name]) for name, _ in places}
    for (name, at), values in best.items():
        found[name][at] = values.view_as(means[name][at])
    return found


def cost_of_constants(
    transformer: Transformer,
    pairs: Pairs,
    clean: Run,
    place: Place,
    values: Float[Tensor, "component 1 d"],
    first: int = 0,
) -> Float[Tensor, "component"]:
    """KL(clean || with each of these components at its value), summed over the pairs.

    clean: the clean run, its neurons or features kept where they are the components. first: the first of these.
    """
    (name, at), (count, length) = place, pairs.clean.shape
    layer, own = transformer.layers[at], slice(first, first + len(values))
    if name == "input":
        ends = transformer.go_on(transformer.begin(spread(values[0], count, length)), 0, keep=False).after[None]
    elif name in ("mlp", "neurons", "features", "errors"):
        mlp = values[:, None] if name == "mlp" else _write_with(layer, clean, place, own, values)
        middle = clean.before[at] + normalise(layer.post_norm, clean.attention[at])
        stream = (middle + mlp).flatten(0, 1)
        ends = transformer.go_on(stream, at + 1, keep=False).after.unflatten(0, (len(values), count))
    else:
        if name == "mixed":
            change = (values - clean.mixed[at][:, own]).transpose(0, 1) @ layer.W_O[own, None]
        else:
            read, others = read_by_heads(clean, at), spread(values, count, length)
            change = change_one_head(layer, read, clean.mixed[at], READ.index(name), others, own)
        ends = transformer.go_on_beside(clean, at, beyond_norm(layer, clean.attention[at], change))
    wanted = transformer.log_probabilities(read_logits(transformer, clean.after, pairs))
    said = [transformer.log_probabilities(read_logits(transformer, each, pairs)) for each in ends]
    return torch.stack([(wanted.exp() * (wanted - each)).sum() for each in said])


def _write_with(
    layer: Layer, clean: Run, place: Place, own: slice, values: Float[Tensor, "some 1 d"]
) -> Float[Tensor, "some pair pos d_model"]:
    """What the MLP adds when one of its neurons or features, each in turn, or what these miss, has its value."""
    name, at = place
    active, features = getattr(clean, name)[at], layer.features
    change = values[:, None] - (active[None] if name == "errors" else active[..., own].movedim(-1, 0)[..., None])
    if name == "neurons":
        out = layer.write_unnormed(active) + change * layer.W_out[own, None, None]
        return normalise(layer.mlp_post_norm, out)
    assert features is not None
    out = features.join(clean.features[at], clean.errors[at])
    out = out + (change if name == "errors" else change * features.W_dec[own, None, None])
    return normalise(layer.mlp_post_norm, out) if features.unnormed else out


def _add_losses(
    transformer: Transformer,
    pairs: Pairs,
    begin: Constants,
    unit: Constants,
    moved: Constants,
    losses: Constants,
) -> None:
    """Add what each constant costs, and how it would fall."""
    with torch.no_grad():
        clean = transformer.run(transformer.embed(pairs.clean), neurons=True)
    size = max(1, ROWS // pairs.clean.numel())
    for place, parameter in moved.items():
        for first in range(0, len(parameter), size):
            few = slice(first, first + size)
            values = begin[place][few] + unit[place][few] * parameter[few]
            cost = cost_of_constants(transformer, pairs, clean, place, values, first)
            cost.sum().backward()
            losses[place][few] += cost.detach()[:, None, None]


@torch.no_grad()
def _straying(transformer: Transformer, few: list[Pairs], means: Constants) -> Constants:
    """How far each component is from its mean, by coordinate, on the corrupted prompts. [component 1 1]"""
    squares, rows = {place: each.new_zeros(len(each), 1, 1) for place, each in means.items()}, 0
    for pairs in few:
        embedding = transformer.embed(pairs.corrupted)
        run = transformer.run(embedding, neurons=True)
        for (name, at), mean in means.items():
            values = _by_component(name, embedding if name == "input" else getattr(run, name)[at])
            squares[name, at] += (values - mean).square().mean(-1, keepdim=True).sum((0, 2), keepdim=True)[0]
        rows += pairs.corrupted.numel()
    return {place: (each / rows).sqrt() for place, each in squares.items()}


def _by_component(name: str, values: Tensor) -> Float[Tensor, "pair component pos d"]:
    """What a column of a run holds, each component by itself."""
    if name in UNITS:
        return values.mT[..., None]
    return values if values.dim() == 4 else values[:, None]
