"""Texts in the order in which they are trained on."""

from __future__ import annotations

import torch

from circuits.texts import Texts
from circuits.transcoders.scaling import Batch


class Draw:
    """Batches of texts, every text once a round, in an order that depends on the seed alone.

    drawn: how many batches there were; set it to go on from there. tokens: in them.
    """

    def __init__(self, texts: Texts, batch: int, seed: int, device: torch.device) -> None:
        self._texts, self._seed, self._device = texts, seed, device
        self._batch = min(batch, len(texts))
        self._round, self._order = -1, torch.empty(0)
        self.drawn = self.tokens = 0

    def __call__(self) -> list[Batch]:
        turn, place = divmod(self.drawn, len(self._texts) // self._batch)
        if turn != self._round:
            generator = torch.Generator().manual_seed((self._seed + turn) % 2**63)
            self._round, self._order = turn, torch.randperm(len(self._texts), generator=generator)
        some = self._texts.take(self._order[place * self._batch : (place + 1) * self._batch])
        self.drawn += 1
        self.tokens += some.count
        return [batch_of(some, self._device)]


def batch_of(texts: Texts, device: torch.device) -> Batch:
    """Every position counts the same but the first, which is left alone."""
    position = torch.arange(texts.tokens.shape[1])
    weight = ((position < texts.length[:, None]) & (position > 0)).float().to(device)
    return Batch(texts.tokens.long().to(device), weight, weight)
