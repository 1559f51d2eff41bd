"""Activation patching: a value of one prompt's run put in the place of the other's, one place at a time.

    noising     clean run, corrupted values: what the answer needs
    denoising   corrupted run, clean values: what is enough to bring it back

The two differ where one of several would do, or several are needed at once. What lies before a place is run once; from
there the model goes on once for each place, those of a layer side by side.

Source: Vig et al. 2020; Meng et al. 2022; METHODS section 8.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuits.component_ablations import Ablation, resample
from circuits.edge_scores import loss_of, read_logits
from circuits.errors import BadOption
from circuits.metrics import Metric, logit_difference
from circuits.pairs import Pairs
from circuits.transformer import Run, Transformer, normalise

Progress = Callable[[int, int], None]
DIRECTIONS = ("denoising", "noising")
ROWS = 2**14  # positions of all pairs and places that go on at once


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
    ablation: noising, what is put in the place of the clean values; see `circuits.component_ablations`.

    Raises:
        BadOption: no such kind or direction, the metric is no number, or clean values would go into no prompt's run.
    """
    if over not in tuple(OVER):
        raise BadOption(f"what to patch must be one of {', '.join(OVER)}, found {over!r}.")
    clean, corrupted, base, donor = ends_of(transformer, pairs, direction, ablation)
    wanted = read_logits(transformer, clean.after, pairs)

    def measure(after: Float[Tensor, "pair pos d_model"]) -> float:
        logits = read_logits(transformer, after, pairs)
        return float(-loss_of(transformer, logits, pairs, metric, wanted).double().mean())

    ends = measure(clean.after), measure(corrupted.after)
    before = ends[0] if direction == "noising" else ends[1]
    size = max(1, ROWS // pairs.clean.numel())
    rows = []
    for layer in range(len(transformer.layers)):
        after = (each for chunk in OVER[over](transformer, base, donor, layer, size) for each in chunk)
        rows.append([measure(each) - before for each in after])
        progress(layer + 1, len(transformer.layers))
    effect = np.array(rows)
    apart = (ends[0] - ends[1]) * (-1 if direction == "noising" else 1)
    share = effect / apart if apart else np.full_like(effect, np.nan)
    return Patched(effect, share, over, direction, *ends)


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


Ends = Iterator[Float[Tensor, "place pair pos d_model"]]


def _over_heads(transformer: Transformer, base: Run, donor: Run, at: int, size: int) -> Ends:
    layer = transformer.layers[at]
    change = donor.mixed[at] - base.mixed[at]
    for first in range(0, transformer.heads, size):
        heads = slice(first, first + size)
        added = torch.einsum("bhpe,hed->hbpd", change[:, heads], layer.W_O[heads])
        if layer.post_norm is not None:
            added = layer.post_norm(base.attention[at] + added) - layer.post_norm(base.attention[at])
        yield transformer.go_on_beside(base, at, added)


def _over_attention(transformer: Transformer, base: Run, donor: Run, at: int, size: int) -> Ends:
    norm = transformer.layers[at].post_norm
    change = normalise(norm, donor.attention[at]) - normalise(norm, base.attention[at])
    for added in _one_position(change, size):
        yield transformer.go_on_beside(base, at, added)


def _over_mlps(transformer: Transformer, base: Run, donor: Run, at: int, size: int) -> Ends:
    end = base.before[at + 1] if at + 1 < len(transformer.layers) else base.after
    for added in _one_position(donor.mlp[at] - base.mlp[at], size):
        yield _go_on(transformer, end + added, at + 1)


def _over_residual(transformer: Transformer, base: Run, donor: Run, at: int, size: int) -> Ends:
    for added in _one_position(donor.before[at] - base.before[at], size):
        yield _go_on(transformer, base.before[at] + added, at)


def _one_position(change: Float[Tensor, "pair pos d_model"], size: int) -> Ends:
    """The change at each position alone, some positions at a time."""
    positions = torch.arange(change.shape[1], device=change.device)
    for here in positions.split(size):
        yield change * (positions == here[:, None])[:, None, :, None]


def _go_on(transformer: Transformer, streams: Float[Tensor, "place pair pos d_model"], layer: int) -> Tensor:
    return transformer.go_on(streams.flatten(0, 1), layer, keep=False).after.unflatten(0, streams.shape[:2])


OVER: dict[str, Callable[[Transformer, Run, Run, int, int], Ends]] = {
    "heads": _over_heads,
    "mlps": _over_mlps,
    "resid": _over_residual,
    "attention": _over_attention,
}
