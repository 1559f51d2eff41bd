"""What may be explained besides tokens and contrasts: values that check and print themselves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from circuits.errors import BadTarget

SITES = ("final", "residual_pre", "residual_mid", "residual_post")


@dataclass(frozen=True)
class Feature:
    """One active unit of the dictionary, attributed from inside: its value before activation.

    position: where in the prompt; negative ones count from the end.
    attention: whether it is one of what stands in for the layer's attention.
    """

    layer: int
    unit: int
    position: int = -1
    attention: bool = False

    def __str__(self) -> str:
        return f"L{self.layer}/{'attn/' * self.attention}{self.unit}@{_at(self.position)}"


@dataclass(frozen=True)
class Error:
    """What the dictionary misses of one MLP output: its size, read along its own direction.

    position: where in the prompt; negative ones count from the end.
    """

    layer: int
    position: int = -1

    def __str__(self) -> str:
        return f"L{self.layer}/error@{_at(self.position)}"


@dataclass(frozen=True, eq=False)
class Direction:
    """Any vector at any position: how far the residual stream goes along it.

    vector: [d_model], a tensor, an array or numbers.
    site: "final", after the final norm, where the unembedding reads; or the stream as it enters a layer
        ("residual_pre"), before its MLP ("residual_mid"; as it enters the layer, in parallel blocks) or as it leaves it
        ("residual_post").
    layer: which one; None for "final". position: negative ones count from the end. name: what a person reads.

    Raises:
        BadTarget: an unknown site, or a layer where none or one is wanted.
    """

    vector: Any
    site: str = "final"
    layer: int | None = None
    position: int = -1
    name: str = "direction"

    def __post_init__(self) -> None:
        if self.site not in SITES:
            raise BadTarget(f"the site of a direction is one of {', '.join(SITES)}, found {self.site!r}.")
        if (self.layer is None) != (self.site == "final"):
            wanted = "no layer" if self.site == "final" else "a layer"
            raise BadTarget(f"a direction at {self.site!r} takes {wanted}, found layer={self.layer}.")

    def __str__(self) -> str:
        place = self.site if self.layer is None else f"L{self.layer}/{self.site}"
        return f"{self.name} {place}@{_at(self.position)}"


@dataclass(frozen=True)
class Span:
    """The prompt's own tokens from `first` up to, not with, `stop`: the logit of each where it was the next token.

    Positions count as in a Python slice: negative ones from the end, `stop=None` for all that is left.
    """

    first: int
    stop: int | None = None

    def __str__(self) -> str:
        return f"{self.first}:{'' if self.stop is None else self.stop}"


Target = str | int | tuple[str | int, str | int] | Feature | Error | Direction | Span


def parse_target(text: str) -> str | Feature | Error:
    """A target as it is typed: `L2/544@last` a feature, `L2/attn/12@3` one of attention, `L2/error@3` an error, else a
    token.

    Raises:
        BadTarget: it begins like a feature and does not go on like one.
    """
    found = re.fullmatch(r"L(\d+)/(attn/)?(\d+|error)@(-?\d+|last)", text)
    if found is None:
        if re.match(r"L\d+/", text):
            raise BadTarget(
                "a feature is written L2/544@last or L2/544@3 (layer, number, position), one of attention "
                f"L2/attn/12@3, an error L2/error@3; found {text!r}."
            )
        return text
    layer, attention, unit, at = found.groups()
    position = -1 if at == "last" else int(at)
    if unit != "error":
        return Feature(int(layer), int(unit), position, attention is not None)
    if attention:
        raise BadTarget(
            f"{text}: what a set misses of attention is a source, and has no inputs of its own here; errors of MLPs "
            f"have: L{layer}/error@{at}."
        )
    return Error(int(layer), position)


def parse_span(text: str) -> Span:
    """A span as it is typed: `4:7` the tokens at positions 4, 5 and 6; `4:` all from 4 on.

    Raises:
        BadTarget: anything else.
    """
    found = re.fullmatch(r"(-?\d+):(-?\d+)?", text)
    if found is None:
        raise BadTarget(f"a span is FIRST:STOP, such as 4:7 for the tokens at positions 4, 5 and 6; found {text!r}.")
    first, stop = found.groups()
    return Span(int(first), None if stop is None else int(stop))


def _at(position: int) -> str:
    return "last" if position == -1 else str(position)
