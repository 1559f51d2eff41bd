"""Train, validation and test: a prompt that stands in one of them, clean or corrupted, stands in no other."""

from __future__ import annotations

from collections.abc import Hashable

SPLITS = ("train", "validation", "test")


class Splits:
    """Where every prompt lives. A pair whose two prompts live in different splits has no place."""

    def __init__(self) -> None:
        self._home: dict[Hashable, str] = {}

    def allowed(self, *prompts: Hashable) -> tuple[str, ...]:
        """The splits that a pair may go to: all, one or none."""
        homes = {self._home[each] for each in prompts if each in self._home}
        return SPLITS if not homes else tuple(homes) if len(homes) == 1 else ()

    def settle(self, split: str, *prompts: Hashable) -> None:
        """From now on these prompts live there."""
        self._home.update(dict.fromkeys(prompts, split))
