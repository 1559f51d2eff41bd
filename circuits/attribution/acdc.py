"""ACDC: edges taken out one after another, from the logits back to the tokens, wherever the answer stays what it was.

    out of the circuit for good if  loss(circuit without the edge) - loss(circuit) < threshold

Readers are passed from the last to the first, and for each its sources from the last to the first. An edge into a
component that no longer leads anywhere goes without a run. The circuit is the one that a run for every edge would
give, got sooner: what comes before the reader in turn is whole, so it is taken from the clean run; and candidates are
tried several at a time, each as if those before it were out. That holds up to the first that stays in; what was run
beyond it is thrown away, and fewer are tried at once. Where the search stands is known after every reader, so that an
interrupted one goes on from there to the same circuit.

Source: Conmy et al. 2023, "Towards Automated Circuit Discovery"; METHODS section 8.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.components.ablations import Ablation, resample
from circuits.components.batching import Room, divide
from circuits.components.circuit_runs import run_variants
from circuits.components.components import Components
from circuits.components.edge_scores import components_of, loss_of, read_logits
from circuits.components.metrics import Metric
from circuits.components.pairs import Pairs
from circuits.components.transformer import Run, Transformer
from circuits.progress import Count


@dataclass(frozen=True, eq=False)
class PrunedEdges:
    """What is left. rise: what taking an edge out added to the mean loss when its turn came; 0 where it needed no run.

    tried: how many circuits were run.
    """

    chosen: Bool[np.ndarray, "source reader"]
    rise: Float[np.ndarray, "source reader"]
    tried: int


@dataclass(frozen=True, eq=False)
class Standing:
    """How far the search is. readers: how many are done, from the last. now: the mean loss of the circuit so far.

    cut: what is out; rise, tried: see `PrunedEdges`. speed: how many candidates are tried next.
    """

    readers: int
    cut: Bool[np.ndarray, "source reader"]
    rise: Float[np.ndarray, "source reader"]
    now: float
    tried: int
    speed: int


@torch.no_grad()
def take_edges_out(
    transformer: Transformer,
    pairs: Sequence[Pairs],
    metric: Metric,
    *,
    threshold: float = 0.01,
    ablation: Ablation = resample,
    at_once: int | None = None,
    memory: float | None = None,
    begin: Standing | None = None,
    keep: Callable[[Standing], None] = lambda standing: None,
    progress: Count = lambda done, total: None,
) -> PrunedEdges:
    """The circuit that ACDC leaves, on all the pairs.

    threshold: in units of the metric; larger ones leave fewer edges. at_once: candidates tried together at most.
    memory: bytes that it may take beside the model's weights. begin: where an earlier search stood, to go on from;
    keep: is called with where this one stands after every reader.

    Raises:
        BadOption: there is not memory enough for one pair, or the metric is no number.
    """
    components = components_of(transformer)
    trial = _Trial(transformer, pairs, metric, ablation, divide(transformer, pairs, memory))
    edges = torch.from_numpy(components.edges).to(transformer.W_U.device)
    if begin is None:
        begin = Standing(0, np.zeros(edges.shape, dtype=bool), np.zeros(edges.shape), trial.begin(), 0, 2)
    cut, rise = torch.from_numpy(begin.cut).to(edges.device, copy=True), begin.rise.copy()
    now, tried, speed = begin.now, begin.tried, begin.speed
    for reader in reversed(range(len(components.readers) - begin.readers)):
        sources = torch.nonzero(edges[:, reader])[:, 0].flip(0)
        if not _leads_on(components, edges & ~cut, reader):
            cut[sources, reader] = True
            sources = sources[:0]
        while len(sources):
            few = sources[: min(speed, at_once or trial.room)]
            columns = cut[:, reader, None].repeat(1, len(few))
            columns[few] |= torch.ones(len(few), len(few), dtype=torch.bool, device=cut.device).triu()
            losses = trial.losses(cut, reader, columns).tolist()
            tried += len(few)
            done, stays = 0, False
            for source, loss in zip(few.tolist(), losses, strict=True):
                done, rise[source, reader] = done + 1, loss - now
                stays = not loss - now < threshold
                if stays:
                    break
                cut[source, reader], now = True, loss
            speed = max(1, done) if stays else 2 * speed
            sources = sources[done:]
        done = len(components.readers) - reader
        if reader:
            keep(Standing(done, cut.cpu().numpy(), rise, now, tried, speed))
        progress(done, len(components.readers))
    return PrunedEdges((edges & ~cut).cpu().numpy(), rise, tried)


def _leads_on(components: Components, edges: Bool[Tensor, "source reader"], reader: int) -> bool:
    """Whether what a component writes is still read by anything; the logits are the end."""
    own = int(components.component[reader])
    return own == len(components.sources) or bool(edges[own].any())


class _Trial:
    """The pairs, and their runs, which are kept while edges are tried if there is room."""

    def __init__(
        self, transformer: Transformer, pairs: Sequence[Pairs], metric: Metric, ablation: Ablation, room: Room
    ) -> None:
        self._transformer, self._metric, self._ablation = transformer, metric, ablation
        self._pairs = [few for each in pairs for few in each.split(room.batch)]
        self._total = sum(len(each) for each in pairs)
        self._kept = [self._run(each) for each in self._pairs] if room.keeps else None
        self.room = room.candidates

    def begin(self) -> float:
        """The mean loss of the whole model."""
        losses = (self._loss(clean.after, few, wanted) for few, clean, _, wanted in self._runs())
        return float(sum(losses)) / self._total

    def losses(
        self, cut: Bool[Tensor, "source reader"], reader: int, columns: Bool[Tensor, "source variant"]
    ) -> Float[Tensor, "variant"]:
        """The mean loss of each circuit."""
        like = self._transformer.W_U
        found = torch.zeros(columns.shape[1], dtype=torch.float64, device=like.device)
        for pairs, clean, other, wanted in self._runs():
            ends = run_variants(self._transformer, clean, other, cut.to(like), reader, columns.to(like))
            found += torch.stack([self._loss(after, pairs, wanted) for after in ends])
        return found / self._total

    def _runs(self) -> Iterable[tuple[Pairs, Run, Run, Tensor]]:
        return (self._run(each) for each in self._pairs) if self._kept is None else self._kept

    def _run(self, pairs: Pairs) -> tuple[Pairs, Run, Run, Tensor]:
        """Clean and ablated run, and the clean logits."""
        clean = self._transformer.run(self._transformer.embed(pairs.clean))
        other = self._ablation(self._transformer, pairs)
        return pairs, clean, other, read_logits(self._transformer, clean.after, pairs)

    def _loss(self, after: Float[Tensor, "pair pos d_model"], pairs: Pairs, wanted: Tensor) -> Tensor:
        logits = read_logits(self._transformer, after, pairs)
        return loss_of(self._transformer, logits, pairs, self._metric, wanted).double().sum()
