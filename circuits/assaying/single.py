"""Nodes tested one by one: each unit ablated alone in the real model, against what the graph says would happen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from circuits.assaying import thresholds
from circuits.assaying.metric import Metric
from circuits.attribution.direct import effects_on
from circuits.interventions import ATTENTION, Intervention, default_window, intervene
from circuits.model import Model
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary, written_within
from graphs.assays import Ablation
from graphs.flow import flow
from graphs.graph import AttributionGraph

AT_ONCE = 16  # ablations between two reports of progress


def test_singly(
    model: Model,
    transcoders: Dictionary,
    run: Trace,
    graph: AttributionGraph,
    metric: Metric,
    rows: Int[np.ndarray, "ablated"],
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Ablation]:
    """Ablate each of these unit nodes alone, attention live and frozen, beside the graph's prediction."""
    nodes = graph.nodes
    predicted = predict_ablations(transcoders, run, graph, metric, rows)
    alone = [[Intervention(int(nodes.layer[r]), int(nodes.position[r]), int(nodes.feature[r]))] for r in rows]
    change: dict[str, list[float]] = {mode: [] for mode in ATTENTION}
    divergence: dict[str, list[float]] = {mode: [] for mode in ATTENTION}
    done = 0
    for mode in ATTENTION:
        for start in range(0, len(alone), AT_ONCE):
            part = alone[start : start + AT_ONCE]
            logits = intervene(model, transcoders, run, part, attention=mode)[:, -1]
            change[mode] += (metric.explained(logits) - metric.clean).tolist()
            divergence[mode] += metric.divergence(logits).tolist()
            done += len(part)
            if progress is not None:
                progress("ablating nodes one by one", done, len(alone) * len(ATTENTION))
    return [
        Ablation(
            node=int(row),
            influence=float(nodes.influence[row]),
            predicted=float(predicted[i]),
            measured=change["live"][i],
            kl=divergence["live"][i],
            measured_frozen=change["frozen"][i],
            kl_frozen=divergence["frozen"][i],
        )
        for i, row in enumerate(rows)
    ]


def predict_ablations(
    transcoders: Dictionary,
    run: Trace,
    graph: AttributionGraph,
    metric: Metric,
    rows: Int[np.ndarray, "ablated"],
) -> Float[np.ndarray, "ablated"]:
    """What the graph says the target's logit changes by when each unit is ablated alone, in logits.

    Of the unit's direct effects those count that an intervention makes: writes within its window, on what reads above
    it; what reads inside the window is held. From there on every path of the graph counts.

    Source: METHODS section 7.1, predictor P0 for the registered window.
    """
    worth = np.zeros(len(graph.nodes))
    worth[metric.target] = metric.clean
    contribution = flow(graph, worth)
    window = default_window(transcoders)
    if window == 0:
        return -contribution[rows]
    value = np.nan_to_num(graph.nodes.value)
    per_unit = np.divide(contribution, value, out=np.zeros_like(value), where=value != 0)
    targets = graph.nodes.where("feature", "neuron", "logit")
    effects = effects_on(run, transcoders, graph, targets, rows, window=window)
    last = np.array([written_within(transcoders, int(layer), window)[-1] for layer in graph.nodes.layer[rows]])
    above = graph.nodes.layer[targets][:, None] > last[None, :]
    return -(per_unit[targets] @ np.where(above, effects, 0))


def summarise(ablations: Sequence[Ablation], clean: float, seed: int) -> dict[str, float]:
    """Figures over the ablations, each for live attention and, named `_frozen`, for attention held.

    spearman_kl: rank correlation of influence with the KL caused; p_spearman_kl: the share of shuffled orders that
    reach it. pearson, spearman, slope, fit: of measured on predicted change; fit is 1 - Σ(m - p)² / Σm².
    sign_agreement: among the ablations predicted to move the target by 5 % of itself; sizeable: how many those are.
    """
    column = {
        name: np.array([getattr(each, name) for each in ablations], dtype=np.float64)
        for name in ("influence", "predicted", "measured", "kl", "measured_frozen", "kl_frozen")
    }
    predicted = column["predicted"]
    found: dict[str, float] = {"count": float(len(ablations)), "clean": clean}
    sizeable = np.abs(predicted) >= thresholds.SIZEABLE * abs(clean)
    found["sizeable"] = float(sizeable.sum())
    for mode in ("", "_frozen"):
        measured, kl = column["measured" + mode], column["kl" + mode]
        ranks = _correlation(stats.spearmanr, column["influence"], kl)
        found["spearman_kl" + mode] = ranks
        found["p_spearman_kl" + mode] = _shuffled(column["influence"], kl, ranks, seed)
        found["pearson" + mode] = _correlation(stats.pearsonr, predicted, measured)
        found["spearman" + mode] = _correlation(stats.spearmanr, predicted, measured)
        found["slope" + mode] = _ratio(float(predicted @ measured), float(predicted @ predicted))
        found["fit" + mode] = 1 - _ratio(float(((measured - predicted) ** 2).sum()), float(measured @ measured))
        agree = np.sign(predicted[sizeable]) == np.sign(measured[sizeable])
        found["sign_agreement" + mode] = float(agree.mean()) if len(agree) else float("nan")
    return found


def _correlation(statistic: Any, x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 3 or not np.isfinite([x, y]).all() or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(statistic(x, y).statistic)


def _shuffled(influence: np.ndarray, kl: np.ndarray, reached: float, seed: int) -> float:
    """(1 + shuffles that do as well) / (1 + shuffles)."""
    if np.isnan(reached):
        return float("nan")
    numbers = np.random.default_rng(seed)
    x, y = stats.rankdata(influence), stats.rankdata(kl)
    orders = np.array([numbers.permutation(x) for _ in range(thresholds.SHUFFLES)])
    centred = y - y.mean()
    scores = orders @ centred / (np.linalg.norm(x - x.mean()) * np.linalg.norm(centred))
    return float((1 + (scores >= reached - 1e-12).sum()) / (1 + len(scores)))


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else float("nan")
