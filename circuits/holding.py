"""Edits that hold parts of a run as they were, or as they were but for what is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.sites import Edit, Site
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary


@dataclass(frozen=True, eq=False)
class Settings:
    """Units set to activations and vectors added, in the rows of one batch.

    row, layer, position, unit, target, was: one of each per unit; was: its activation in the clean run.
    added: (row, layer, position, vector), each to one layer's MLP output.
    counts: for each row, the layers whose MLP outputs are changed or held.
    """

    row: Sequence[int]
    layer: Sequence[int]
    position: Sequence[int]
    unit: Sequence[int]
    target: Sequence[float]
    was: Sequence[float]
    added: Sequence[tuple[int, int, int, Tensor]]
    counts: Sequence[frozenset[int]]


def hold_attention(
    run: Trace, *, layer: int = 0, position: int = 0, values: Mapping[int, Tensor] | None = None
) -> dict[Site, Edit]:
    """Edits that keep every attention pattern as it was: values are live, where they go is not.

    The mixed values are made anew from the held pattern, since not every family lets its pattern be replaced.

    layer, position: where the run begins; values: what the heads' values before that position were, per layer.
    """
    live: dict[int, Tensor] = {}

    def keep(layer: int) -> Edit:
        def edit(value: Tensor) -> Tensor:
            live[layer] = value
            return value

        return edit

    def mix(layer: int) -> Edit:
        pattern = run.frozen.attention[layer].pattern[:, position:]

        def edit(_mixed: Tensor) -> Tensor:
            value = live[layer]
            if position and values is not None:
                value = torch.cat([values[layer][:, :position].expand(len(value), -1, -1, -1), value], dim=1)
            value = value.repeat_interleave(len(pattern) // value.shape[2], dim=2)
            return torch.einsum("hqk,bkhe->bqhe", pattern, value)

        return edit

    edits: dict[Site, Edit] = {}
    for each in range(layer, run.frozen.layers):
        edits[("value", each)] = keep(each)
        edits[("mixed", each)] = mix(each)
    return edits


def hold_mlps(
    transcoders: Dictionary,
    inputs: Sequence[Float[Tensor, "pos d_in"]],
    written: Sequence[Float[Tensor, "pos d_out"]],
    settings: Settings,
    *,
    mlps: str,
    window: Callable[[int], range],
    layer: int = 0,
    position: int = 0,
) -> dict[Site, Edit]:
    """Edits that write what changes to the MLP outputs, and in between hold them as `mlps` says: see `intervene`.

    inputs, written: of the clean run, per layer. window: for a layer, those that its units' writes count in.
    layer, position: where the run begins.
    """
    rows, layers = len(settings.counts), range(layer, len(written))
    here = torch.tensor([settings.row, settings.layer, settings.position, settings.unit], device=written[0].device)
    here = here.to(torch.long).view(4, -1)
    target, was = written[0].new_tensor(settings.target), written[0].new_tensor(settings.was)
    sources = sorted(set(settings.layer))
    live: dict[int, Tensor] = {}  # what each layer reads, as the run goes up
    fresh: dict[int, Tensor] = {}  # by how much all other units differ from the clean run there

    def apart(source: int) -> Float[Tensor, "unit"]:
        """How far each chosen unit of a layer is moved."""
        chosen = here[1] == source
        if mlps != "live" or source not in live:
            return target[chosen] - was[chosen]
        row, _, at, unit = here[:, chosen]
        now = transcoders.activations(source, live[source][row, at - position])
        return target[chosen] - now.gather(1, unit[:, None])[:, 0]

    def change(to: int) -> Float[Tensor, "row pos d_out"]:
        """What the chosen units and vectors add to a layer's MLP output."""
        out = written[to].new_zeros(rows, *written[to][position:].shape)
        for source in sources:
            if to in window(source):
                row, _, at, unit = here[:, here[1] == source]
                vectors = apart(source)[:, None] * transcoders.writing(source, unit, to)
                out.index_put_((row, at - position), vectors, accumulate=True)
        for row, where, at, vector in settings.added:
            if where == to:
                out[row, at - position] += vector
        return out

    def notice(at: int) -> Edit:
        def edit(x: Tensor) -> Tensor:
            live[at] = x
            if mlps == "rebuilt":
                silent = transcoders.at(at).silent_positions
                differs = transcoders.activations(at, x) - transcoders.activations(at, inputs[at][position:])
                differs[:, : max(0, silent - position)] = 0
                row, _, where, unit = here[:, here[1] == at]
                differs[row, where - position, unit] = 0  # theirs is in the change
                fresh[at] = differs
            return x

        return edit

    def write(at: int) -> Edit:
        held = torch.tensor([at in counts for counts in settings.counts], device=written[at].device)

        def edit(now: Tensor) -> Tensor:
            if mlps == "live":
                return now + change(at)
            out = written[at][position:] + change(at)
            skip = transcoders.skip(at)
            if skip is not None:
                out = out + (live[at] - inputs[at][position:]) @ skip.T
            for source in fresh:
                if at in transcoders.written_layers(source):
                    out = out + transcoders.decode(source, fresh[source], at)
            return torch.where(held[:, None, None], out, now)

        return edit

    counted = [at for at in layers if any(at in counts for counts in settings.counts)]
    noticed = [at for at in counted if transcoders.skip(at) is not None and mlps != "live"]
    if mlps == "live":
        noticed = [at for at in sources if at in layers]
    if mlps == "rebuilt" and counted:
        noticed = [at for at in layers if any(to in transcoders.written_layers(at) for to in counted)]
    edits: dict[Site, Edit] = {(transcoders.at(at).reads, at): notice(at) for at in noticed}
    return edits | {(transcoders.at(at).writes, at): write(at) for at in counted}


def hold_attended(
    written: Mapping[int, Float[Tensor, "pos d_model"]],
    added: Sequence[tuple[int, int, int, Tensor]],
    rows: int,
    *,
    live: bool,
    position: int = 0,
) -> dict[int, Edit]:
    """For each layer, an edit that holds what its replaced attention puts out at the clean run's and what is added.

    written: of the clean run, by layer. added: (row, layer, position, vector); rows without any are live. live: add it
    to what attention puts out by then instead. position: where the run begins.
    """
    edits: dict[int, Edit] = {}
    for layer in {each[1] for each in added}:
        clean = written[layer][position:]
        more, holds = (
            clean.new_zeros(rows, *clean.shape),
            torch.zeros(rows, 1, 1, dtype=torch.bool, device=clean.device),
        )
        for row, where, at, vector in added:
            if where == layer:
                more[row, at - position] += vector
                holds[row] = True

        def edit(now: Tensor, clean: Tensor = clean, more: Tensor = more, holds: Tensor = holds) -> Tensor:
            return now + more if live else torch.where(holds, clean + more, now)

        edits[layer] = edit
    return edits
