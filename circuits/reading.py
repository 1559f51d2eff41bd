"""What a target reads: its vector in the residual stream, and the value that its inputs must sum to.

A unit reads with its encoder, a logit with its column of the unembedding through the final norm, a direction as it is.

An error is no linear function of the stream, but its size along its own direction is one like that of a gated neuron:
every neuron's activation is a linear read of the MLP's input (half and identity rule, see `transcoders.neurons`), so

    |error| = Σ_neuron ⟨along, write⟩ ratio (vector · x + constant) - ⟨along, bias and skip⟩ - Σ_unit ⟨along, written⟩

with `along` held at error / |error|. The units that are taken off are sources like all others.

Source: METHODS sections 2.3, 2.4 and 2.7; the reading of errors is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.attending import OFFSET
from circuits.model import Model
from circuits.sweep import Targets, join_targets
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary
from circuits.transcoders.lorsa import Lorsa
from circuits.transcoders.neurons import Neurons
from circuits.transcoders.with_attention import attention_of


@dataclass(frozen=True, eq=False)
class Reading:
    """Targets with what they read. Each but `targets` is [target].

    value: what a target's inputs must sum to. encoder, norm: the parts of it that are read rather than written.
    gross: the sizes of what it reads, coordinate by coordinate. One source can cancel within itself (the only token a
        first-layer unit sees at position 0), so that Σ|weights| says nothing about how well its sum can be known.
    along: the direction of an error, zero for other targets: what units write along it at its own place is taken off.
        None where there are no errors. [target d_model]
    """

    targets: Targets
    value: Float[Tensor, "target"]
    gross: Float[Tensor, "target"]
    encoder: Float[Tensor, "target"]
    norm: Float[Tensor, "target"]
    along: Float[Tensor, "target d_model"] | None = None

    def __len__(self) -> int:
        return len(self.value)

    def take(self, rows: Int[np.ndarray, "_"] | slice) -> Reading:
        """Some of them, in this order."""
        at = rows if isinstance(rows, slice) else torch.from_numpy(rows).to(self.value.device)
        along = None if self.along is None else self.along[at]
        targets = self.targets.take(rows)
        return Reading(targets, self.value[at], self.gross[at], self.encoder[at], self.norm[at], along)


def join_readings(readings: Sequence[Reading]) -> Reading:
    """Several in one, in their order."""
    targets = join_targets([each.targets for each in readings])
    value, gross, encoder, norm = (
        torch.cat([getattr(each, name) for each in readings]) for name in ("value", "gross", "encoder", "norm")
    )
    along = None
    if any(each.along is not None for each in readings):
        none = [torch.zeros_like(each.targets.vector) if each.along is None else each.along for each in readings]
        along = torch.cat(none)
    return Reading(targets, value, gross, encoder, norm, along)


def read_units(run: Trace, dictionary: Dictionary) -> Reading:
    """Every active unit as a target, in reading order."""
    vectors, values, gross, encoder, norms = [], [], [], [], []
    where = run.layer.cpu().numpy()
    head = None
    if run.attended:
        of_attention = run.unit >= OFFSET
        where, head = where - 0.5 * of_attention.cpu().numpy(), np.full(len(where), -1)
    for layer in range(run.frozen.layers):
        here = run.units_at("attention", layer)
        if here.start < here.stop and head is not None:
            parts, head[here] = _read_attention(run, dictionary, layer, here)
            for column, part in zip((vectors, values, gross, encoder, norms), parts, strict=True):
                column.append(part)
        here = run.units_at("mlp", layer)
        position = run.position[here]
        x = run.inputs[layer][position]
        read, constant = dictionary.reading(layer, x, run.unit[here])
        vector, norm = run.frozen.read_residual(read, layer, position, dictionary.at(layer).reads)
        products = read * x
        vectors.append(vector)
        values.append(products.sum(-1) + constant)
        gross.append(products.abs_().sum(-1) + constant.abs())
        encoder.append(constant)
        norms.append(norm)
    targets = Targets(where, run.position.cpu().numpy(), torch.cat(vectors), head)
    return Reading(targets, torch.cat(values), torch.cat(gross), torch.cat(encoder), torch.cat(norms))


def _read_attention(
    run: Trace, dictionary: Dictionary, layer: int, here: slice
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor, Tensor], np.ndarray]:
    """The units of one layer's attention: vectors, values, gross, constants, biases before them; and each one's head.

    The vectors are what is read at every key, but for the pattern and the scale of the norm: see `Frozen.looks`.
    """
    attention, attended, norm = attention_of(dictionary), run.attended[layer], run.frozen.attention_norm[layer]
    assert attention is not None
    unit = run.unit[here] - OFFSET
    read, constant = attention.reading(layer, unit)
    if not isinstance(attention, Lorsa) or attended.patterns is None:
        products = read * attended.inputs[run.position[here]]
        biases = sum(run.frozen.attention[layer].constant.values(), torch.zeros_like(attended.inputs))
        within = (read * biases[run.position[here]]).sum(-1)
        gross = products.abs().sum(-1) + constant.abs()
        return (read, products.sum(-1) + constant, gross, constant, within), np.zeros(len(unit), dtype=np.int64)
    head = attention.head_of(unit)
    pattern = attended.patterns[head, run.position[here]]
    value = (read * (pattern @ attended.inputs)).sum(-1) + constant
    gross = (read.abs() * (pattern @ attended.inputs.abs())).sum(-1) + constant.abs()
    gained = attention.reads == "attention_input"
    bias = read @ norm.bias if gained and norm.bias is not None else torch.zeros_like(constant)
    return (norm.pull(read, gained=gained), value, gross, constant, bias), head.cpu().numpy()


def read_logits(run: Trace, right: Sequence[int], wrong: Sequence[int], position: Sequence[int]) -> Reading:
    """Demeaned logits as targets, each where it is read.

    right: the token each is for. wrong: the token it is held against, -1 for the mean of all. [target]
    """
    frozen = run.frozen
    direction = _vocabulary(frozen.unembedding, right, wrong)
    encoder = _vocabulary(frozen.unembedding_bias[None], right, wrong)[:, 0]
    return _read_final(run, direction, np.array(position, dtype=np.int64), encoder)


def read_direction(
    run: Trace, dictionary: Dictionary, vector: Float[Tensor, "d_model"], site: str, layer: int | None, position: int
) -> Reading:
    """A vector at a site of the residual stream as a target: see `circuits.targets.Direction`."""
    at = np.array([position])
    if site == "final" or layer is None:
        return _read_final(run, vector[None], at, vector.new_zeros(1))
    entering, before_mlp = _stream(run, dictionary, layer + (site == "residual_post"))
    stream = before_mlp if site == "residual_mid" and before_mlp is not None else entering
    read = vector * stream[position]
    nothing = vector.new_zeros(1)
    where = _where_read(run, site, layer)
    return Reading(
        Targets(np.array([where]), at, vector[None]), read.sum()[None], read.abs().sum()[None], nothing, nothing
    )


def read_error(model: Model, run: Trace, dictionary: Dictionary, layer: int, position: int) -> Reading:
    """The size of an error along its own direction as a target. The trace must have one there.

    Raises:
        UnfitTranscoders: the model's neurons cannot be read, see `Neurons`.
    """
    assert run.errors is not None
    frozen, neurons = run.frozen, Neurons(model)
    missed = run.errors[layer, position]
    along = missed / missed.norm()
    here = torch.tensor([position], device=along.device)
    post_norm = frozen.mlp_post_norm[layer]
    raw = along if post_norm is None else post_norm.transpose(along[None], here)[0]

    _, before_mlp = _stream(run, dictionary, layer)
    assert before_mlp is not None
    x = frozen.mlp_input(before_mlp, layer, neurons.reads)[position]
    every = torch.arange(neurons.units, device=x.device)
    read, constant = neurons.reading(layer, x.expand(len(every), -1), every)
    written = neurons.writing(layer, every, layer) @ raw * neurons.ratio(layer, x)
    vector, norm = frozen.read_residual((written @ read)[None], layer, here, neurons.reads)
    products = written[:, None] * read * x
    sizes = products.abs().sum()

    stands_in = dictionary.at(layer)
    taken = raw if stands_in.writes == "mlp_raw" else along
    encoder = written @ constant + neurons.bias(layer) @ raw - dictionary.bias(layer) @ taken
    if stands_in.writes != "mlp_raw" and post_norm is not None and post_norm.bias is not None:
        encoder = encoder + post_norm.bias @ along
    value = products.sum() + encoder
    skip = dictionary.skip(layer)
    if skip is not None:
        passed = -(taken @ skip)
        beside, beside_norm = frozen.read_residual(passed[None], layer, here, stands_in.reads)
        vector, norm = vector + beside, norm + beside_norm
        value = value + passed @ run.inputs[layer][position]
        sizes = sizes + (passed * run.inputs[layer][position]).abs().sum()
    _, units = written_at(run, dictionary, layer, position)
    off = units @ along
    targets = Targets(np.array([layer]), np.array([position]), vector)
    value, gross = value - off.sum(), sizes + off.abs().sum() + encoder.abs()
    return Reading(targets, value[None], gross[None], encoder[None], norm, along[None])


def written_at(
    run: Trace, dictionary: Dictionary, layer: int, position: int
) -> tuple[Int[Tensor, "unit"], Float[Tensor, "unit d_model"]]:
    """The active units that write to one MLP output, as rows of the trace's, and what they put into the stream."""
    rows, vectors = [], []
    for source in range(layer + 1):
        if layer in dictionary.written_layers(source):
            units = run.units_at("mlp", source)
            here = units.start + torch.nonzero(run.position[units] == position)[:, 0]
            written = run.activation[here, None] * dictionary.writing(source, run.unit[here], layer)
            rows.append(here)
            vectors.append(run.frozen.written(written, layer, run.position[here], dictionary.at(layer).writes))
    return torch.cat(rows), torch.cat(vectors)


