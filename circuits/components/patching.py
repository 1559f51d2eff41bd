"""Activation patching: a value of one prompt's run put in the place of the other's, one place at a time.

    noising     clean run, corrupted values: what the answer needs
    denoising   corrupted run, clean values: what is enough to bring it back

The two differ where one of several would do, or several are needed at once. What lies before a place is run once; from
there the model goes on once for each place, those of a layer side by side. Positions before the first where the
prompts differ are what they are in both, and those after an answer is read are of no consequence: neither is run again.

Source: Vig et al. 2020; Meng et al. 2022; METHODS section 8.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuits.components.ablations import Ablation, resample
from circuits.components.edge_scores import loss_of, read_logits
from circuits.components.metrics import Metric, logit_difference
from circuits.components.pairs import Pairs
from circuits.components.transformer import Run, Transformer, normalise
from circuits.errors import BadOption

Progress = Callable[[int, int], None]
DIRECTIONS = ("denoising", "noising")
ROWS = 2**14  # positions of all pairs and places that go on at once
LOGITS = 2**24  # of all pairs and places that are read at once


@dataclass(frozen=True, eq=False)
class Patched:
    """What patching did, averaged over the pairs.

    effect: metric of the patched run less that of the run it was patched into. [layer place]
    share: the same over the difference between the two prompts' metrics: denoising, 1 is all of it brought back;
        noising, 1 is all of it lost. nan where the prompts do not differ. [layer place]
    over: what was patched. clean, corrupted: the metric of either run.
    """

    effect: Float[np.ndarray, "layer place"]
    share: Float[np.ndarray, "layer place"]
    over: str
    direction: str
    clean: float
    corrupted: float


@torch.no_grad()
def patch_activations(
    transformer: Transformer,
    pairs: Pairs,
    *,
    over: str = "heads",
    direction: str = DIRECTIONS[0],
    metric: Metric = logit_difference,
    ablation: Ablation = resample,
    progress: Progress = lambda done, total: None,
) -> Patched:
    """Patch every place of a kind by itself.

    over: one of OVER. "heads": a head's output, at all positions; place is the head. "resid": the residual stream
        before a layer, "attention", "mlps": what a layer's attention or MLP adds; place is the position.
    ablation: noising, what is put in the place of the clean values; see `circuits.components.ablations`.

    Raises:
        BadOption: no such kind or direction, the metric is no number, or clean values would go into no prompt's run.
    """
    if over not in tuple(OVER):
        raise BadOption(f"what to patch must be one of {', '.join(OVER)}, found {over!r}.")
    length = pairs.clean.shape[1]
    first, last = _reach(transformer, pairs) if ablation is resample else (0, length)
    pairs = replace(pairs, clean=pairs.clean[:, :last], corrupted=pairs.corrupted[:, :last])
    clean, corrupted, base, donor = ends_of(transformer, pairs, direction, ablation)
    wanted = read_logits(transformer, clean.after, pairs)
    tail = last - int(pairs.position.min())

    def measure(after: Float[Tensor, "place pair last d_model"]) -> list[float]:
        each, of = torch.arange(len(pairs), device=after.device), pairs.position - last
        logits = transformer.unembed(after[:, each, of])
        losses = [loss_of(transformer, those, pairs, metric, wanted) for those in logits]
        return [float(-loss.double().mean()) for loss in losses]

    (at_clean,), (at_corrupted,) = measure(clean.after[None]), measure(corrupted.after[None])
    before = at_clean if direction == "noising" else at_corrupted
    size = max(1, min(ROWS // (len(pairs) * (last - first)), LOGITS // wanted.numel()))
    sweep = _Sweep(transformer, base.since(first), donor.since(first), size, tail)
    rows = []
    for layer in range(len(transformer.layers)):
        rows.append([each - before for ends in OVER[over](sweep, layer) for each in measure(ends)])
        progress(layer + 1, len(transformer.layers))
    effect = np.array(rows)
    if over != "heads":
        effect = np.pad(effect, ((0, 0), (first, length - last)))
    apart = (at_clean - at_corrupted) * (-1 if direction == "noising" else 1)
    share = effect / apart if apart else np.full_like(effect, np.nan)
    return Patched(effect, share, over, direction, at_clean, at_corrupted)


def _reach(transformer: Transformer, pairs: Pairs) -> tuple[int, int]:
    """The first position where the prompts differ, or an answer is read before, and the one after the last answer."""
    if not all(layer.causal for layer in transformer.layers):
        return 0, pairs.clean.shape[1]
    differ = (pairs.clean != pairs.corrupted).any(0).int()
    return min(int(differ.argmax()), int(pairs.position.min())), int(pairs.position.max()) + 1


def ends_of(transformer: Transformer, pairs: Pairs, direction: str, ablation: Ablation) -> tuple[Run, Run, Run, Run]:
    """The clean run and what takes its place, then the run that is patched and the one that its patches come from.

    Raises:
        BadOption: there is no such direction, or clean values would go into no prompt's run.
    """
    if direction not in DIRECTIONS:
        raise BadOption(f"the direction must be one of {', '.join(DIRECTIONS)}, found {direction!r}.")
    if direction == "denoising" and ablation is not resample:
        raise BadOption("denoising puts clean values into the corrupted prompt's run: ablations are for noising.")
    clean, other = transformer.run(transformer.embed(pairs.clean)), ablation(transformer, pairs)
    return (clean, other, clean, other) if direction == "noising" else (clean, other, other, clean)


Ends = Iterator[Float[Tensor, "place pair last d_model"]]


@dataclass(frozen=True, eq=False)
class _Sweep:
    """base, donor: what is patched, and where patches come from, at the positions that may differ.

    size: how many places go on at once. tail: how many last positions are read at the end.
    """

    transformer: Transformer
    base: Run
    donor: Run
    size: int
    tail: int

    def beside(self, at: int, added: Float[Tensor, "place pair pos d_model"]) -> Tensor:
        """The ends when a layer's attention adds so much more."""
        return self.transformer.go_on_beside(self.base, at, added, tail=self.tail)

    def on(self, at: int, streams: Float[Tensor, "place pair pos d_model"]) -> Tensor:
        """The ends of these streams, from before a layer on."""
        how = {"keep": False, "past": self.base, "tail": self.tail}
        return self.transformer.go_on(streams.flatten(0, 1), at, **how).after.unflatten(0, streams.shape[:2])

    def one_position(self, change: Float[Tensor, "pair pos d_model"]) -> Ends:
        """A change at each position alone, some positions at a time."""
        positions = torch.arange(change.shape[1], device=change.device)
        for here in positions.split(self.size):
            yield change * (positions == here[:, None])[:, None, :, None]


