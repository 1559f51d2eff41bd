"""What a picture can be asked to look like, and what it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import Signature
from typing import Any

from graphs.errors import BadOption
from graphs.export.scene.marks import SMALL
from graphs.export.scene.themes import FONTS, THEMES

READABLE = 6.0  # points: the least that letters are to measure on paper
INCH = 72.0
CM = 2.54  # to the inch
CHOICES = {"bos": ("grey", "draw", "hide"), "errors": ("grey", "hide")}


def check_options(options: Mapping[str, Any], taken: Signature, what: str, without: Sequence[str] = ()) -> None:
    """That every option is one that is taken, and none of `without`. what: who takes them, in words.

    Raises:
        BadOption: one is not.
    """
    own = (*without, "assay", "bare")
    offered = [name for name, each in taken.parameters.items() if each.kind is each.KEYWORD_ONLY and name not in own]
    unknown = [name for name in options if name not in offered]
    if unknown:
        raise BadOption(f"{what} has no choice {unknown[0]!r}; it has {', '.join(offered)}.")


def check_look(theme: str, font: str, width_cm: float | None, bos: str = "grey", errors: str = "grey") -> None:
    """What every picture can look like.

    Raises:
        BadOption: there is no such theme, font or choice, or the width is none that paper has.
    """
    for name, found in (("bos", bos), ("errors", errors)):
        if found not in CHOICES[name]:
            raise BadOption(f"{name} is {', '.join(CHOICES[name])}; found {found!r}.")
    if theme not in THEMES:
        raise BadOption(f"a picture's theme is {', '.join(THEMES)}; found {theme!r}.")
    if font not in FONTS:
        raise BadOption(f"a picture's font is {' or '.join(FONTS)}; found {font!r}.")
    if width_cm is not None and not 1 <= width_cm <= 500:
        raise BadOption(f"a picture is 1 to 500 cm wide; found {width_cm}. A column of a paper is about 8.5 cm.")


def check_edges(*, most_edges: int = 0, least_share: float = 0.0) -> None:
    """How many edges a picture can be asked for, and how strong.

    Raises:
        BadOption: a number makes no sense.
    """
    if most_edges < 0:
        raise BadOption(f"most_edges must be 0 or more, not {most_edges}.")
    if not 0 <= least_share <= 1:
        raise BadOption(f"least_share must be a share, 0 to 1, not {least_share}.")


def widest_of(width_cm: float | None, letter: float = SMALL) -> float | None:
    """How wide a picture may be, in its own points, for letters of that size to be READABLE on paper. None: any."""
    return None if width_cm is None else width_cm / CM * INCH * letter / READABLE
