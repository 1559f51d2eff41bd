"""A run on the clean prompt in which only a circuit's edges carry it: every other edge carries the corrupted prompt.

    input_v = stream + Σ_u cut[u, v] (u(corrupted) - u now),   cut 0 for the circuit's edges and 1 for the others

Between 0 and 1 an edge is cut in part; the derivative of the loss by `cut`, nothing being cut, is the score of EAP.
Where a norm stands on what attention writes, a reader sees that norm of the heads as they are cut.

Source: Hanna et al. 2024 (EAP-IG), its evaluation; METHODS section 8.2, circuit run.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.edge_scores import components_of
from circuits.components.layers import Layer
from circuits.components.norms import normalise
from circuits.components.transformer import Run, Transformer


def run_circuit(
    transformer: Transformer,
    embedding: Float[Tensor, "pair pos d_model"],
    corrupted: Run,
    cut: Float[Tensor, "source reader *position"],
) -> Float[Tensor, "pair pos d_model"]:
    """The stream that the logits read at the end.

    embedding: of the clean prompts. corrupted: the whole run on the others. cut: at all positions, or at each.
    Lays out one input for each head of a layer: [pair head pos d_model] numbers at a time, some few of them.
    """
    stream = transformer.begin(embedding)
    written = Written(transformer, corrupted)
    written.add_input(corrupted.before[0] - stream)
    return _go_on(transformer, stream, 0, cut, written)


def run_variants(
    transformer: Transformer,
    clean: Run,
    corrupted: Run,
    cut: Float[Tensor, "source reader"],
    reader: int,
    variants: Float[Tensor, "source variant"],
) -> Float[Tensor, "variant pair pos d_model"]:
    """The ends of circuits that differ only in the edges into one reader, before whose layer nothing is cut.

    clean: the clean run, which is therefore taken up to there. cut: the edges into all other readers. variants: those
    into the reader, for each circuit.
    """
    components, count = components_of(transformer), variants.shape[1]
    at, place = divmod(reader, components.read)
    before = Written(transformer, corrupted)
    before.add_input(corrupted.before[0] - clean.before[0])
    for earlier in range(min(at, components.layers)):
        before.add_heads(earlier, clean.mixed[earlier], clean.attention[earlier])
        before.add_mlp(earlier, clean.mlp[earlier])
    if at == components.layers:
        return (clean.after[:, None] + before.change(variants)).transpose(0, 1)
    layer, own = transformer.layers[at], place // components.heads
    if own == 3:
        if not transformer.parallel:
            before.add_heads(at, clean.mixed[at], clean.attention[at])
        middle = clean.before[at] + normalise(layer.post_norm, clean.attention[at])
        mlp = layer.mlp((clean.mlp_input[at][:, None] + before.change(variants)).flatten(0, 1))
        if transformer.parallel:
            before.add_heads(at, clean.mixed[at], clean.attention[at])
        written = Written(transformer, corrupted, before, count)
        written.add_mlp(at, mlp)
        stream = middle.repeat_interleave(count, 0) + mlp
    else:
        read = list(_read(layer, clean.before[at], before, cut, components.first_reader(at)))
        mixed = layer.attend(*read)[:, None].repeat(1, count, 1, 1, 1)
        head = place % components.heads
        alone = [each[:, head, None].expand(-1, count, -1, -1) for each in read]
        weight, bias = (layer.query, layer.key, layer.value)[own].per_head()
        alone[own] = normalise(layer.norm, clean.before[at][:, None] + before.change(variants)) @ weight[head]
        alone[own] = alone[own] if bias is None else alone[own] + bias[head]
        if layer.joint:
            whole = [each[:, None].repeat(1, count, 1, 1, 1) for each in read]
            whole[own][:, :, head] = alone[own]
            mixed = layer.attend(*(each.flatten(0, 1) for each in whole)).unflatten(0, (-1, count))
        else:
            mixed[:, :, head] = layer.attend(*alone)
        written = Written(transformer, corrupted, before, count)
        stream = clean.before[at].repeat_interleave(count, 0)
        stream = _finish(transformer, at, stream, mixed.flatten(0, 1), cut, written)
    return _go_on(transformer, stream, at + 1, cut, written).unflatten(0, (-1, count)).transpose(0, 1)


def _go_on(
    transformer: Transformer, stream: Float[Tensor, "row pos d_model"], first: int, cut: Tensor, written: Written
) -> Float[Tensor, "row pos d_model"]:
    """The layers from the first on."""
    components = components_of(transformer)
    for at in range(first, components.layers):
        layer = transformer.layers[at]
        mixed = layer.attend(*_read(layer, stream, written, cut, components.first_reader(at)))
        stream = _finish(transformer, at, stream, mixed, cut, written)
    return stream + written.change(cut[:, -1:])[:, 0]


def _read(
    layer: Layer, stream: Float[Tensor, "row pos d_model"], written: Written, cut: Tensor, column: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a layer, each head reading its own edges. column: of its first query."""
    heads, found = len(layer.W_O), []
    for each in (layer.query, layer.key, layer.value):
        own = stream[:, None] + written.change(cut[:, column : column + heads])
        found.append(each.each(normalise(layer.norm, own)))
        column += heads
    query, key, value = found
    return query, key, value