def _vocabulary(
    unembedding: Float[Tensor, "d_model vocab"], right: Sequence[int], wrong: Sequence[int]
) -> Float[Tensor, "target d_model"]:
    """Columns of the demeaned unembedding (or its bias, as a matrix of one row): right minus wrong."""
    found = unembedding[:, list(right)].T.clone()
    for row, token in enumerate(wrong):
        if token >= 0:
            found[row] -= unembedding[:, token]
    return found


def _read_final(
    run: Trace, direction: Float[Tensor, "target d_model"], position: np.ndarray, encoder: Float[Tensor, "target"]
) -> Reading:
    """Directions after the final norm."""
    frozen, here = run.frozen, torch.from_numpy(position).to(direction.device)
    bias = frozen.final_norm.bias
    norm = torch.zeros_like(encoder) if bias is None else direction @ bias
    read = direction * frozen.final_norm.apply(run.residual)[here]
    value = read.sum(-1) + encoder + norm
    gross = read.abs().sum(-1) + encoder.abs() + norm.abs()
    layer = np.full(len(direction), frozen.layers)
    return Reading(Targets(layer, position, frozen.final_norm.transpose(direction, here)), value, gross, encoder, norm)


def _where_read(run: Trace, site: str, layer: int) -> float:
    """The place of a direction in the sweep: see `Targets.layer`."""
    entered = layer + (site == "residual_post")
    if site == "residual_mid" or run.frozen.parallel or entered == run.frozen.layers:
        return float(entered)
    return entered - 0.5