def _over_heads(sweep: _Sweep, at: int) -> Ends:
    layer, base = sweep.transformer.layers[at], sweep.base
    change = sweep.donor.mixed[at] - base.mixed[at]
    for first in range(0, sweep.transformer.heads, sweep.size):
        heads = slice(first, first + sweep.size)
        added = torch.einsum("bhpe,hed->hbpd", change[:, heads], layer.W_O[heads])
        if layer.post_norm is not None:
            added = layer.post_norm(base.attention[at] + added) - layer.post_norm(base.attention[at])
        yield sweep.beside(at, added)


def _over_attention(sweep: _Sweep, at: int) -> Ends:
    norm = sweep.transformer.layers[at].post_norm
    change = normalise(norm, sweep.donor.attention[at]) - normalise(norm, sweep.base.attention[at])
    for added in sweep.one_position(change):
        yield sweep.beside(at, added)


def _over_mlps(sweep: _Sweep, at: int) -> Ends:
    base = sweep.base
    end = base.before[at + 1] if at + 1 < len(base.before) else base.after
    for added in sweep.one_position(sweep.donor.mlp[at] - base.mlp[at]):
        yield sweep.on(at + 1, end + added)


def _over_residual(sweep: _Sweep, at: int) -> Ends:
    for added in sweep.one_position(sweep.donor.before[at] - sweep.base.before[at]):
        yield sweep.on(at, sweep.base.before[at] + added)


OVER: dict[str, Callable[[_Sweep, int], Ends]] = {
    "heads": _over_heads,
    "mlps": _over_mlps,
    "resid": _over_residual,
    "attention": _over_attention,
}
