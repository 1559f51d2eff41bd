"""Changing units of a dictionary in the real model: what is to change is a value, many are run in one batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import BadIntervention, BadOption
from circuits.model import Edit, Model, Site
from circuits.tracing import Trace, trace
from circuits.transcoders.base import Dictionary, written_within

ATTENTION = ("live", "frozen")
ERROR = -1  # in place of a unit's number: what the dictionary misses at that layer and position
ROWS = 2**25  # numbers in one [row pos vocab] output, the largest tensor of a batch for most models


@dataclass(frozen=True)
class Intervention:
    """One unit's activation at one position times a factor: 0 ablates it, 1 leaves it, -1 turns it round.

    unit: its number, or ERROR for the reconstruction error there.
    value: the activation itself, in place of a factor; a unit that is not active can only be set so.
    """

    layer: int
    position: int
    unit: int
    factor: float = 0.0
    value: float | None = None

    def __str__(self) -> str:
        what = f"L{self.layer}/{self.unit}" if self.unit != ERROR else f"error L{self.layer}"
        change = f"× {self.factor:g}" if self.value is None else f"= {self.value:g}"
        return f"{what}@{self.position} {change}"


def intervene(
    model: Model,
    transcoders: Dictionary,
    prompt: str | Sequence[int] | Trace,
    runs: Sequence[Sequence[Intervention]],
    *,
    attention: str = "live",
    window: int | None = None,
    past: Any = None,
    read: Site = ("logits", 0),
) -> Float[Tensor, "run pos width"]:
    """The real model's logits, before any soft cap, under each set of interventions.

    A set changes the MLP outputs its units write to, within a window from each unit's own layer on: these are held at
    `clean + (factor - 1) * activation * write vector`, or `(value - activation)` of it; what comes later runs live.
    Errors that no set names stay as they are; one that is named writes to its own layer.

    attention: "live", or "frozen": every pattern held as it was in the clean run, so that nothing looks elsewhere.
    window: how many layers past its own a unit's writes count and MLP outputs are held. By default 0 for units that
        write one layer and 2 for cross-layer ones, whose later writes would otherwise count twice: once written, once
        made by the later MLPs themselves.
    past: for one set: where to leave its keys and values, so that `Model.run` can go on from there.
    read: the site that is read in place of the logits.

    Raises:
        BadIntervention: a unit that is not active there, a place outside the prompt, a factor that is no number, or one
            unit twice in a set: two factors for one activation say nothing.

    Source: METHODS section 6.1, constrained patching.
    """
    run = prompt if isinstance(prompt, Trace) else trace(model, transcoders, prompt)
    return read_under(model, transcoders, run, runs, [read], attention=attention, window=window, past=past)[read]


def read_under(
    model: Model,
    transcoders: Dictionary,
    run: Trace,
    runs: Sequence[Sequence[Intervention]],
    read: Sequence[Site],
    *,
    attention: str = "live",
    window: int | None = None,
    past: Any = None,
) -> dict[Site, Float[Tensor, "run pos _"]]:
    """What stands at several sites under each set of interventions; for all else see `intervene`."""
    if attention not in ATTENTION:
        raise BadOption(f"attention must be one of {', '.join(ATTENTION)}, found {attention!r}.")
    window = default_window(transcoders) if window is None else window
    if window < 0:
        raise BadOption(f"window must be 0 or more layers, found {window}.")
    active = _active_units(run)
    for chosen in runs:
        for intervention in chosen:
            _check(intervention, run, transcoders, active)
        _check_twice(chosen)
    parts: dict[Site, list[Tensor]] = {site: [] for site in read}
    for some in batches(runs, run):
        edits = _edits(transcoders, run, some, active, window)
        if attention == "frozen":
            edits |= hold_attention(run)
        _, seen = model.run(run.tokens.expand(len(some), -1), edit=edits, read=list(read), past=past)
        for site, found in parts.items():
            found.append(seen[site])
    nothing = run.logits.new_zeros(0, *run.logits.shape)
    return {site: torch.cat(found) if found else nothing for site, found in parts.items()}


def default_window(transcoders: Dictionary) -> int:
    """How many layers past its own a unit's intervention is held: see `intervene`."""
    writes_on = any(len(transcoders.written_layers(layer)) > 1 for layer in range(transcoders.layers))
    return 2 if writes_on else 0


def missed(transcoders: Dictionary, run: Trace, layer: int) -> Float[Tensor, "pos d_out"]:
    """What the dictionary misses of a layer's MLP output, at the site where it writes; 0 where it leaves that alone."""
    skip = transcoders.skip(layer)
    rebuilt = written_by_units(transcoders, run, layer) + transcoders.bias(layer)
    rebuilt = rebuilt if skip is None else rebuilt + run.inputs[layer] @ skip.T
    covered = torch.arange(len(run.tokens), device=run.tokens.device) >= transcoders.at(layer).silent_positions
    return (run.written[layer] - rebuilt) * covered[:, None]


def written_by_units(transcoders: Dictionary, run: Trace, layer: int) -> Float[Tensor, "pos d_out"]:
    """What the clean run's active units write to a layer: the rest of that MLP output is bias, skip and error."""
    out = torch.zeros_like(run.written[layer])
    for source in range(layer + 1):
        if layer in transcoders.written_layers(source):
            here = run.layer == source
            vectors = run.activation[here, None] * transcoders.writing(source, run.unit[here], layer)
            out.index_add_(0, run.position[here], vectors)
    return out


