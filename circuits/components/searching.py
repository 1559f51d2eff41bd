"""What searches for circuits of components share: scores over all pairs, the measure of a circuit, its provenance."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.attributing import versions
from circuits.components.ablations import ABLATIONS, Ablation
from circuits.components.batching import fit_batch
from circuits.components.components import Components
from circuits.components.edge_scores import loss_of, read_logits
from circuits.components.kept_scores import KeptScores
from circuits.components.metrics import METRICS, Metric
from circuits.components.opening import check_faithful, transformer_of
from circuits.components.pairs import Pairs
from circuits.components.parts import Parts
from circuits.components.transformer import Run, Transformer
from circuits.errors import BadOption
from circuits.model import Model
from circuits.numbers import is_number, is_whole
from circuits.progress import Progress
from graphs.graph import AttributionGraph

Carry = Callable[[Tensor, Run], Tensor]  # clean embeddings, and the run that takes the place of all else -> stream
BATCH = 32
BEGIN = ("corrupted", "clean")


@dataclass(frozen=True, eq=False)
class Found:
    """A circuit, and what it was chosen from: edges between components, or whole nodes.

    over: what was scored. scores: of each edge [source reader] or part [node], or each at a position [… position]: the
    mean over the pairs. Positive: without it the metric falls. chosen: the circuit; of nodes the tokens are in it.
    clean, corrupted, kept: the mean metric of the clean run, of the corrupted one (or what else takes its place), and
    of the clean prompt when all but the circuit is corrupted.
    """

    graph: AttributionGraph
    over: Components | Parts
    scores: Float[np.ndarray, "node *more"]
    chosen: Bool[np.ndarray, "node *more"]
    clean: float
    corrupted: float
    kept: float

    @property
    def faithfulness(self) -> float:
        """The share of the difference between the prompts that the circuit keeps; nan where they do not differ."""
        return share_kept(self.clean, self.corrupted, self.kept)


@dataclass(frozen=True, eq=False)
class Search:
    """A model laid open, the pairs, and what is asked of a circuit on them.

    metric: the function; metric_name: None where it is the user's own. ablate: what takes the place of components.
    batch: pairs at a time.
    """

    model: Model
    transformer: Transformer
    pairs: Sequence[Pairs]
    metric: Metric
    metric_name: str | None
    ablation: str
    ablate: Ablation
    batch: int
    progress: Progress

    @property
    def total(self) -> int:
        """How many pairs there are."""
        return sum(len(each) for each in self.pairs)

    def batches(self, most: int | None = None) -> Iterator[Pairs]:
        """The pairs, at most so many at a time."""
        for each in self.pairs:
            yield from each.split(min(self.batch, most or self.batch))


def begin_search(
    model: Model,
    pairs: Sequence[Pairs],
    *,
    metric: str | Metric,
    ablation: str,
    batch: int | None,
    memory: float | None,
    progress: Progress,
    apart: bool = False,
    neurons: bool = False,
    laid_open: Callable[[Transformer, Iterable[Pairs]], Transformer] = lambda transformer, batches: transformer,
) -> Search:
    """Check what is asked, lay the model open, and prepare the ablation. apart, neurons: what is taken apart for it.

    laid_open: from the open model and the pairs to the one that is searched, its MLPs with features.

    Raises:
        BadOption: an option makes no sense.
        UnsupportedModel, UnfaithfulModel: the model has a part that is not known here.
    """
    if not callable(metric):
        check_choice("metric", metric, METRICS)
    check_choice("ablation", ablation, ABLATIONS)
    if batch is not None:
        check_count("batch", batch)
    if memory is not None and (not is_number(memory) or not memory > 0):
        raise BadOption(f"memory must be a number of bytes above 0, found {memory!r}.")
    function = metric if callable(metric) else METRICS[metric]
    transformer = transformer_of(model)
    check_faithful(transformer, model, pairs[0].clean[:1])

    def fitting() -> int:
        if batch is not None or memory is None:
            return batch or BATCH
        return fit_batch(transformer, pairs, function, memory, neurons=neurons)

    size = fitting()
    transformer = laid_open(transformer, (few for each in pairs for few in each.split(size)))
    return Search(
        model=model,
        transformer=transformer,
        pairs=pairs,
        metric=function,
        metric_name=None if callable(metric) else metric,
        ablation=ablation,
        ablate=ABLATIONS[ablation](transformer, pairs, progress, apart=apart, neurons=neurons),
        batch=fitting(),
        progress=progress,
    )


def score_pairs(
    search: Search,
    method: str,
    score: Callable[..., Tensor],
    options: Mapping[str, Any],
    *given: Any,
    unfinished: Path | None = None,
    doing: str = "scoring",
    **settings: Any,
) -> Float[np.ndarray, "..."]:
    """The mean over all pairs of what a method gives for each batch; in float64.

    given, settings: what else the method is called with. unfinished: the folder where the sum so far is kept; it is
    gone when all is done. A metric of the user's own has no name, so that nothing is kept. doing: for the progress.

    Raises:
        BadOption: the method takes no such option, or the metric is no number.
    """
    _check_options(method, score, options, skipped=3 + len(given), settings=settings)
    options = options_of(score, options, settings)
    taken = inspect.signature(score).parameters
    more = {"ablation": search.ablate} if "ablation" in taken else {}
    asked = {"batch": search.batch, "options": options, "given": [repr(each) for each in given], "settings": settings}
    kept = kept_of(search, method, asked, unfinished)
    finished, (scores,) = kept.read("scores") or (0, (np.zeros(()),))
    done = 0
    for part in search.batches():
        done += len(part)
        if done <= finished:
            continue
        found = score(search.transformer, part, search.metric, *given, **settings, **more, **options)
        scores = scores + found.double().cpu().numpy()
        if done < search.total:
            kept.keep(done, scores=scores)
        search.progress(doing, done, search.total)
    kept.forget()
    return scores / search.total


def kept_of(search: Search, method: str, asked: Mapping[str, Any], unfinished: Path | None) -> KeptScores:
    """Where a method keeps what it knows so far. asked: all that this depends on beside what the search says."""
    question = {
        "model": search.model.content_hash,
        "dtype": str(search.model.dtype),
        "method": method,
        "metric": search.metric_name,
        "ablation": search.ablation,
        **asked,
    }
    return KeptScores(None if search.metric_name is None else unfinished, question, search.pairs)


def options_of(
    score: Callable[..., Tensor], options: Mapping[str, Any], settings: Collection[str] = ()
) -> dict[str, Any]:
    """A method's options as they are given, and by default those that are not."""
    taken = inspect.signature(score).parameters.values()
    ours = {"ablation", *settings}
    usual = {each.name: each.default for each in taken if each.kind is each.KEYWORD_ONLY and each.name not in ours}
    return usual | dict(options)


