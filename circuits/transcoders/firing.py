"""Where the units of a set fire on texts: run some at a time, first surveyed, then looked at where it matters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.model import Model
from circuits.sites import Site
from circuits.texts import Texts
from circuits.transcoders.transcoders import Transcoders

BINS = 20  # of a histogram
TRIED = 16  # texts in which a unit is strongest that are remembered
BEFORE, AFTER = 12, 4  # tokens of an example around its strongest place
AT_ONCE = 2**23  # activations, or logits, held at once


@dataclass(frozen=True, eq=False)
class Block:
    """Some texts, run. layer: of the set, not of the model. first: the number of the first text.

    activations: zero where nothing is counted: behind a text's end, and at positions that the set leaves alone.
    counted: the other places. divisor: what the final norm divides by, 1 where there is none.
    """

    layer: int
    first: int
    activations: Float[Tensor, "text pos unit"]
    counted: Bool[Tensor, "text pos"]
    divisor: Float[Tensor, "text pos"]


@torch.no_grad()
def run_over(model: Model, transcoders: Transcoders, texts: Texts) -> Iterator[Block]:
    """The activations of a set on texts, some of them at a time, layer after layer."""
    longest = texts.tokens.shape[1]
    most = AT_ONCE // (longest * max(transcoders.units, model.vocabulary))
    rows = max(1, most) if model.causal else 1  # what looks both ways would see what a shorter text is filled up with
    sites: list[Site] = [(transcoders.reads, number) for number in transcoders.of_layers]
    norm: list[Site] = [site for site in model.scales() if site == ("final_scale", 0)]
    for first in range(0, len(texts), rows):
        some = texts.take(slice(first, first + rows))
        position = torch.arange(some.tokens.shape[1])
        counted = (position < some.length[:, None]) & (position >= transcoders.silent_positions)
        counted = counted.to(model.device)
        _, seen = model.run(some.tokens.long().to(model.device), read=[*sites, *norm])
        divisor = seen[norm[0]].reshape(counted.shape) if norm else torch.ones_like(counted, dtype=model.dtype)
        for layer, site in enumerate(sites):
            activations = transcoders.activations(layer, seen.pop(site)) * counted[..., None]
            yield Block(layer, first, activations, counted, divisor)


class Survey:
    """Of every unit of a layer: how often it fires, how strongly at least and at most, and where it is strongest.

    fired: [unit]. least, most: of activations, 0 among them. [unit]
    heard: the sum of activations, each as the final norm divides it. [unit]
    value, text, place: in the TRIED texts in which it is strongest, strongest first; value 0 where there are fewer.
    [rank unit]
    """

    def __init__(self, units: int, device: torch.device) -> None:
        self.fired = torch.zeros(units, dtype=torch.int64, device=device)
        self.heard = torch.zeros(units, dtype=torch.float64, device=device)
        self.least = torch.zeros(units, device=device)
        self.most = torch.zeros(units, device=device)
        self.value = torch.zeros(TRIED, units, device=device)
        self.text = torch.zeros(TRIED, units, dtype=torch.int64, device=device)
        self.place = torch.zeros(TRIED, units, dtype=torch.int64, device=device)

    def add(self, block: Block, fresh: Bool[Tensor, "text"]) -> None:
        """fresh: which of the texts did not come before."""
        acts = block.activations
        self.fired += (acts != 0).sum((0, 1))
        self.heard += torch.einsum("tpu,tp->u", acts, block.counted / block.divisor)
        self.least = torch.minimum(self.least, acts.amin((0, 1)).float())
        self.most = torch.maximum(self.most, acts.amax((0, 1)).float())
        value, place = acts[fresh].max(1)
        text = (block.first + fresh.nonzero()).expand_as(place)
        value, text, place = (
            torch.cat(pair) for pair in ((self.value, value.float()), (self.text, text), (self.place, place))
        )
        best = value.sort(dim=0, descending=True, stable=True).indices[:TRIED]  # of equals the earlier text
        self.value, self.text, self.place = (each.gather(0, best) for each in (value, text, place))


class Firing:
    """What is told of the firing of a layer's units.

    fired, heard, most: as lists; see `Survey`. ends: of the histograms. counts: [unit bin]
    peaks: for each unit, (token id, activation) of its strongest places.
    shown: for each unit, its examples: (token ids, activations, which is the strongest).
    """

    def __init__(self, survey: Survey, rows: list[list[int]], examples: int) -> None:
        self.fired, self.heard, self.most = (each.tolist() for each in (survey.fired, survey.heard, survey.most))
        self._low, self._wide = survey.least, (survey.most - survey.least).clamp_min(1e-30)
        self.ends = list(zip(survey.least.tolist(), self.most, strict=True))
        self.counts = torch.zeros(len(self.fired), BINS, dtype=torch.int64, device=survey.fired.device)
        self.peaks: list[list[tuple[int, float]]] = []
        self.shown: list[list[tuple[list[int], list[float], int]]] = []
        self._windows: list[tuple[int, int, int, list[float]]] = []  # text, unit, its first token, its activations
        value, text, place = (each.T.tolist() for each in (survey.value, survey.text, survey.place))
        for unit in range(len(self.fired)):
            strongest = [each for each in zip(value[unit], text[unit], place[unit], strict=True) if each[0] > 0]
            self.peaks.append([(rows[row][at], amount) for amount, row, at in strongest])
            chosen: dict[tuple[int, ...], tuple[list[int], list[float], int]] = {}
            for _, row, at in strongest:
                begin = max(0, at - BEFORE)
                ids = rows[row][begin : at + AFTER + 1]
                if tuple(ids) in chosen:
                    continue
                if len(chosen) == examples:
                    break
                chosen[tuple(ids)] = (ids, [0.0] * len(ids), at - begin)
                self._windows.append((row, unit, begin, chosen[tuple(ids)][1]))
            self.shown.append(list(chosen.values()))
        self._windows.sort(key=lambda each: each[:2])
        self._next = 0

    def add(self, block: Block) -> None:
        acts = block.activations
        text, position, unit = acts.nonzero(as_tuple=True)
        share = (acts[text, position, unit] - self._low[unit]) / self._wide[unit]
        bins = (share * BINS).long().clamp_(0, BINS - 1)  # the largest belongs to the last
        self.counts += torch.bincount(unit * BINS + bins, minlength=self.counts.numel()).view_as(self.counts)
        begin, last = self._next, block.first + len(acts)
        while self._next < len(self._windows) and self._windows[self._next][0] < last:
            self._next += 1
        here = self._windows[begin : self._next]
        rows = torch.tensor([row - block.first for row, *_ in here], device=acts.device, dtype=torch.int64)
        units = torch.tensor([unit for _, unit, *_ in here], device=acts.device, dtype=torch.int64)
        for (_, _, first, window), line in zip(here, acts[rows, :, units].tolist(), strict=True):
            window[:] = line[first : first + len(window)]


def first_of_equals(rows: list[list[int]]) -> Bool[Tensor, "text"]:
    """Which texts did not come before."""
    first = {tuple(row): number for number, row in reversed([*enumerate(rows)])}
    return torch.tensor([first[tuple(row)] == number for number, row in enumerate(rows)])
