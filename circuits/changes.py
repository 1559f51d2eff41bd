"""What can be changed in a run, as values: which thing, where, and into what; in words, and as JSON both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from circuits.errors import BadIntervention

ERROR = -1  # in place of a unit's number: what the dictionary misses at that layer and position
NUMBER = "0|[1-9][0-9]*"  # each is written in one way, so that one component has one name
COMPONENT = re.compile(
    rf"(?P<input>input)|a(?P<attention>{NUMBER})\.h(?P<head>{NUMBER})|m(?P<mlp>{NUMBER})|resid(?P<stream>{NUMBER})"
)
Prompts = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Intervention:
    """One unit's activation at one position times a factor: 0 ablates it, 1 leaves it, -1 turns it round.

    unit: its number, or ERROR for the reconstruction error there.
    value: the activation itself, in place of a factor; a unit that is not active can only be set so.
    prompts: token ids of other prompts, in place of both: it is set to what it is there at this position, on average.
        One prompt resamples it, many set it to a mean.
    onward: at every later position too, also of what is generated. A factor then is one of whatever it is there.
    attention: whether it is a unit, or the error, of what stands in for the layer's attention.
    """

    layer: int
    position: int
    unit: int
    factor: float = 0.0
    value: float | None = None
    prompts: Prompts = ()
    onward: bool = False
    attention: bool = False

    def __str__(self) -> str:
        what = f"L{self.layer}/{'attn/' * self.attention}{self.unit}"
        if self.unit == ERROR:
            what = f"{'attention ' * self.attention}error L{self.layer}"
        change = f"× {self.factor:g}" if self.value is None else f"= {self.value:g}"
        return f"{what}@{self.position}{':' * self.onward} {_as_on(self.prompts) or change}"


@dataclass(frozen=True)
class Patch:
    """A component's output, or the residual stream, times a factor at one position or at all: 0 takes it away.

    component: "input" the token embedding, "a2.h1" a head's mixed values before its output weights, "m2" what an MLP
        adds to the stream, "resid2" the stream before a layer.
    position: None for all.
    prompts: token ids of other prompts, in place of a factor: its mean at the same positions there takes its place.
    direction: in place of a factor: this is added to it.
    onward: at every later position too, also of what is generated.
    """

    component: str
    position: int | None = None
    factor: float = 0.0
    prompts: Prompts = ()
    direction: tuple[float, ...] = ()
    onward: bool = False

    def __str__(self) -> str:
        change = f"× {self.factor:g}"
        if self.direction:
            change = f"+ a direction of length {sum(each**2 for each in self.direction) ** 0.5:.3g}"
        where = "" if self.position is None else f"@{self.position}{':' * self.onward}"
        return f"{self.component}{where} {_as_on(self.prompts) or change}"


@dataclass(frozen=True)
class Supernode:
    """Several interventions under one name."""

    name: str
    members: tuple[Intervention | Patch, ...]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(map(str, self.members))})"


Change = Intervention | Patch | Supernode
KINDS: dict[str, type[Change]] = {"unit": Intervention, "component": Patch, "supernode": Supernode}


def to_record(change: Change) -> dict[str, Any]:
    """A change as what JSON holds; `from_record` brings it back."""
    kind = next(name for name, type_ in KINDS.items() if isinstance(change, type_))
    if isinstance(change, Supernode):
        return {"kind": kind, "name": change.name, "members": [to_record(each) for each in change.members]}
    return {"kind": kind, **asdict(change)}


def from_record(record: Mapping[str, Any]) -> Change:
    """What `to_record` wrote.

    Raises:
        BadIntervention: it is no such record.
    """
    fields = dict(record)
    kind = fields.pop("kind", None)
    try:
        if "members" in fields:
            fields["members"] = tuple(from_record(each) for each in fields["members"])
        if "prompts" in fields:
            fields["prompts"] = tuple(tuple(prompt) for prompt in fields["prompts"])
        if "direction" in fields:
            fields["direction"] = tuple(fields["direction"])
        return KINDS[kind](**fields)
    except (KeyError, TypeError) as reason:
        raise BadIntervention(
            f"{dict(record)!r} is no intervention: a record has a kind ({', '.join(KINDS)}) and its fields; {reason}."
        ) from None


def flatten(chosen: Sequence[Change]) -> list[Intervention | Patch]:
    """The members of supernodes in their place."""
    return [each for change in chosen for each in (change.members if isinstance(change, Supernode) else (change,))]


def _as_on(prompts: Prompts) -> str:
    if not prompts:
        return ""
    return "as on another prompt" if len(prompts) == 1 else f"= its mean over {len(prompts)} prompts"
