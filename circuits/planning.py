"""A set of changes looked up on one traced prompt: what becomes what, where, and from which layer on.

What is not there, or says nothing, is refused here, before anything runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.attending import OFFSET
from circuits.changes import COMPONENT, ERROR, Change, Intervention, Patch, flatten
from circuits.clean_outputs import missed
from circuits.errors import BadIntervention
from circuits.model import Model
from circuits.sites import Site
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary, written_within
from circuits.transcoders.with_attention import attention_of

Active = Mapping[tuple[int, int, int], float]  # by (layer, position, unit) the activation in the clean run


@dataclass(frozen=True, eq=False)
class Plan:
    """One set, looked up: units and what they become, vectors added to MLP outputs, and components with what they take.

    units: (layer, position, unit, target, activation in the clean run). added: (layer, position, vector). attended: the
    same, to what replaced attentions put out.
    patches: (patch, site, head or None, what takes its place or None). counts: layers whose MLP outputs are changed or
    held. first: (layer, position) of each, and whether it only adds to the end of its layer.
    """

    units: list[tuple[int, int, int, float, float]]
    added: list[tuple[int, int, Tensor]]
    attended: list[tuple[int, int, Tensor]]
    patches: list[tuple[Patch, Site, int | None, Tensor | None]]
    counts: frozenset[int]
    first: list[tuple[int, int, bool]]


def make_plan(
    model: Model,
    transcoders: Dictionary,
    run: Trace,
    active: Active,
    window: int | range,
    chosen: Sequence[Change],
) -> Plan:
    """One set, looked up. active: see `active_units`. window: see `intervene`.

    Raises:
        BadIntervention: see `intervene`.
    """
    units, added, attended, patches = [], [], [], []
    counts, first = set(window if isinstance(window, range) and chosen else ()), []
    spread = [one for change in flatten(chosen) for one in _spread(change, run, transcoders, active)]
    _check_twice(spread)
    for each in spread:
        if isinstance(each, Patch):
            patches.append(look_up(model, len(run.tokens), each))
            first.append((patches[-1][1][1], each.position or 0, False))
            continue
        _check(each, run, transcoders, active)
        if each.attention:
            attended.append((each.layer, each.position, _more_attended(model, transcoders, run, active, each)))
            first.append((each.layer, each.position, False))
            continue
        if each.unit == ERROR:
            vector = (each.factor - 1) * missed(transcoders, run, each.layer)[each.position]
            added.append((each.layer, each.position, vector))
            inside = [layer for layer in (each.layer,) if not isinstance(window, range) or layer in window]
        else:
            was = active.get((each.layer, each.position, each.unit), 0.0)
            target = each.factor * was if each.value is None else each.value
            if each.prompts:
                target = _activation_on(model, transcoders, each)
            units.append((each.layer, each.position, each.unit, target, was))
            inside = list(within(transcoders, each.layer, window))
        if not inside and isinstance(window, range):
            raise BadIntervention(f"{each}: it writes to no layer of the window, {window.start} to {window.stop - 1}.")
        counts |= set(inside)
        first.append((inside[0], each.position, transcoders.at(inside[0]).writes == "mlp_output"))
    return Plan(units, added, attended, patches, frozenset(counts), first)


def active_units(run: Trace) -> dict[tuple[int, int, int], float]:
    """The activation of every active unit of the clean run, by layer, position and its number in a trace."""
    places = zip(run.layer.tolist(), run.position.tolist(), run.unit.tolist(), strict=True)
    return dict(zip(places, run.activation.tolist(), strict=True))


def within(transcoders: Dictionary, layer: int, window: int | range) -> range:
    """The layers in which the writes of a layer's units count."""
    if not isinstance(window, range):
        return written_within(transcoders, layer, window)
    written = transcoders.written_layers(layer)
    return range(max(written.start, window.start), min(written.stop, window.stop))