def _stream(
    run: Trace, dictionary: Dictionary, layer: int
) -> tuple[Float[Tensor, "pos d_model"], Float[Tensor, "pos d_model"] | None]:
    """The residual stream as it enters a layer, and before that layer's MLP; None past the last one."""
    frozen = run.frozen
    everywhere = torch.arange(len(run.tokens), device=run.tokens.device)
    x = frozen.embedding if frozen.positions is None else frozen.embedding + frozen.positions
    for at in range(frozen.layers):
        if at in run.attended:
            attended = run.attended[at].outputs
        else:
            attention = frozen.attention[at]
            attended = attention.forward(x)
            for vectors in attention.constant.values():
                attended = attended + vectors
        if at == layer:
            return x, x if frozen.parallel else x + attended
        raw, stands_in = run.written[at], dictionary.at(at)
        if stands_in.exact:  # as `trace` has it: the real outputs come from norms that compute in float32
            raw = dictionary.decode(at, dictionary.activations(at, run.inputs[at]), at) + dictionary.bias(at)
        out = frozen.written(raw, at, everywhere, stands_in.writes)
        post_norm = frozen.mlp_post_norm[at]
        if stands_in.writes == "mlp_raw" and post_norm is not None and post_norm.bias is not None:
            out = out + post_norm.bias
        x = x + attended + out
    return x, None