def hold_attention(run: Trace) -> dict[Site, Edit]:
    """Edits that keep every attention pattern as it was: values are live, where they go is not.

    The mixed values are made anew from the held pattern, since not every family lets its pattern be replaced.
    """
    values: dict[int, Tensor] = {}

    def keep(layer: int) -> Edit:
        def edit(value: Tensor) -> Tensor:
            values[layer] = value
            return value

        return edit

    def mix(layer: int) -> Edit:
        pattern = run.frozen.attention[layer].pattern

        def edit(_mixed: Tensor) -> Tensor:
            value = values[layer].repeat_interleave(len(pattern) // values[layer].shape[2], dim=2)
            return torch.einsum("hqk,bkhe->bqhe", pattern, value)

        return edit

    edits: dict[Site, Edit] = {}
    for layer in range(run.frozen.layers):
        edits[("value", layer)] = keep(layer)
        edits[("mixed", layer)] = mix(layer)
    return edits


def batches(items: Sequence, run: Trace, *, per_row: int | None = None) -> Iterator[Sequence]:
    """The items, as many at a time as one batch of the model may hold.

    per_row: numbers that one item needs at once; by default its logits.
    """
    size = max(1, ROWS // max(per_row or 0, run.logits.numel()))
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _edits(
    transcoders: Dictionary,
    run: Trace,
    runs: Sequence[Sequence[Intervention]],
    active: dict[tuple[int, int, int], int],
    window: int,
) -> dict[Site, Edit]:
    held: dict[int, tuple[Tensor, Tensor]] = {}
    for row, chosen in enumerate(runs):
        for each in chosen:
            for layer, change in _changes(transcoders, run, each, active, window):
                delta, holds = held.setdefault(layer, _nothing(run, layer, len(runs)))
                holds[row] = True
                delta[row, each.position] += change
    return {
        (transcoders.at(layer).writes, layer): _hold(run.written[layer], delta, holds)
        for layer, (delta, holds) in held.items()
    }


def _changes(
    transcoders: Dictionary, run: Trace, wanted: Intervention, active: dict[tuple[int, int, int], int], window: int
) -> Iterator[tuple[int, Float[Tensor, "d_out"]]]:
    """What is added to which layers' MLP outputs."""
    if wanted.unit == ERROR:
        yield wanted.layer, (wanted.factor - 1) * missed(transcoders, run, wanted.layer)[wanted.position]
        return
    at = active.get((wanted.layer, wanted.position, wanted.unit))
    activation = 0.0 if at is None else float(run.activation[at])
    change = (wanted.factor - 1) * activation if wanted.value is None else wanted.value - activation
    unit = torch.tensor([wanted.unit], device=run.tokens.device)
    for layer in written_within(transcoders, wanted.layer, window):
        yield layer, change * transcoders.writing(wanted.layer, unit, layer)[0]


def _active_units(run: Trace) -> dict[tuple[int, int, int], int]:
    places = zip(run.layer.tolist(), run.position.tolist(), run.unit.tolist(), strict=True)
    return {place: at for at, place in enumerate(places)}


def _check(wanted: Intervention, run: Trace, transcoders: Dictionary, active: dict[tuple[int, int, int], int]) -> None:
    if not math.isfinite(wanted.factor if wanted.value is None else wanted.value):
        raise BadIntervention(f"{wanted}: the {'factor' if wanted.value is None else 'value'} must be a finite number.")
    if not 0 <= wanted.layer < run.frozen.layers or not 0 <= wanted.position < len(run.tokens):
        raise BadIntervention(
            f"{wanted}: the model has layers 0 to {run.frozen.layers - 1}, the prompt positions 0 to "
            f"{len(run.tokens) - 1}."
        )
    if wanted.unit == ERROR:
        if wanted.value is not None:
            raise BadIntervention(f"{wanted}: an error is a vector, no single value: give a factor.")
        if run.errors is None or not run.errors[wanted.layer, wanted.position].any():
            raise BadIntervention(f"{wanted}: there is no error there: the dictionary is exact, or leaves it alone.")
    elif wanted.value is not None:
        here = transcoders.at(wanted.layer)
        if not 0 <= wanted.unit < here.units or wanted.position < here.silent_positions:
            raise BadIntervention(
                f"{wanted}: {transcoders.name} has units 0 to {here.units - 1} in that layer, from position "
                f"{here.silent_positions} on."
            )
    elif (wanted.layer, wanted.position, wanted.unit) not in active:
        others = [unit for layer, position, unit in active if (layer, position) == (wanted.layer, wanted.position)]
        known = ", ".join(map(str, others[:8])) + (" …" if len(others) > 8 else "") or "none"
        raise BadIntervention(f"{wanted}: that unit is not active there; active at this place: {known}.")


def _check_twice(chosen: Sequence[Intervention]) -> None:
    named: dict[tuple[int, int, int], Intervention] = {}
    for each in chosen:
        before = named.setdefault((each.layer, each.position, each.unit), each)
        if before is not each:
            raise BadIntervention(
                f"one set changes the same unit twice: {before} and {each}. Give one factor for it, or two sets."
            )


def _nothing(run: Trace, layer: int, rows: int) -> tuple[Tensor, Tensor]:
    clean = run.written[layer]
    return clean.new_zeros(rows, *clean.shape), torch.zeros(rows, dtype=torch.bool, device=clean.device)


def _hold(clean: Tensor, delta: Tensor, holds: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda live: torch.where(holds[:, None, None], clean + delta, live)
