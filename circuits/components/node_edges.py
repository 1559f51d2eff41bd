"""Scores of the edges between nodes that were kept: what a head reads of a feature through its keys, say.

    score[u, v] = Σ_pair,position (u(corrupted) - u(clean)) · ∂loss/∂input_v

as for components (edge_scores.py), but for these nodes alone: heads, MLPs, neurons, features, or one position of any.
Gradients are those of the real model, taken back through v by itself, and means over points between the two prompts:
a feature that is silent on the clean prompt has none there. Over all readers a node's edges with gradients at the
clean prompt add up to what attribution patching gives it.

Source: Syed et al. 2023 (EAP), Hanna et al. 2024 (EAP-IG); Marks et al. 2024, "Sparse Feature Circuits", for edges of
features; METHODS section 8.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.components.ablations import Ablation, resample
from circuits.components.edge_scores import read_logits
from circuits.components.kept_nodes import Node, nodes_of, readers_of
from circuits.components.metrics import Metric
from circuits.components.node_readings import back_through, gradient_at_end, gradients_read
from circuits.components.pairs import Pairs
from circuits.components.part_gradients import differentiate_parts
from circuits.components.parts import UNITS, Column, Parts, column_of
from circuits.components.transformer import Run, Transformer

NUMBERS = 2**22  # in the gradients of readers that are laid out at once


@torch.no_grad()
def score_node_edges(
    transformer: Transformer,
    pairs: Pairs,
    metric: Metric,
    parts: Parts,
    kept: Bool[Tensor, "part *position"],
    *,
    ablation: Ablation = resample,
    steps: int = 5,
    begin: str = "corrupted",
) -> Float[Tensor, "writer reader"]:
    """The score of every edge from one of `nodes_of(parts, kept)` to one of their readers, summed over the pairs.

    Zero where there is no edge. steps, begin: points between the prompts, as of "eap-ig"; one step that begins at
    "clean" is the clean run alone.
    """
    nodes = nodes_of(parts, kept)
    column = {(reader.node, reader.letter): at for at, reader in enumerate(readers_of(nodes))}
    whole = replace(parts, apart=False)
    embedding = transformer.embed(pairs.clean)
    clean = transformer.run(embedding, neurons=bool(parts.width))
    other = ablation(transformer, pairs, neurons=bool(parts.width))
    logits = read_logits(transformer, clean.after, pairs)
    way = clean.before[0] - other.before[0]
    found = clean.after.new_zeros(len(nodes), len(column), dtype=torch.float64)
    # A gradient each at the stream; units of as many readers are laid out for every one of them.
    at_once = max(1, min(NUMBERS // clean.after.numel(), math.isqrt(NUMBERS // pairs.clean.numel())))
    for step in range(steps):
        share = (step + (begin == "clean")) / steps
        gradients = differentiate_parts(transformer, whole, embedding + (share - 1) * way, pairs, metric, logits)
        for readers, gradient in gradients_read(transformer, parts, kept, nodes, gradients, at_once):
            places = [column[each] for each in readers]
            found[:, places] += _received(transformer, clean, other, nodes, gradient, nodes[readers[0][0]].column).T
        end = gradient_at_end(transformer, gradients.run, pairs, metric, logits)[None]
        found[:, -1:] += _received(transformer, clean, other, nodes, end, None).T
        del gradients  # not held into the next step
    return found / steps


def _received(
    transformer: Transformer,
    clean: Run,
    other: Run,
    nodes: Sequence[Node],
    gradient: Float[Tensor, "reader pair pos d_model"],
    reader: Column | None,
) -> Float[Tensor, "reader node"]:
    """What readers of one column, None for the logits, get of each node that comes before them."""
    by_column: dict[Column, list[int]] = {}
    for at, node in enumerate(nodes):
        if _before(transformer, node.column, reader):
            by_column.setdefault(node.column, []).append(at)
    found = gradient.new_zeros(len(gradient), len(nodes), dtype=torch.float64)
    for column, rows in by_column.items():
        own = torch.tensor([nodes[at].own for at in rows], device=gradient.device)
        each = _of_column(transformer, clean, other, column, own, gradient).double()
        for place, at in enumerate(rows):
            position = nodes[at].position
            found[:, at] = each[:, place].sum(-1) if position < 0 else each[:, place, position]
    return found


def _before(transformer: Transformer, writer: Column, reader: Column | None) -> bool:
    """Whether what is written there reaches the reader directly."""
    if reader is None or writer[0] == "input":
        return True
    serial = not transformer.parallel and writer[0] == "mixed" and reader[0] != "mixed"
    return writer[1] < reader[1] or (serial and writer[1] == reader[1])


def _of_column(
    transformer: Transformer,
    clean: Run,
    other: Run,
    column: Column,
    own: Tensor,
    gradient: Float[Tensor, "reader pair pos d_model"],
) -> Float[Tensor, "reader part pos"]:
    """How each part's change between the runs goes along the gradients, summed over the pairs."""
    name, at, _ = column
    change = column_of(other, column) - column_of(clean, column)
    layer = None if name == "input" else transformer.layers[at]
    if layer is not None and name == "mixed":
        along = back_through(layer.post_norm, clean.attention[at], gradient)
        along = torch.einsum("rbpd,ned->rbnpe", along, layer.W_O[own])
        return (along * change[:, own]).sum((1, 4))
    if layer is not None and name != "mlp":
        if layer.features is None or layer.features.unnormed:
            gradient = back_through(layer.mlp_post_norm, layer.write_unnormed(clean.neurons[at]), gradient)
        if name in UNITS:
            weights = layer.W_out if layer.features is None else layer.features.W_dec
            return (gradient @ weights[own].T * change[..., own]).sum(1).movedim(-1, 1)
    along = (gradient * change).sum((1, 3))[:, None]
    return along.expand(-1, len(own), -1)
