"""Ablating whole sets of units in a live run: keep these, set all others to their mean or to zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.interventions import ROWS, batches, written_by_units
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

    errors: False takes all errors away: MLP outputs are the dictionary's and no more.
    read: the site that is read in place of the logits.

    Source: METHODS section 7.2, level 5, its live rule, and of it that all other *active* features are ablated: fills
    for the silent ones too, which are by far the most, would flood the stream with what no unit said.
    """
    layers = range(run.frozen.layers)
    length = len(run.tokens)
    units_of = [dictionary.at(layer).units for layer in layers]
    marks = length * sum(units_of)
    active = [torch.zeros(length, units, dtype=torch.bool, device=run.tokens.device) for units in units_of]
    for layer in layers:
        here = run.layer == layer
        active[layer][run.position[here], run.unit[here]] = True
    for some in batches(sets, run, per_row=marks * ROWS // BOOLS):
        kept = [torch.full((len(some), length, units), not keep) for units in units_of]
        for row, units in enumerate(some):
            for layer in layers:
                here = units[units[:, 0] == layer].cpu()
                kept[layer][row, here[:, 1], here[:, 2]] = keep
        for layer in layers:
            kept[layer][:, : dictionary.at(layer).silent_positions] = True
        edits = _edits(dictionary, run, active, [marks.to(run.tokens.device) for marks in kept], fill, errors)
        _, seen = model.run(run.tokens.expand(len(some), -1), edit=edits, read=[read])
        if progress is not None:
            progress(len(some))
        yield seen[read]


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

    def encode(layer: int) -> Edit:
        def edit(x: Tensor) -> Tensor:
            live = dictionary.activations(layer, x)
            if cross_layer or not errors:
                live = live * covered(layer)
            left = kept[layer] | ~(active[layer] | (live != 0))
            after = torch.where(left, live, 0 if fill is None else fill[layer])
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
    return edits
