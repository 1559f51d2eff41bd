"""Steering: what the model says with some units set otherwise, and how it goes on."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.attending import OFFSET, name_unit
from circuits.changes import Change, Intervention, flatten
from circuits.errors import BadIntervention, BadOption
from circuits.interventions import go_on, intervene
from circuits.model import Model
from circuits.spelling import did_you_mean
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary

SETTING = re.compile(r"(?P<name>.+?)(?:@(?P<first>last|\d*)(?P<rest>:\d*)?)?=(?P<amount>[^=]+?)(?P<factor>x?)")
UNIT = re.compile(r"L(\d+)/(attn/)?(\d+)")


@dataclass(frozen=True, eq=False)
class Steered:
    """Last-position logits and the continuation, as they were and with the units changed.

    interventions: what was changed. before, after: logits, before any soft cap. [vocab]
    said_before, said_after: the token ids that the model goes on with, likeliest first choice at each step.
    """

    interventions: Sequence[Change]
    before: Float[Tensor, "vocab"]
    after: Float[Tensor, "vocab"]
    said_before: list[int]
    said_after: list[int]


@torch.no_grad()
def steer(
    model: Model,
    transcoders: Dictionary,
    run: Trace,
    interventions: Sequence[Change],
    *,
    length: int = 10,
    **options: Any,
) -> Steered:
    """Change things in a traced prompt and let the model go on from there.

    A change holds in the prompt; what is generated reads it through the keys and values it left there, and is live. One
    that goes `onward` is made in every generated token too.

    length: tokens to go on for, as far as the context reaches. options: see `intervene`; attention, where it is frozen,
    is so over the prompt only.

    Raises:
        BadIntervention: see `intervene`. BadOption: a length below 0.
    """
    if length < 0:
        raise BadOption(f"the length of what is generated must be 0 or more, found {length}.")
    length = min(length, model.context - len(run.tokens))
    found = []
    for chosen in ((), interventions):
        ahead = list(islice(say_on(model, transcoders, run, chosen, **options), max(length, 1)))
        found.append((ahead[0], [int(each.argmax()) for each in ahead[:length]]))
    (before, said_before), (after, said_after) = found
    return Steered(list(interventions), before, after, said_before, said_after)


@dataclass(frozen=True)
class Lead:
    """Where a token stands in some logits: its own, and how far that is above the best of all others.

    Both in logits before any soft cap; a lead below 0 is how far it lies behind.
    """

    logit: float
    lead: float


def lead_of(token: int, logits: Float[Tensor, "vocab"]) -> Lead:
    """The logit of a token, and its lead."""
    others = logits.clone()
    others[token] = -math.inf
    return Lead(float(logits[token]), float(logits[token] - others.max()))


@torch.no_grad()
def say_on(
    model: Model, transcoders: Dictionary, run: Trace, chosen: Sequence[Change], **options: Any
) -> Iterator[Float[Tensor, "vocab"]]:
    """The logits after the prompt and after each token that the model then says, its likeliest; see `steer`."""
    past = model.remember()
    logits = intervene(model, transcoders, run, [chosen], past=past, **options)[0, -1]
    onward = [each for each in flatten(chosen) if each.onward]
    step = {name: option for name, option in options.items() if name in ("mlps", "window")}
    while True:
        yield logits
        logits = go_on(model, transcoders, int(logits.argmax()), past, onward, **step)


def read_setting(
    text: str, run: Trace, transcoders: Dictionary, groups: Mapping[str, Sequence[int | str]] | None = None
) -> list[Intervention]:
    """What `L2/544@last=0`, `texas=-1x`, `ohio@last=1` or `L2/544@5:=3` change on a prompt.

    A name is a unit, the label of some, or one of the groups: of these members `L2/544@3` and `L2/544` are read. A
    position is an index or `last`; `2:5` is every position from 2 to 4, `5:` every one from 5 on, what is generated
    included. An amount is an activation, or with an x a factor of it. A factor, and an activation without a position,
    are for units that are active; an activation at a position is for all of that name, and wakes what is silent.

    Raises:
        BadIntervention: it reads otherwise, or nothing of that name is there.
    """
    parts = SETTING.fullmatch(text.strip())
    if parts is None or (parts["first"] == "" and parts["rest"] is None):
        raise BadIntervention(
            f"{text!r}: a setting reads NAME[@POSITION]=AMOUNT, as in L2/544@last=0, texas=-1x or L2/544@5:=3."
        )
    name, amount, scaled = parts["name"], _number(parts["amount"], text), parts["factor"] == "x"
    positions, onward = _positions(parts["first"], parts["rest"], len(run.tokens))
    if not positions or positions[-1] >= len(run.tokens):
        raise BadIntervention(
            f"{text!r}: the prompt has positions 0 to {len(run.tokens) - 1}; 2:5 are 2 to 4, 5: all from 5 on."
        )
    members = (groups or {}).get(name, [name])
    alone = len(positions) == 1
    places = []
    if parts["first"] is not None and (not scaled or (alone and UNIT.fullmatch(name))):
        places = [
            (layer, position, unit)
            for layer, unit in _called(members, transcoders)
            for position in positions
            if alone or position >= transcoders.at(layer % run.frozen.layers).silent_positions
        ]
    places = places or _active(name, members, positions, run, transcoders, list(groups or {}))
    if onward:
        places = sorted({(layer, positions.start, unit) for layer, _, unit in places})
    factor, value = (amount, None) if scaled else (0.0, amount)
    return [
        Intervention(layer, position, unit % OFFSET, factor, value, onward=onward, attention=unit >= OFFSET)
        for layer, position, unit in places
    ]


def _positions(first: str | None, rest: str | None, length: int) -> tuple[range, bool]:
    """The positions of a prompt that are meant, and whether those after it are too."""
    if first is None:
        return range(length), False
    start = length - 1 if first == "last" else int(first or 0)
    if rest is None:
        return range(start, start + 1), False
    return range(start, int(rest[1:] or length)), rest == ":"


def _number(text: str, whole: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise BadIntervention(f"{whole!r}: {text!r} is no number.") from None
    if not math.isfinite(number):
        raise BadIntervention(f"{whole!r}: a finite number is wanted, found {text!r}.")
    return number


def _called(members: Sequence[int | str], transcoders: Dictionary) -> list[tuple[int, int]]:
    """Every (layer, unit) of those numbers or labels, active or not; units numbered as in a trace."""
    labelled = {f"L{unit}" for unit, note in transcoders.notes.items() if note.get("label") in members}
    names = [each.partition("@")[0] for each in members if isinstance(each, str)]
    units = [unit for each in dict.fromkeys([*names, *sorted(labelled)]) if (unit := UNIT.fullmatch(each))]
    return [(int(unit[1]), int(unit[3]) + OFFSET * (unit[2] is not None)) for unit in units]


def _active(
    name: str,
    members: Sequence[int | str],
    positions: range,
    run: Trace,
    transcoders: Dictionary,
    groups: Sequence[str],
) -> list[tuple[int, int, int]]:
    """Where units of those numbers or labels are active among some positions. groups: what else there is a name for."""
    active = list(zip(run.layer.tolist(), run.position.tolist(), run.unit.tolist(), strict=True))
    names = {place: name_unit(place[0], place[2]) for place in active}
    labels = {place: transcoders.notes.get(name, {}).get("label") for place, name in names.items()}
    found = [
        place
        for place in active
        if place[1] in positions and {f"L{names[place]}", f"L{names[place]}@{place[1]}", labels[place]} & {*members}
    ]
    if not found:
        known = sorted({label for label in labels.values() if label})
        hint = (
            f" Labels active on this prompt: {', '.join(known[:12])}{' …' if len(known) > 12 else ''}." if known else ""
        )
        there = "" if len(positions) == len(run.tokens) else f" at position {positions.start}"
        there += f" to {positions[-1]}" if there and len(positions) > 1 else ""
        meant = did_you_mean(name, [*groups, *known])
        hint = (f" Groups: {', '.join(groups)}." if groups else "") + hint
        raise BadIntervention(f"nothing called {name!r} is active{there}; a unit is named like L2/544.{meant}{hint}")
    return found