def look_up(model: Model, length: int, patch: Patch) -> tuple[Patch, Site, int | None, Tensor | None]:
    """Where a component is in the model, and what takes its place."""
    found = COMPONENT.fullmatch(patch.component)
    layer = next((int(found[name]) for name in ("attention", "mlp", "stream") if found[name]), 0) if found else 0
    head = int(found["head"]) if found and found["head"] else None
    if found is None or not 0 <= layer < model.layers or not 0 <= (head or 0) < model.heads:
        raise BadIntervention(
            f"{patch}: there is no {patch.component!r}; components are input, a0.h0 to a{model.layers - 1}."
            f"h{model.heads - 1}, m0 to m{model.layers - 1}, and resid0 to resid{model.layers - 1}."
        )
    if found["mlp"] and model.family.mlp == "none":
        raise BadIntervention(f"{patch}: {model.name} has no MLPs.")
    if patch.position is not None and not 0 <= patch.position < length:
        raise BadIntervention(f"{patch}: the prompt has positions 0 to {length - 1}.")
    width = model.blocks[layer].W_O.shape[1] if head is not None else model.d_model
    if patch.direction and len(patch.direction) != width:
        raise BadIntervention(f"{patch}: it has {width} dimensions, the direction {len(patch.direction)}.")
    if not all(map(math.isfinite, patch.direction or [patch.factor])):
        what = "the direction must hold finite numbers" if patch.direction else "the factor must be a finite number"
        raise BadIntervention(f"{patch}: {what}.")
    if patch.direction and patch.prompts:
        raise BadIntervention(f"{patch}: prompts or a direction, not both.")
    kinds = {"input": "token_embedding", "attention": "mixed", "mlp": "mlp_output", "stream": "residual_pre"}
    site = (next(name for kind, name in kinds.items() if found[kind]), layer)
    given = model.W_U.new_tensor(patch.direction) if patch.direction else None
    if patch.prompts:
        seen = [_on(model, prompt, site, patch, patch.position, length) for prompt in patch.prompts]
        given = torch.stack(seen).mean(0)
        given = given if head is None else given[..., head, :]
    return patch, site, head, given


def _more_attended(
    model: Model, transcoders: Dictionary, run: Trace, active: Active, wanted: Intervention
) -> Float[Tensor, "d_model"]:
    """What a change of a unit, or of the error, of a replaced attention adds to what that attention puts out."""
    attention = attention_of(transcoders)
    assert attention is not None
    if wanted.unit == ERROR:
        return (wanted.factor - 1) * run.attended[wanted.layer].missed[wanted.position]
    was = active.get(_place(wanted), 0.0)
    target = wanted.factor * was if wanted.value is None else wanted.value
    if wanted.prompts:
        site = (attention.reads, wanted.layer)
        seen = [model.run(model.tokenize(each)[None], read=[site])[1][site][0] for each in wanted.prompts]
        short = min(map(len, seen))
        if short <= wanted.position:
            raise BadIntervention(f"{wanted}: that prompt has positions 0 to {short - 1}.")
        found = [attention.activations(wanted.layer, x)[wanted.position, wanted.unit] for x in seen]
        target = float(torch.stack(found).mean())
    unit = torch.tensor([wanted.unit], device=run.tokens.device)
    return (target - was) * attention.writing(wanted.layer, unit)[0]


def _spread(
    change: Intervention | Patch, run: Trace, transcoders: Dictionary, active: Active
) -> Iterator[Intervention | Patch]:
    """A change that goes on, as one at every position of the prompt that it reaches."""
    if not change.onward:
        yield change
        return
    _check_onward(change)
    if isinstance(change, Patch):
        for position in range(change.position or 0, len(run.tokens)):
            yield replace(change, position=position, onward=False)
        return
    _check_place(change, run)
    for position in range(change.position, len(run.tokens)):
        if change.value is None:
            reached = (change.layer, position, change.unit) in active
        else:
            reached = position >= transcoders.at(change.layer).silent_positions
        if reached:
            yield replace(change, position=position, onward=False)


def _on(
    model: Model, prompt: Sequence[int], site: Site, change: Change, position: int | None, length: int
) -> Float[Tensor, "pos ..."]:
    """What passes a site on another prompt, at one position or at all."""
    tokens = model.tokenize(prompt)
    if position is None and len(tokens) != length:
        raise BadIntervention(f"{change}: that prompt has {len(tokens)} tokens, this one {length}: give a position.")
    if position is not None and len(tokens) <= position:
        raise BadIntervention(f"{change}: that prompt has positions 0 to {len(tokens) - 1}.")
    seen = model.run(tokens[None], read=[site])[1][site][0]
    return seen if position is None else seen[position : position + 1]


def _activation_on(model: Model, transcoders: Dictionary, wanted: Intervention) -> float:
    """A unit's mean activation on other prompts."""
    site = (transcoders.at(wanted.layer).reads, wanted.layer)
    seen = torch.cat([_on(model, prompt, site, wanted, wanted.position, 0) for prompt in wanted.prompts])
    return float(transcoders.activations(wanted.layer, seen)[:, wanted.unit].mean())


