"""What is measured: the value that the graph explains, and what of it a circuit must keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.assaying import thresholds
from circuits.attribution.direct import UNITS
from circuits.model import Model
from circuits.sites import Site
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary
from circuits.transcoders.lorsa import Lorsa
from circuits.transcoders.with_attention import attention_of
from graphs.graph import AttributionGraph
from graphs.wording import name_node

Measure = Callable[[Float[Tensor, "*run pos width"]], Float[Tensor, "*run"]]


@dataclass(frozen=True, eq=False)
class Metric:
    """What is read of a run at one site of the model, and how that is turned into one number, in three ways.

    rows: the nodes of the goal that are measured.
    explained: what the graph explains: a logit less the mean of all, or less that of another token for a contrast; over
        a span its mean; a feature's value.
    kept: what must survive in the whole graph's test: by how much the token leads every other in the same run, so that
        an answer that is overtaken is lost, whatever overtakes it; of a contrast and a feature the same as `explained`.
    moved: how far a run is from the clean one: KL(clean || run) of what the model would say, in nats; of a feature the
        size of the change. moved_by: the name of that.
    worth: the clean value of what is explained, by target: zero for what is not measured. [node]
    clean, clean_kept: `explained` and `kept` of the clean run.
    smallest: what `kept` must move by for shares of it to mean anything. unit: what it counts in.
    words: all this for a reader, with how many targets the graph has: only the foremost is tested.
    """

    rows: Int[np.ndarray, "target"]
    site: Site
    explained: Measure
    kept: Measure
    moved: Measure
    moved_by: str
    worth: Float[np.ndarray, "node"]
    clean: float
    clean_kept: float
    smallest: float
    unit: str
    words: str


def find_foremost(graph: AttributionGraph) -> tuple[Int[np.ndarray, "target"], int]:
    """The rows of what an assay of this graph measures, and of how many targets it is the foremost.

    A token, a contrast or a feature is one row; the prompt's own tokens of a span are one target together. Without any
    of these there is nothing that can be measured.
    """
    nodes, in_goal = graph.nodes, graph.goal > 0
    is_logit, is_unit = nodes.kind == "logit", np.isin(nodes.kind, UNITS)
    in_span = in_goal & is_logit & (nodes.position < len(graph.tokens) - 1)
    span = np.flatnonzero(in_span)
    single = np.flatnonzero(in_goal & (is_logit | is_unit) & ~in_span)
    count = int((in_goal & ~in_span).sum()) + bool(len(span))
    if len(single) and graph.goal[single].max() >= graph.goal[span].sum():
        return single[[graph.goal[single].argmax()]], count
    return span, count


def why_untestable(graph: AttributionGraph) -> str:
    """Why nothing of what a graph explains can be measured, empty when it can."""
    if len(find_foremost(graph)[0]):
        return ""
    named = name_node(graph, int(graph.goal.argmax()))
    return f"tokens and features are measured, this graph explains {named}"


def choose_metric(model: Model, transcoders: Dictionary, graph: AttributionGraph, run: Trace) -> Metric:
    """The metric for a graph's foremost target, which must be one that can be measured; run: its own prompt's."""
    rows, count = find_foremost(graph)
    which = "" if count == 1 else f" (the foremost of {count} targets; the others are not tested)"
    if graph.nodes.kind[rows[0]] == "logit":
        return _measure_logits(model, graph, run, rows, which)
    return _measure_unit(transcoders, graph, run, int(rows[0]), which)


def _measure_logits(
    model: Model, graph: AttributionGraph, run: Trace, rows: Int[np.ndarray, "target"], which: str
) -> Metric:
    nodes, all_logits = graph.nodes, graph.nodes.where("logit")
    against = graph.provenance.get("against", [-1] * len(all_logits))
    wrong = torch.tensor([int(against[each]) for each in np.searchsorted(all_logits, rows)])
    at, right = (torch.from_numpy(column[rows].astype(np.int64)) for column in (nodes.position, nodes.feature))
    share = torch.from_numpy(graph.goal[rows] / graph.goal[rows].sum()).to(run.logits)
    said = model.probabilities(run.logits[at].double())
    each = torch.arange(len(at))

    def read(logits: Tensor) -> Float[Tensor, "*run target"]:
        here = logits[..., at, :]
        less = torch.where((wrong < 0).to(here.device), here.mean(-1), here[..., each, wrong])
        return here[..., each, right] - less

    def keep(logits: Tensor) -> Float[Tensor, "*run"]:
        here = logits[..., at, :]
        others = here.clone()
        others[..., each, right] = -torch.inf
        foil = torch.where((wrong >= 0).to(here.device), here[..., each, wrong], others.amax(-1))
        return (here[..., each, right] - foil) @ share

    def diverge(logits: Tensor) -> Float[Tensor, "*run"]:
        other = model.probabilities(logits[..., at, :].double())
        tiny = torch.finfo(torch.float64).tiny
        kl = (said * (said.clamp_min(tiny).log() - other.clamp_min(tiny).log())).sum(-1).clamp_min(0)
        return kl @ share.double()

    worth = np.zeros(len(nodes))
    worth[rows] = (read(run.logits) * share).double().cpu().numpy()
    return Metric(
        rows=rows,
        site=("logits", 0),
        explained=lambda logits: read(logits) @ share,
        kept=keep,
        moved=diverge,
        moved_by="KL",
        worth=worth,
        clean=float(read(run.logits) @ share),
        clean_kept=float(keep(run.logits)),
        smallest=thresholds.SMALLEST,
        unit=" logits",
        words=_logits_in_words(model, run, at.tolist(), right.tolist(), wrong.tolist(), which),
    )


def _logits_in_words(model: Model, run: Trace, at: list[int], right: list[int], wrong: list[int], which: str) -> str:
    if at[0] < len(run.tokens) - 1:
        explained = f"mean logit of the prompt's own {len(at)} tokens after positions {at[0]} to {at[-1]}, each less "
        return (
            f"explained: {explained}the mean of all{which}; kept or lost: each less that of the run's likeliest other"
        )
    name, other = (text.strip() for text in model.texts([right[0], max(wrong[0], 0)]))
    if wrong[0] >= 0:
        return f"explained, kept or lost: logit of {name!r} less that of {other!r}{which}"
    explained = f"explained: logit of {name!r} less the mean of all{which}"
    return f"{explained}; kept or lost: logit of {name!r} less that of the run's likeliest other"


def _measure_unit(transcoders: Dictionary, graph: AttributionGraph, run: Trace, row: int, which: str) -> Metric:
    nodes = graph.nodes
    layer, position = int(nodes.layer[row]), int(nodes.position[row])
    unit = torch.tensor([int(nodes.feature[row])], device=run.tokens.device)
    attention = attention_of(transcoders) if nodes.kind[row] == "attention" else None

    def read(inputs: Tensor) -> Float[Tensor, "*run"]:
        if attention is not None:
            vectors, constant = attention.reading(layer, unit)
            if not isinstance(attention, Lorsa):
                return inputs[..., position, :] @ vectors[0] + constant[0]
            pattern = attention.patterns(layer, inputs)[..., int(attention.head_of(unit)), position, :]
            return (pattern * (inputs @ vectors[0])).sum(-1) + constant[0]
        x = inputs[..., position, :]
        flat = x.reshape(-1, x.shape[-1])
        vectors, constant = transcoders.reading(layer, flat, unit.expand(len(flat)))
        return ((vectors * flat).sum(-1) + constant).reshape(x.shape[:-1])

    clean = float(read(run.inputs[layer] if attention is None else run.attended[layer].inputs))
    worth = np.zeros(len(nodes))
    worth[row] = clean
    return Metric(
        rows=np.array([row]),
        site=(transcoders.at(layer).reads if attention is None else attention.reads, layer),
        explained=read,
        kept=read,
        moved=lambda inputs: (read(inputs) - clean).abs().double(),
        moved_by="the size of the change",
        worth=worth,
        clean=clean,
        clean_kept=clean,
        smallest=thresholds.SMALLEST_SHARE * abs(clean),
        unit="",
        words=f"explained, kept or lost: the value of {name_node(graph, row)}{which}",
    )
