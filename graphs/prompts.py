"""What the model was asked, as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphs.graph import AttributionGraph


def prompt_of(graph: AttributionGraph) -> str:
    """The prompt as it was given, where the provenance says so, else its tokens without the special ones.

    A prompt of special tokens only is told by them. Records hold this text and are held to it when they are read.
    """
    given = graph.provenance.get("prompt")
    if isinstance(given, str):
        return given
    words = [token for token in graph.tokens if not re.fullmatch(r"\s*<[^<>\s]+>\s*", token)] or graph.tokens
    spaced = any(token[:1].isspace() for token in words)
    return ("" if spaced else " ").join(words).strip()
