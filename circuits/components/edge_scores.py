"""Scores of all edges between components at once, from two runs and the gradients of one.

    score[u, v] = Σ_pair,position (u(corrupted) - u(clean)) · ∂loss/∂input_v

A head's change is its mixed values' change through W_O, a reader's gradient that of its queries, keys or values through
W_Q, W_K, W_V and the norm. Both are laid out for a few positions at a time, and the scores of a layer's readers with
all sources before it are one product. Where a norm stands on what attention writes, a head's change passes through its
derivative at the clean run.

Source: Syed et al. 2023, "Attribution Patching Outperforms Automated Circuit Discovery" (EAP); METHODS section 8.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as replace_field

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.components import Components
from circuits.components.layers import Layer
from circuits.components.metrics import Metric
from circuits.components.norms import LiveNorm
from circuits.components.pairs import Pairs
from circuits.components.transformer import NOTHING, Replaced, Run, Transformer
from circuits.errors import BadOption

NUMBERS = 2**22  # in what is laid out at once


@dataclass(frozen=True, eq=False)
class Gradients:
    """The gradient of the summed loss, minus the metric, at what each component reads.

    run: the run where they were taken, without what was read in it. query, key, value: [pair head pos d_head].
    mlp_input, after: [pair pos d_model]. logits, loss: of each pair, where its answer is read.
    """

    run: Run
    query: list[Tensor]
    key: list[Tensor]
    value: list[Tensor]
    mlp_input: list[Tensor]
    after: Tensor
    logits: Float[Tensor, "pair vocab"]
    loss: Float[Tensor, "pair"]


def components_of(transformer: Transformer) -> Components:
    """The components that a transformer has."""
    return Components(len(transformer.layers), transformer.heads, transformer.parallel)


def read_logits(transformer: Transformer, after: Float[Tensor, "pair pos d_model"], pairs: Pairs) -> Tensor:
    """The logits where each pair's answer is read. [pair vocab]"""
    return transformer.unembed(after[torch.arange(len(pairs), device=after.device), pairs.position])


def loss_of(transformer: Transformer, logits: Tensor, pairs: Pairs, metric: Metric, clean: Tensor) -> Tensor:
    """Minus the metric, for each pair. clean: the clean run's logits.

    Raises:
        BadOption: it is no number.
    """
    loss = -metric(logits, pairs, clean, transformer.log_probabilities)
    broken = torch.nonzero(~torch.isfinite(loss.detach()))
    if len(broken):
        raise BadOption(
            f"the metric of pair {int(broken[0]) + 1} is {float(-loss[broken[0]])}: a finite number is wanted. "
            "Take another metric, or leave the pair out."
        )
    return loss


def differentiate(
    transformer: Transformer,
    embedding: Float[Tensor, "pair pos d_model"],
    pairs: Pairs,
    metric: Metric,
    clean: Float[Tensor, "pair vocab"] | None = None,
    *,
    replace: Replaced = NOTHING,
) -> Gradients:
    """Gradients at what every component reads, in a run on these token embeddings; see `Transformer.run`.

    clean: the clean run's logits; None where this is the clean run.
    """
    with torch.enable_grad():
        run = transformer.run(embedding.detach().requires_grad_(), replace=replace)
        logits = read_logits(transformer, run.after, pairs)
        loss = loss_of(transformer, logits, pairs, metric, logits.detach() if clean is None else clean)
        wanted = [*run.query, *run.key, *run.value, *run.mlp_input, run.after]
        found = iter(torch.autograd.grad(loss.sum(), wanted, allow_unused=True, materialize_grads=True))
    return Gradients(
        run=replace_field(run.detached(), query=[], key=[], value=[], mlp_input=[]),
        query=[next(found) for _ in run.query],
        key=[next(found) for _ in run.key],
        value=[next(found) for _ in run.value],
        mlp_input=[next(found) for _ in run.mlp_input],
        after=next(found),
        logits=logits.detach(),
        loss=loss.detach(),
    )