def _check_onward(change: Intervention | Patch) -> None:
    what = "an error" if isinstance(change, Intervention) and change.unit == ERROR else ""
    what = what or ("other prompts" if change.prompts else "")
    what = what or ("a unit of attention" if isinstance(change, Intervention) and change.attention else "")
    if what:
        raise BadIntervention(f"{change}: {what} cannot be gone on with: name the positions one by one.")
    amounts = [change.factor, *(change.direction if isinstance(change, Patch) else [change.value or 0.0])]
    if not all(map(math.isfinite, amounts)):
        raise BadIntervention(f"{change}: it must be a finite number.")


def _check_place(wanted: Intervention, run: Trace) -> None:
    if not 0 <= wanted.layer < run.frozen.layers or not 0 <= wanted.position < len(run.tokens):
        raise BadIntervention(
            f"{wanted}: the model has layers 0 to {run.frozen.layers - 1}, the prompt positions 0 to "
            f"{len(run.tokens) - 1}."
        )


def _check(wanted: Intervention, run: Trace, transcoders: Dictionary, active: Active) -> None:
    if not math.isfinite(wanted.factor if wanted.value is None else wanted.value):
        raise BadIntervention(f"{wanted}: the {'factor' if wanted.value is None else 'value'} must be a finite number.")
    _check_place(wanted, run)
    if wanted.value is not None and wanted.prompts:
        raise BadIntervention(f"{wanted}: a value or other prompts, not both.")
    if wanted.attention:
        _check_attention(wanted, run, transcoders, active)
        return
    if wanted.unit == ERROR:
        if wanted.value is not None or wanted.prompts:
            raise BadIntervention(f"{wanted}: an error is a vector, no single value: give a factor.")
        if run.errors is None or not run.errors[wanted.layer, wanted.position].any():
            raise BadIntervention(f"{wanted}: there is no error there: the dictionary is exact, or leaves it alone.")
    elif wanted.value is not None or wanted.prompts:
        here = transcoders.at(wanted.layer)
        if not 0 <= wanted.unit < here.units or wanted.position < here.silent_positions:
            raise BadIntervention(
                f"{wanted}: {transcoders.name} has units 0 to {here.units - 1} in that layer, from position "
                f"{here.silent_positions} on."
            )
    elif (wanted.layer, wanted.position, wanted.unit) not in active:
        others = [unit for layer, at, unit in active if (layer, at) == _place(wanted)[:2] and unit < OFFSET]
        known = ", ".join(map(str, others[:8])) + (" …" if len(others) > 8 else "") or "none"
        raise BadIntervention(f"{wanted}: that unit is not active there; active at this place: {known}.")


def _check_attention(wanted: Intervention, run: Trace, transcoders: Dictionary, active: Active) -> None:
    attention = attention_of(transcoders)
    if attention is None or wanted.layer not in run.attended:
        where = ", ".join(map(str, sorted(run.attended)))
        replaced = f"replaced in layers {where} alone" if where else "the model's own in all layers"
        raise BadIntervention(f"{wanted}: attention is {replaced}, so it has no such unit.")
    if wanted.unit == ERROR:
        if wanted.value is not None or wanted.prompts:
            raise BadIntervention(f"{wanted}: an error is a vector, no single value: give a factor.")
    elif wanted.value is not None or wanted.prompts:
        if not 0 <= wanted.unit < attention.units:
            raise BadIntervention(f"{wanted}: {attention.name} has units 0 to {attention.units - 1} in each layer.")
    elif _place(wanted) not in active:
        here = [unit - OFFSET for layer, at, unit in active if (layer, at) == _place(wanted)[:2] and unit >= OFFSET]
        known = ", ".join(map(str, here[:8])) + (" …" if len(here) > 8 else "") or "none"
        raise BadIntervention(f"{wanted}: that unit is not active there; active at this place: {known}.")


def _place(wanted: Intervention) -> tuple[int, int, int]:
    """Layer, position and unit, numbered as in a trace."""
    return wanted.layer, wanted.position, wanted.unit + OFFSET * wanted.attention


def _check_twice(chosen: Sequence[Intervention | Patch]) -> None:
    named: dict[tuple, Intervention | Patch] = {}
    everywhere = {each.component: each for each in chosen if isinstance(each, Patch) and each.position is None}
    for each in chosen:
        patch = isinstance(each, Patch)
        place = (each.component, each.position) if patch else _place(each)
        before = named.setdefault(place, each)
        if patch and before is each:
            before = everywhere.get(each.component, each)
        if before is not each:
            what = "component" if patch else "unit"
            raise BadIntervention(
                f"one set changes the same {what} twice: {before} and {each}. Give one factor for it, or two sets."
            )