def _finish(
    transformer: Transformer,
    at: int,
    stream: Float[Tensor, "row pos d_model"],
    mixed: Float[Tensor, "row head pos d_head"],
    cut: Tensor,
    written: Written,
) -> Float[Tensor, "row pos d_model"]:
    """The stream after a layer whose heads have mixed their values so."""
    layer, column = transformer.layers[at], components_of(transformer).first_reader(at + 1) - 1
    attention = layer.write(mixed)
    middle = stream + normalise(layer.post_norm, attention)
    if transformer.parallel:
        mlp = layer.mlp(stream + written.change(cut[:, column, None])[:, 0])
        written.add_heads(at, mixed, attention)
    else:
        written.add_heads(at, mixed, attention)
        mlp = layer.mlp(middle + written.change(cut[:, column, None])[:, 0])
    written.add_mlp(at, mlp)
    return middle + mlp


class Written:
    """What was written so far, and how it differs from the corrupted run.

    before: what was written earlier, on which `share` rows each follow.
    """

    def __init__(self, transformer: Transformer, corrupted: Run, before: Written | None = None, share: int = 1) -> None:
        self._transformer, self._corrupted = transformer, corrupted
        self._before, self._share = before, share
        self._sources: list[tuple[int, Tensor, Tensor | None]] = []  # first row of `cut`, change, sum with post norm

    def add_input(self, change: Float[Tensor, "row pos d_model"]) -> None:
        """Take in how the tokens differ."""
        self._sources.append((0, change[:, None], None))

    def add_heads(self, at: int, mixed: Tensor, attention: Tensor) -> None:
        """Take in a layer's heads. attention: their sum, with the bias."""
        layer, first = self._transformer.layers[at], components_of(self._transformer).before(at)
        change = (self._spread(self._corrupted.mixed[at]) - mixed) @ layer.W_O
        self._sources.append((first, change, None if layer.post_norm is None else attention))

    def add_mlp(self, at: int, mlp: Tensor) -> None:
        """Take in a layer's MLP."""
        last = components_of(self._transformer).before(at + 1) - 1
        self._sources.append((last, (self._spread(self._corrupted.mlp[at]) - mlp)[:, None], None))

    def change(self, cut: Float[Tensor, "source reader *position"]) -> Float[Tensor, "row reader pos d_model"]:
        """What cutting these edges adds to the input of some readers."""
        product = "ur,bupd->brpd" if cut.dim() == 2 else "urp,bupd->brpd"
        found = None if self._before is None else self._before.change(cut).repeat_interleave(self._share, 0)
        for first, change, attention in self._sources:
            part = torch.einsum(product, cut[first : first + change.shape[1]], change)
            if attention is not None:
                norm = self._transformer.layers[(first - 1) // (self._transformer.heads + 1)].post_norm
                assert norm is not None
                part = norm(attention[:, None] + part) - norm(attention)[:, None]
            found = part if found is None else found + part
        assert found is not None
        return found

    def _spread(self, tensor: Tensor) -> Tensor:
        return tensor.repeat_interleave(self._share, 0) if self._share > 1 else tensor
