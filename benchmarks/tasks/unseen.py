"""Which prompts of the shipped world its model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from benchmarks.world import prompts
from benchmarks.world.language import make_language

_FAMILIES: dict[str, Callable[[], Iterable[prompts.Prompt]]] = {
    "two-hop": lambda: prompts.two_hop(make_language()),
    "indirect": prompts.indirect,
    "greater": prompts.greater,
    "agreement": prompts.agreement,
    "antonyms": prompts.antonyms,
    "addition": prompts.addition,
}


@cache
def _trained(family: str) -> frozenset[str]:
    return frozenset(prompt.text for prompt in _FAMILIES[family]() if prompt.split == prompts.TRAIN)


def is_trained(family: str, prompt: str) -> bool:
    """Whether a prompt, or the beginning of it that is a whole question, was among the family's training prompts."""
    words = prompt.split()
    return any(" ".join(words[:end]) in _trained(family) for end in range(1, len(words) + 1))
