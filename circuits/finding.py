"""The front door of component circuits: a model and pairs of prompts in, the edges that carry the answer out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuits.attributing import versions
from circuits.attribution import EDGE_METHODS
from circuits.circuit_runs import run_circuit
from circuits.component_graphs import graph_of_circuit
from circuits.components import Components, strongest
from circuits.edge_scores import components_of, loss_of, read_logits
from circuits.errors import BadOption
from circuits.metrics import METRICS
from circuits.model import Model
from circuits.numbers import is_whole
from circuits.pairs import Pairs
from circuits.transformer import Transformer, check_faithful, transformer_of
from graphs.graph import AttributionGraph

Progress = Callable[[str, int, int], None]
BEGIN = ("corrupted", "clean")
NUMBERS = 2**26  # in the inputs of a circuit's heads, laid out at once


@dataclass(frozen=True, eq=False)
class Found:
    """A circuit, and what it was chosen from.

    scores: of every edge, the mean over the pairs. Positive: without the edge the metric falls. chosen: the circuit.
    clean, corrupted, kept: the mean metric of the clean run, of the corrupted one, and of the clean prompt when all
    edges but the circuit's carry the corrupted one.
    """

    graph: AttributionGraph
    components: Components
    scores: Float[np.ndarray, "source reader"]
    chosen: Bool[np.ndarray, "source reader"]
    clean: float
    corrupted: float
    kept: float

    @property
    def faithfulness(self) -> float:
        """The share of the difference between the prompts that the circuit keeps; nan where they do not differ."""
        apart = self.clean - self.corrupted
        return (self.kept - self.corrupted) / apart if apart else float("nan")


def find(
    model: Model,
    pairs: Sequence[Pairs],
    *,
    method: str = "eap-ig",
    metric: str = "logit-difference",
    edges: int = 200,
    signed: bool = False,
    batch: int = 32,
    progress: Progress = lambda name, done, total: None,
    **options: Any,
) -> Found:
    """The circuit of the `edges` strongest edges, without those that lie on no path from the tokens to the logits.

    method: one of `circuits.attribution.EDGE_METHODS`. metric: one of `circuits.metrics.METRICS`. signed: strongest by
    value, not by size. batch: pairs at a time. options: the method's own: steps and begin of "eap-ig" and
    "eap-ig-activations", seed of "random".

    Raises:
        BadOption: an option makes no sense, or the metric is no number.
        UnfaithfulModel: the model has a part that is not known here.
    """
    _check(method, metric, edges, batch, options)
    transformer = transformer_of(model)
    check_faithful(transformer, model, pairs[0].clean[:1])
    components = components_of(transformer)
    total, done = sum(len(each) for each in pairs), 0
    scores = torch.zeros(components.edges.shape, dtype=torch.float64, device=model.device)
    for part in _batches(pairs, batch):
        scores += EDGE_METHODS[method](transformer, part, METRICS[metric], **options)
        done += len(part)
        progress("scoring edges", done, total)
    mean = (scores / total).cpu().numpy()
    chosen = strongest(components, mean, edges, signed=signed)
    ends = measure(transformer, pairs, chosen, metric=metric, batch=batch, progress=progress)
    made = {
        "model": model.name,
        "model_hash": model.content_hash,
        "transcoders": "",
        "method": method,
        "options": {"metric": metric, "edges": edges, "signed": signed, **options},
        "conservation": None,
        "pairs": total,
        "metric": dict(zip(("clean", "corrupted", "circuit"), ends, strict=True)),
        "versions": versions(),
    }
    graph = graph_of_circuit(model, components, mean, chosen, pairs[0], made)
    return Found(graph, components, mean, chosen, *ends)


@torch.no_grad()
def measure(
    transformer: Transformer,
    pairs: Sequence[Pairs],
    chosen: Bool[np.ndarray, "source reader"],
    *,
    metric: str = "logit-difference",
    batch: int = 32,
    progress: Progress = lambda name, done, total: None,
) -> tuple[float, float, float]:
    """The mean metric of the clean run, the corrupted one, and the clean one with all but the circuit corrupted."""
    total, done, sums = sum(len(each) for each in pairs), 0, np.zeros(3)
    cut = torch.from_numpy(~chosen).to(transformer.W_U)
    width = transformer.W_E.shape[1]
    for part in _batches(pairs, batch):
        room = max(1, NUMBERS // (transformer.heads * part.clean.shape[1] * width * (len(transformer.layers) + 4)))
        for few in part.split(room):
            embedding = transformer.embed(few.clean)
            clean, corrupted = transformer.run(embedding), transformer.run(transformer.embed(few.corrupted))
            wanted = read_logits(transformer, clean.after, few)

            def gain(after: Tensor, few: Pairs = few, wanted: Tensor = wanted) -> float:
                logits = read_logits(transformer, after, few)
                return float(-loss_of(transformer, logits, few, METRICS[metric], wanted).double().sum())

            circuit = run_circuit(transformer, embedding, corrupted, cut)
            sums += [gain(clean.after), gain(corrupted.after), gain(circuit)]
        done += len(part)
        progress("measuring the circuit", done, total)
    clean_mean, corrupted_mean, kept = (sums / total).tolist()
    return clean_mean, corrupted_mean, kept


def _batches(pairs: Sequence[Pairs], size: int) -> Iterator[Pairs]:
    for each in pairs:
        yield from each.split(size)


def _check(method: str, metric: str, edges: int, batch: int, options: dict[str, Any]) -> None:
    if method not in tuple(EDGE_METHODS):
        raise BadOption(f"method must be one of {', '.join(EDGE_METHODS)}, found {method!r}.")
    if metric not in tuple(METRICS):
        raise BadOption(f"metric must be one of {', '.join(METRICS)}, found {metric!r}.")
    whole = {"edges": edges, "batch": batch, "steps": options.get("steps", 1)}
    for name, number in whole.items():
        if not is_whole(number) or number < 1:
            raise BadOption(f"{name} must be a whole number of at least 1, found {number!r}.")
    if options.get("begin", BEGIN[0]) not in BEGIN:
        raise BadOption(f"steps begin at one of {', '.join(BEGIN)}, found {options['begin']!r}.")
    taken = list(inspect.signature(EDGE_METHODS[method]).parameters)[3:]
    strange = [name for name in options if name not in taken]
    if strange:
        others = f"its options are {', '.join(taken)}" if taken else "it has no options"
        raise BadOption(f"{method} takes no {strange[0]}: {others}.")