@torch.no_grad()
def measure(search: Search, carry: Carry, *, at_once: int | None = None) -> tuple[float, float, float]:
    """The mean metric of the clean run, of the one where all is ablated, and of the run that a circuit carries.

    at_once: how many pairs the circuit's run may take at most.
    """
    sums = np.zeros(3)
    done = 0
    for few in search.batches(at_once):
        embedding = search.transformer.embed(few.clean)
        clean = search.transformer.run(embedding)
        other = search.ablate(search.transformer, few, neurons=True)
        wanted = read_logits(search.transformer, clean.after, few)
        for at, after in enumerate((clean.after, other.after, carry(embedding, other))):
            logits = read_logits(search.transformer, after, few)
            sums[at] -= float(loss_of(search.transformer, logits, few, search.metric, wanted).double().sum())
        done += len(few)
        search.progress("measuring the circuit", done, search.total)
    clean_mean, ablated, kept = (sums / search.total).tolist()
    return clean_mean, ablated, kept


def provenance_of(search: Search, method: str, options: Mapping[str, Any], ends: Sequence[float]) -> dict[str, Any]:
    """How a circuit was found, for its graph. ends: what `measure` gave."""
    name = search.metric_name or getattr(search.metric, "__name__", "the user's own")
    return {
        "model": search.model.name,
        "model_hash": search.model.content_hash,
        "transcoders": "",
        "method": method,
        "options": {"metric": name, "ablation": search.ablation, **options},
        "conservation": None,
        "pairs": search.total,
        "metric": dict(zip(("clean", "corrupted", "circuit"), ends, strict=True)),
        "versions": versions(),
    }


def share_kept(clean: float, corrupted: float, kept: float) -> float:
    """The share of the difference between the prompts that a circuit keeps; nan where they do not differ."""
    return (kept - corrupted) / (clean - corrupted) if clean != corrupted else float("nan")


def check_choice(what: str, found: Any, known: Collection[str]) -> None:
    """Raises BadOption unless it is one of those known."""
    if not isinstance(found, str) or found not in tuple(known):
        raise BadOption(f"{what} must be one of {', '.join(known)}, found {found!r}.")


def check_alike(pairs: Sequence[Pairs]) -> None:
    """Raises BadOption unless all prompts are equally long, so that positions are the same in all."""
    if len(pairs) > 1:
        lengths = ", ".join(str(each.clean.shape[1]) for each in pairs)
        raise BadOption(f"positions are kept apart only where all prompts are equally long; found {lengths} tokens.")


def check_count(what: str, found: Any) -> None:
    """Raises BadOption unless it is a whole number above 0."""
    if not is_whole(found) or found < 1:
        raise BadOption(f"{what} must be a whole number of at least 1, found {found!r}.")


def _check_options(
    method: str, score: Callable[..., Tensor], options: Mapping[str, Any], *, skipped: int, settings: Mapping[str, Any]
) -> None:
    ours = {"ablation", *settings}
    taken = [name for name in list(inspect.signature(score).parameters)[skipped:] if name not in ours]
    strange = [name for name in options if name not in taken]
    if strange:
        others = f"its options are {', '.join(taken)}" if taken else "it has no options"
        raise BadOption(f"{method} takes no {strange[0]}: {others}.")
    if "steps" in options:
        check_count("steps", options["steps"])
    if options.get("begin", BEGIN[0]) not in BEGIN:
        raise BadOption(f"steps begin at one of {', '.join(BEGIN)}, found {options['begin']!r}.")
