"""Steering: what the model says with some units set otherwise, and how it goes on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.errors import BadIntervention, BadOption
from circuits.interventions import Intervention, intervene
from circuits.model import Model
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary

SETTING = re.compile(r"(?P<name>.+?)(?:@(?P<position>last|\d+))?=(?P<amount>[^=]+?)(?P<factor>x?)")
UNIT = re.compile(r"L(\d+)/(\d+)")


@dataclass(frozen=True, eq=False)
class Steered:
    """Last-position logits and the continuation, as they were and with the units changed.

    interventions: what was changed. before, after: logits, before any soft cap. [vocab]
    said_before, said_after: the token ids that the model goes on with, likeliest first choice at each step.
    """

    interventions: Sequence[Intervention]
    before: Float[Tensor, "vocab"]
    after: Float[Tensor, "vocab"]
    said_before: list[int]
    said_after: list[int]


@torch.no_grad()
def steer(
    model: Model,
    transcoders: Dictionary,
    run: Trace,
    interventions: Sequence[Intervention],
    *,
    attention: str = "live",
    length: int = 10,
) -> Steered:
    """Change units of a traced prompt and let the model go on from there.

    The change holds in the prompt; what is generated reads it through the keys and values it left there, and is live.

    attention: "live", or "frozen" over the prompt. length: tokens to go on for, as far as the context reaches.

    Raises:
        BadIntervention: see `intervene`. BadOption: a length below 0.
    """
    if length < 0:
        raise BadOption(f"the length of what is generated must be 0 or more, found {length}.")
    length = min(length, model.context - len(run.tokens))
    found = []
    for chosen in ((), interventions):
        past = model.remember()
        logits = intervene(model, transcoders, run, [chosen], attention=attention, past=past)[0, -1]
        said: list[int] = []
        ahead = logits
        for _ in range(length):
            said.append(int(ahead.argmax()))
            ahead = model.run(torch.tensor([said[-1:]], device=model.device), past=past)[0][0, -1]
        found.append((logits, said))
    (before, said_before), (after, said_after) = found
    return Steered(list(interventions), before, after, said_before, said_after)


def read_setting(text: str, run: Trace, transcoders: Dictionary) -> list[Intervention]:
    """What `L2/544@last=0`, `L2/544=3` or `texas=-1x` change on a prompt.

    A name is a unit, or the label of some; a position an index or `last`, by default wherever the units are active. An
    amount is an activation, or with an x a factor of what the activation is.

    Raises:
        BadIntervention: it reads otherwise, or nothing of that name is active there.
    """
    parts = SETTING.fullmatch(text.strip())
    if parts is None:
        raise BadIntervention(f"{text!r}: a setting reads NAME[@POSITION]=AMOUNT, as in L2/544@last=0 or texas=-1x.")
    name, where, amount = parts["name"], parts["position"], _number(parts["amount"], text)
    position = None if where is None else len(run.tokens) - 1 if where == "last" else int(where)
    unit = UNIT.fullmatch(name)
    if unit is not None and position is not None:
        places = [(int(unit[1]), position, int(unit[2]))]
    else:
        places = _active_of(name, position, run, transcoders)
    if parts["factor"]:
        return [Intervention(*place, factor=amount) for place in places]
    return [Intervention(*place, value=amount) for place in places]


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadIntervention(f"{whole!r}: {text!r} is no number.") from None


def _active_of(name: str, position: int | None, run: Trace, transcoders: Dictionary) -> list[tuple[int, int, int]]:
    """Where units of that number or label are active, there or anywhere."""
    active = list(zip(run.layer.tolist(), run.position.tolist(), run.unit.tolist(), strict=True))
    labels = {place: transcoders.notes.get(f"{place[0]}/{place[2]}", {}).get("label") for place in active}
    found = [
        place for place in active if position in (None, place[1]) and name in (f"L{place[0]}/{place[2]}", labels[place])
    ]
    if not found:
        known = sorted({label for label in labels.values() if label})
        hint = (
            f" Labels active on this prompt: {', '.join(known[:12])}{' …' if len(known) > 12 else ''}." if known else ""
        )
        there = "" if position is None else f" at position {position}"
        raise BadIntervention(f"nothing called {name!r} is active{there}; a unit is named like L2/544.{hint}")
    return found
