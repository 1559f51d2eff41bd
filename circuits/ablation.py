"""Ablating whole sets of units in a live run: keep these, set all others to their mean or to zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.interventions import ROWS, batches
from circuits.model import Edit, Model, Site
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary

Units = Int[Tensor, "_ 3"]  # rows of (layer, position, unit)
BOOLS = 2**27  # marks in one batch, one byte each


@torch.no_grad()
def ablate_sets(
    model: Model,
    dictionary: Dictionary,
    run: Trace,
    sets: Sequence[Units],
    *,
    keep: bool,
    fill: Sequence[Float[Tensor, "_"]] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Float[Tensor, "set pos vocab"]]:
    """Logits when only the units of a set are left as they are (`keep`), or when only they are ablated.

    The run is live, attention included: at every layer the units are encoded anew from the changed stream. What is
    ablated takes its `fill` (mean activations per layer; None is zero). Positions the dictionary leaves alone are left.

    Units that write one layer: the difference is added to what the real MLP puts out, so its error stays, live.
    Cross-layer ones: the real MLPs would make their later writes a second time, so here the MLP outputs are the
    dictionary's, with the error of the clean run added.

    Source: METHODS section 7.2, the live rule of level 5.
    """
    layers = range(run.frozen.layers)
    length = len(run.tokens)
    marks = sum(length * len(_fill(dictionary, fill, layer, run)) for layer in layers)
    for some in batches(sets, run, per_row=marks * ROWS // BOOLS):
        kept = [torch.full((len(some), length, len(_fill(dictionary, fill, layer, run))), not keep) for layer in layers]
        for row, units in enumerate(some):
            for layer in layers:
                here = units[units[:, 0] == layer].cpu()
                kept[layer][row, here[:, 1], here[:, 2]] = keep
        for layer in layers:
            kept[layer][:, : dictionary.silent_positions] = True
        edits = _edits(dictionary, run, [marks.to(run.tokens.device) for marks in kept], fill)
        logits, _ = model.run(run.tokens.expand(len(some), -1), edit=edits)
        if progress is not None:
            progress(len(some))
        yield logits


def _edits(dictionary: Dictionary, run: Trace, kept: list[Tensor], fill: Sequence[Tensor] | None) -> dict[Site, Edit]:
    acts: list[Tensor] = []  # the activations after ablation, layer by layer, as the run goes up
    changes: list[Tensor] = []  # what ablation took from them
    cross_layer = any(len(dictionary.written_layers(layer)) > 1 for layer in range(run.frozen.layers))

    def encode(layer: int) -> Edit:
        def edit(x: Tensor) -> Tensor:
            live = dictionary.activations(layer, x)
            if cross_layer:
                live = live * (torch.arange(x.shape[1], device=x.device) >= dictionary.silent_positions)[:, None]
            after = torch.where(kept[layer], live, _fill(dictionary, fill, layer, run))
            acts[layer:] = [after]
            changes[layer:] = [after - live]
            return x

        return edit

    def write(layer: int) -> Edit:
        def decoded(of: list[Tensor]) -> Tensor:
            sources = (source for source in range(layer + 1) if layer in dictionary.written_layers(source))
            return torch.stack([dictionary.decode(source, of[source], layer) for source in sources]).sum(0)

        def add_change(live: Tensor) -> Tensor:
            return live + decoded(changes)

        def replace(_live: Tensor) -> Tensor:
            clean = _clean_units(dictionary, run, layer)
            return run.written[layer] - clean + decoded(acts)

        return replace if cross_layer else add_change

    edits: dict[Site, Edit] = {}
    for layer in range(run.frozen.layers):
        edits[(dictionary.reads, layer)] = encode(layer)
        edits[(dictionary.writes, layer)] = write(layer)
    return edits


def _clean_units(dictionary: Dictionary, run: Trace, layer: int) -> Float[Tensor, "pos d_out"]:
    """What the clean run's active units write to a layer: the rest of that MLP output is bias, skip and error."""
    out = torch.zeros_like(run.written[layer])
    for source in range(layer + 1):
        if layer in dictionary.written_layers(source):
            here = run.layer == source
            vectors = run.activation[here, None] * dictionary.writing(source, run.unit[here], layer)
            out.index_add_(0, run.position[here], vectors)
    return out


def _fill(dictionary: Dictionary, fill: Sequence[Tensor] | None, layer: int, run: Trace) -> Float[Tensor, "unit"]:
    """The value an ablated unit of a layer takes."""
    return run.residual.new_zeros(dictionary.units) if fill is None else fill[layer]