@torch.no_grad()
def score_edges(
    transformer: Transformer, clean: Run, corrupted: Run, gradients: Gradients, *, positions: bool = False
) -> Float[Tensor, "source reader *position"]:
    """The score of every edge, summed over pairs. Float64, in units of the loss.

    positions: at each position, where the source has written and the reader reads; else summed over them.
    """
    components, (_, length, width) = components_of(transformer), clean.after.shape
    shape = (length if positions else 1, len(components.sources), len(components.readers))
    found = clean.after.new_zeros(shape, dtype=torch.float64)
    mixed = [
        (theirs - ours).transpose(0, 1).flatten(1, 2) for ours, theirs in zip(clean.mixed, corrupted.mixed, strict=True)
    ]
    rows = clean.after.shape[0] * clean.after.shape[1]
    size = max(1, NUMBERS // (width * (len(components.sources) + components.read)))
    by_head = [
        [each.transpose(0, 1).flatten(1, 2) for each in each_layer]
        for each_layer in zip(gradients.query, gradients.key, gradients.value, strict=True)
    ]
    for first in range(0, rows, size):
        here = slice(first, min(first + size, rows))
        change = _changes(transformer, components, clean, corrupted, mixed, here)
        place = torch.arange(here.start, here.stop, device=found.device) % length

        def add(sources: int, column: int, pulled: Tensor, change: Tensor = change, place: Tensor = place) -> None:
            into = found[:, :sources, column : column + len(pulled)]
            if positions:
                into.index_add_(0, place, torch.einsum("urd,vrd->ruv", change[:sources], pulled).double())
            else:
                into += change[:sources].flatten(1) @ pulled.flatten(1).T

        for at, layer in enumerate(transformer.layers):
            column = components.first_reader(at)
            pulled = _pull(layer, gradients.run.before[at].flatten(0, 1)[here], [each[:, here] for each in by_head[at]])
            add(components.before(at), column, pulled)
            add(components.mlp_sources(at), column + len(pulled), gradients.mlp_input[at].flatten(0, 1)[None, here])
        add(len(change), shape[2] - 1, gradients.after.flatten(0, 1)[None, here])
    return found.movedim(0, -1) if positions else found[0]


def _changes(
    transformer: Transformer, components: Components, clean: Run, corrupted: Run, mixed: list[Tensor], here: slice
) -> Float[Tensor, "source row d_model"]:
    """How what each source writes differs between the runs, at some rows: positions of all pairs, one after another."""

    def apart(ours: Tensor, theirs: Tensor) -> Tensor:
        return theirs.flatten(0, 1)[here] - ours.flatten(0, 1)[here]

    first = apart(clean.before[0], corrupted.before[0])
    change = first.new_empty(len(components.sources), *first.shape)
    change[0] = first
    for at, layer in enumerate(transformer.layers):
        row = components.before(at)
        heads = change[row : row + components.heads]
        torch.bmm(mixed[at][:, here], layer.W_O, out=heads)
        if layer.post_norm is not None:
            heads.copy_(layer.post_norm.carry(heads, clean.attention[at].flatten(0, 1)[here]))
        change[row + components.heads] = apart(clean.mlp[at], corrupted.mlp[at])
    return change


def _pull(
    layer: Layer, stream: Float[Tensor, "row d_model"], gradients: list[Tensor]
) -> Float[Tensor, "reader row d_model"]:
    """Gradients at queries, keys and values, each [head row d_head], as ones of the stream that they were read from."""
    norm = layer.norm
    weights = [each.per_head()[0].mT for each in (layer.query, layer.key, layer.value)]
    if norm is not None:
        normalised, scale = norm.parts(stream)
        gradients = [each / scale for each in gradients]  # here, where there is least of it
        weights = [_folded(norm, weight) for weight in weights]
    heads = len(weights[0])
    pulled = stream.new_empty(3 * heads, *stream.shape)
    for at, (gradient, weight) in enumerate(zip(gradients, weights, strict=True)):
        torch.bmm(gradient, weight, out=pulled[at * heads : (at + 1) * heads])
    if norm is not None and not norm.held:
        along = torch.einsum("nrd,rd->nr", pulled, normalised)
        pulled.addcmul_(along[..., None], normalised, value=-1 / stream.shape[-1])
    return pulled


def _folded(norm: LiveNorm, weight: Float[Tensor, "head d_head d_model"]) -> Float[Tensor, "head d_head d_model"]:
    """Rows times the norm's gain, and centred where the norm is."""
    weight = norm.gain * weight
    return weight - weight.mean(-1, keepdim=True) if norm.centred else weight
