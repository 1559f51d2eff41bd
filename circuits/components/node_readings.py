"""The gradient of the loss at what single nodes read, each by itself: at the stream, before any norm.

What a node puts out has a gradient. It is taken back through that node alone: a feature's through its encoder, a
neuron's through its weights, a head's through its queries, keys and values apart. A norm follows what it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.components.components import LETTERS
from circuits.components.edge_scores import loss_of, read_logits
from circuits.components.kept_nodes import Node
from circuits.components.layers import Layer
from circuits.components.metrics import Metric
from circuits.components.norms import LiveNorm
from circuits.components.pairs import Pairs
from circuits.components.part_gradients import PartGradients
from circuits.components.parts import READS, UNITS, Column, Parts
from circuits.components.transformer import Run, Transformer

Readings = Iterator[tuple[list[tuple[int, str]], Float[Tensor, "reader pair pos d_model"]]]


def gradients_read(
    transformer: Transformer,
    parts: Parts,
    kept: Bool[Tensor, "part *position"],
    nodes: Sequence[Node],
    gradients: PartGradients,
    at_once: int,
) -> Readings:
    """For some readers at a time which they are, by node and letter, and the gradient at the stream they read.

    kept: with heads apart, what is not kept of queries, keys and values is not read. at_once: nodes at a time.
    """
    by_column: dict[Column, list[int]] = {}
    for at, node in enumerate(nodes):
        by_column.setdefault(node.column, []).append(at)
    for column, rows in by_column.items():
        for first in range(0, len(rows), at_once):
            some = rows[first : first + at_once]
            these = [nodes[at] for at in some]
            if column[0] == "mixed":
                for letter, found in _of_heads(transformer, parts, kept, these, gradients):
                    yield [(at, letter) for at in some], found
            elif column[0] != "input":
                yield [(at, "") for at in some], _of_mlp(transformer, these, gradients)


def gradient_at_end(
    transformer: Transformer, run: Run, pairs: Pairs, metric: Metric, clean: Float[Tensor, "pair vocab"]
) -> Float[Tensor, "pair pos d_model"]:
    """The gradient of the loss at the stream that the logits read. clean: the clean run's logits."""
    with torch.enable_grad():
        after = run.after.detach().requires_grad_()
        loss = loss_of(transformer, read_logits(transformer, after, pairs), pairs, metric, clean)
        return torch.autograd.grad(loss.sum(), after)[0]


def back_through(norm: LiveNorm | None, x: Float[Tensor, "... d"], gradient: Float[Tensor, "reader ... d"]) -> Tensor:
    """Gradients at what a norm gives for x, as ones of x."""
    if norm is None:
        return gradient
    with torch.enable_grad():
        x = x.detach().expand(gradient.shape).requires_grad_()
        return torch.autograd.grad(norm(x), x, gradient)[0]


def _of_mlp(
    transformer: Transformer, nodes: Sequence[Node], gradients: PartGradients
) -> Float[Tensor, "node pair pos d_model"]:
    """At what a layer's MLP reads: the MLP itself, some of its neurons or features, or what these miss."""
    column = nodes[0].column
    name, at, _ = column
    layer, stream, own = transformer.layers[at], gradients.run.mlp_input[at], _rows(nodes, gradients.at[column])
    length = stream.shape[1]
    with torch.enable_grad():
        read = stream.detach().expand(len(nodes), *stream.shape).requires_grad_()
        if name in UNITS:
            active = _some(layer, name, own)(read.flatten(0, 1)).unflatten(0, read.shape[:2])
            out = active.diagonal(dim1=0, dim2=3).movedim(-1, 0)[..., None]  # to each reader its own
            wanted = gradients.at[column][..., own].movedim(-1, 0)[..., None]
        else:
            out = _whole(layer, name, read.flatten(0, 1)).unflatten(0, read.shape[:2])
            wanted = gradients.at[column].expand(out.shape)
        here = _heard(nodes, length, stream.device)[:, None, :, None]
        return torch.autograd.grad(out, read, wanted * here)[0]


def _some(layer: Layer, name: str, own: Int[Tensor, "some"]) -> Callable[[Tensor], Tensor]:
    """Activations of some of a layer's neurons or features on what its MLP reads."""
    if name == "features":
        assert layer.features is not None
        return layer.features.only(own).active
    weights = {each: getattr(layer, each) for each in ("W_gate", "W_in", "b_gate", "b_in")}
    return replace(layer, **{each: None if w is None else w[..., own] for each, w in weights.items()}).neurons


def _whole(layer: Layer, name: str, read: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
    """What a layer's MLP adds when it reads this, or what its features miss of that."""
    neurons = layer.neurons(read)
    if name == "mlp":
        return layer.write_mlp(neurons)
    assert layer.features is not None
    return layer.split(layer.features, read, neurons)[1]


def _of_heads(
    transformer: Transformer,
    parts: Parts,
    kept: Bool[Tensor, "part *position"],
    nodes: Sequence[Node],
    gradients: PartGradients,
) -> Iterator[tuple[str, Float[Tensor, "node pair pos d_model"]]]:
    """At what some heads of a layer read with their queries, keys and values, one after another."""
    column = nodes[0].column
    at, run, own = column[1], gradients.run, _rows(nodes, gradients.at[column])
    layer, length = transformer.layers[at], gradients.run.before[at].shape[1]
    here = _heard(nodes, length, own.device)
    with torch.enable_grad():
        some = slice(None) if layer.joint else own
        read = [each[at][:, some].detach().requires_grad_() for each in (run.query, run.key, run.value)]
        mixed, wanted = layer.attend(read[0], read[1], read[2]), gradients.at[column][:, some]
        if layer.joint:  # a head's queries move the norm of all
            each = [torch.autograd.grad(mixed, read, wanted * where[:, None], retain_graph=True) for where in here]
            found = [
                torch.stack([those[at_read][:, head] for those, head in zip(each, own, strict=True)], 1)
                for at_read in range(3)
            ]
        else:
            found = torch.autograd.grad(mixed, read, wanted * here[..., None])
    projections = (layer.query, layer.key, layer.value)
    for letter, projection, gradient in zip(LETTERS, projections, found, strict=True):
        if parts.apart:
            gradient = gradient * _kept_reads(parts, kept, nodes, letter, length)[..., None]
        weight = projection.per_head()[0][own]
        pulled = torch.einsum("bnpe,nde->nbpd", gradient, weight)
        yield letter, back_through(layer.norm, run.before[at], pulled)


def _kept_reads(
    parts: Parts, kept: Bool[Tensor, "part *position"], nodes: Sequence[Node], letter: str, length: int
) -> Bool[Tensor, "node pos"]:
    """Where these heads' queries, keys or values were kept."""
    name = next(name for name, mark in READS.items() if mark == f"<{letter}>")
    places = {(column[0], column[1], own): row for row, (column, own) in enumerate(parts.places)}
    rows = [places[(name, node.column[1], node.own)] for node in nodes]
    return kept[rows] if kept.dim() == 2 else kept[rows][:, None].expand(-1, length)


def _rows(nodes: Sequence[Node], like: Tensor) -> Tensor:
    return torch.tensor([node.own for node in nodes], device=like.device)


def _heard(nodes: Sequence[Node], length: int, device: torch.device) -> Bool[Tensor, "node pos"]:
    """At which positions each of these nodes puts something out that counts."""
    position = torch.tensor([node.position for node in nodes], device=device)[:, None]
    return (position < 0) | (position == torch.arange(length, device=device))
