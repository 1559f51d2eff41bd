"""Ablating whole sets of units in a live run: keep these, set all others to their mean or to zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.attending import OFFSET
from circuits.clean_outputs import written_by_units
from circuits.interventions import ROWS, batches
from circuits.model import Model
from circuits.sites import Edit, Site
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary
from circuits.transcoders.with_attention import attention_of

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
    fill: Sequence[Float[Tensor, "*pos _"]] | None = None,
    errors: bool = True,
    progress: Callable[[int], None] | None = None,
    read: Site = ("logits", 0),
) -> Iterator[Float[Tensor, "set pos width"]]:
    """Logits when only the units of a set are left as they are (`keep`), or when only they are ablated.

    The run is live, attention included: at every layer the units are encoded anew from the changed stream. What is
    ablated takes its `fill` (per layer, activations: one a unit, or one for each position; None is zero) where it is
    active, in the clean run or now; what is silent in both stays so. Positions the dictionary leaves alone are left.

    Units that write one layer: the difference is added to what the real MLP puts out, so its error stays, live.
    Cross-layer ones: the real MLPs would make their later writes a second time, so here the MLP outputs are the
    dictionary's, with the error of the clean run added.

    Where attention is replaced, its units are ablated alike: the difference is added to what the real attention puts
    out. Fills of a layer have them after those of its MLP.

    errors: False takes all errors away: MLP outputs, and replaced attention's, are the dictionary's and no more.
    read: the site that is read in place of the logits.

    Source: METHODS section 7.2, level 5, its live rule, and of it that all other *active* features are ablated: fills
    for the silent ones too, which are by far the most, would flood the stream with what no unit said.
    """
    layers = range(run.frozen.layers)
    length = len(run.tokens)
    units_of = [dictionary.at(layer).units for layer in layers]
    attention = attention_of(dictionary)
    if attention is not None:
        for layer in attention.numbers:
            units_of[layer] += attention.units
    marks = length * sum(units_of)
    active = [torch.zeros(length, units, dtype=torch.bool, device=run.tokens.device) for units in units_of]
    for layer in layers:
        here = run.layer == layer
        active[layer][run.position[here], _column(run.unit[here], dictionary, layer)] = True
    for some in batches(sets, run, per_row=marks * ROWS // BOOLS):
        kept = [torch.full((len(some), length, units), not keep) for units in units_of]
        for row, units in enumerate(some):
            for layer in layers:
                here = units[units[:, 0] == layer].cpu()
                kept[layer][row, here[:, 1], _column(here[:, 2], dictionary, layer)] = keep
        for layer in layers:
            here = dictionary.at(layer)
            kept[layer][:, : here.silent_positions, : here.units] = True
        edits = _edits(dictionary, run, active, [marks.to(run.tokens.device) for marks in kept], fill, errors)
        _, seen = model.run(run.tokens.expand(len(some), -1), edit=edits, read=[read])
        if progress is not None:
            progress(len(some))
        yield seen[read]


def _column(unit: Int[Tensor, "n"], dictionary: Dictionary, layer: int) -> Int[Tensor, "n"]:
    """Where units of a trace stand among all of their layer, those of replaced attention last."""
    return torch.where(unit < OFFSET, unit, unit - OFFSET + dictionary.at(layer).units)


def _edits(
    dictionary: Dictionary,
    run: Trace,
    active: Sequence[Bool[Tensor, "pos _"]],
    kept: list[Tensor],
    fill: Sequence[Tensor] | None,
    errors: bool,
) -> dict[Site, Edit]:
    inputs: list[Tensor] = []  # what the dictionary reads, layer by layer, as the run goes up
    acts: list[Tensor] = []  # the activations after ablation
    changes: list[Tensor] = []  # what ablation took from them
    cross_layer = any(len(dictionary.written_layers(layer)) > 1 for layer in range(run.frozen.layers))

    def covered(layer: int) -> Bool[Tensor, "pos 1"]:
        positions = torch.arange(len(run.tokens), device=run.tokens.device)[:, None]
        return positions >= dictionary.at(layer).silent_positions

    def ablated(layer: int, live: Tensor, some: slice) -> Tensor:
        left = kept[layer][..., some] | ~(active[layer][..., some] | (live != 0))
        return torch.where(left, live, 0 if fill is None else fill[layer][..., some])

    def encode(layer: int) -> Edit:
        def edit(x: Tensor) -> Tensor:
            live = dictionary.activations(layer, x)
            if cross_layer or not errors:
                live = live * covered(layer)
            after = ablated(layer, live, slice(0, live.shape[-1]))
            inputs[layer:], acts[layer:], changes[layer:] = [x], [after], [after - live]
            return x

        return edit

    def write(layer: int) -> Edit:
        def decoded(of: list[Tensor]) -> Tensor:
            sources = (source for source in range(layer + 1) if layer in dictionary.written_layers(source))
            return torch.stack([dictionary.decode(source, of[source], layer) for source in sources]).sum(0)

        def add_change(live: Tensor) -> Tensor:
            return live + decoded(changes)

        def replace(_live: Tensor) -> Tensor:
            return run.written[layer] - written_by_units(dictionary, run, layer) + decoded(acts)

        def rebuild(live: Tensor) -> Tensor:
            skip = dictionary.skip(layer)
            out = decoded(acts) + dictionary.bias(layer)
            out = out if skip is None else out + inputs[layer] @ skip.T
            return torch.where(covered(layer), out, live)

        return rebuild if not errors else replace if cross_layer else add_change

    edits: dict[Site, Edit] = {}
    for layer in range(run.frozen.layers):
        here = dictionary.at(layer)
        edits[(here.reads, layer)] = encode(layer)
        edits[(here.writes, layer)] = write(layer)
    attention = attention_of(dictionary)
    for layer in () if attention is None else attention.numbers:
        edits |= _edit_attention(dictionary, layer, ablated, errors)
    return edits


def _edit_attention(
    dictionary: Dictionary, layer: int, ablated: Callable[[int, Tensor, slice], Tensor], errors: bool
) -> dict[Site, Edit]:
    """What is done to a replaced attention."""
    attention, first = attention_of(dictionary), dictionary.at(layer).units
    assert attention is not None
    read: list[Tensor] = []
    rebuilds = attention.reads == attention.writes

    def notice(x: Tensor) -> Tensor:
        read[:] = [x]
        return x

    def write(out: Tensor) -> Tensor:
        live = attention.activations(layer, out if rebuilds else read[0])
        after = ablated(layer, live, slice(first, first + live.shape[-1]))
        if not errors:
            return attention.decode(layer, after) + attention.bias(layer)
        return out + attention.decode(layer, after - live)

    noticed: dict[Site, Edit] = {} if rebuilds else {(attention.reads, layer): notice}
    return {**noticed, (attention.writes, layer): write}
