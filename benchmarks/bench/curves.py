"""Many circuits run on the same prompts: what each says of every one of them, and what is left without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from benchmarks.bench.levels import Mask
from benchmarks.bench.methods import BATCH
from circuits.components.ablations import Ablation
from circuits.components.edge_scores import loss_of, read_logits
from circuits.components.finding import NUMBERS
from circuits.components.metrics import METRICS, Metric
from circuits.components.pairs import Pairs
from circuits.components.searching import Carry
from circuits.components.transformer import Run, Transformer


@dataclass(frozen=True, eq=False)
class Ends:
    """The metric of each prompt in the whole model and where all is ablated; whether the model answers it rightly."""

    clean: Float[np.ndarray, "prompt"]
    ablated: Float[np.ndarray, "prompt"]
    right: Bool[np.ndarray, "prompt"]


@dataclass(frozen=True, eq=False)
class Runs:
    """The metric of each prompt under each circuit, and KL(clean || circuit) in nats."""

    metric: Float[np.ndarray, "circuit prompt"]
    divergence: Float[np.ndarray, "circuit prompt"]


@dataclass(frozen=True, eq=False)
class Course:
    """Some prompts in a model laid open, with what is measured and what takes the place of what is left out."""

    transformer: Transformer
    pairs: Sequence[Pairs]
    metric: Metric
    ablation: Ablation

    @property
    def prompts(self) -> int:
        """How many there are."""
        return sum(len(each) for each in self.pairs)


@torch.no_grad()
def run_ends(course: Course) -> Ends:
    """The two ends that all circuits lie between."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for few, _, other, wanted in _batches(course):
        ablated = read_logits(course.transformer, other.after, few)
        right = wanted.gather(-1, few.right[:, None]) > wanted.gather(-1, few.wrong[:, None])
        clean, none = (-loss_of(course.transformer, each, few, course.metric, wanted) for each in (wanted, ablated))
        found.append((clean, none, right[:, 0]))
    clean, ablated, right = (torch.cat(column).cpu() for column in zip(*found, strict=True))
    return Ends(clean.double().numpy(), ablated.double().numpy(), right.numpy())


@torch.no_grad()
def run_circuits(course: Course, circuits: Sequence[Mask], carry: Callable[[Mask], Carry]) -> Runs:
    """Every circuit on every prompt. Equal circuits are run once."""
    known = {each.tobytes(): at for at, each in reversed(list(enumerate(circuits)))}
    different = sorted(known.values())
    carries = [carry(circuits[at]) for at in different]
    metric, divergence = np.zeros((2, len(different), course.prompts))
    done = 0
    for few, embedding, other, wanted in _batches(course):
        here = slice(done, done + len(few))
        for at, run in enumerate(carries):
            logits = read_logits(course.transformer, run(embedding, other), few)
            for table, function in ((metric, course.metric), (divergence, METRICS["kl"])):
                table[at, here] = loss_of(course.transformer, logits, few, function, wanted).double().cpu()
        done += len(few)
    place = {at: row for row, at in enumerate(different)}
    order = [place[known[each.tobytes()]] for each in circuits]
    return Runs(-metric[order], divergence[order])


def _batches(course: Course) -> Iterator[tuple[Pairs, Tensor, Run, Tensor]]:
    """Some pairs, their clean embeddings, the run in place of all that is left out, and the clean run's logits."""
    transformer = course.transformer
    longest = max(each.clean.shape[1] for each in course.pairs)
    room = NUMBERS // (transformer.heads * longest * transformer.W_E.shape[1] * (len(transformer.layers) + 4))
    for each in course.pairs:
        for few in each.split(max(1, min(BATCH, room))):
            embedding = transformer.embed(few.clean)
            wanted = read_logits(transformer, transformer.run(embedding).after, few)
            yield few, embedding, course.ablation(transformer, few, neurons=True), wanted
