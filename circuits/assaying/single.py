"""Level 2: nodes ablated one by one in the real model, at several doses, against what the graph says would happen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from circuits.assaying import thresholds
from circuits.assaying.bench import Bench
from circuits.assaying.metric import Metric
from circuits.assaying.statistics import correlate, p_of_order, ratio, sign_agreement, slope_of
from circuits.attribution.direct import UNITS, effects_on
from circuits.interventions import ATTENTION, change_node, default_window, intervene
from circuits.tracing import Trace
from circuits.transcoders.base import Dictionary, written_within
from graphs.assays import Ablation
from graphs.flow import flow
from graphs.graph import AttributionGraph

AT_ONCE = 16  # ablations between two reports of progress


def test_singly(bench: Bench) -> list[Ablation]:
    """Ablate each of the registered nodes alone, attention live and frozen, beside the graph's prediction."""
    return _ablate(bench, [1.0])


def test_doses(bench: Bench) -> list[Ablation]:
    """The same at the other doses: half of a node taken away, and twice all of it."""
    return _ablate(bench, thresholds.DOSES)


def _ablate(bench: Bench, doses: Sequence[float]) -> list[Ablation]:
    nodes, metric, rows = bench.graph.nodes, bench.metric, bench.ablated
    predicted = predict_ablations(bench.transcoders, bench.run, bench.graph, metric, rows)
    what = [(i, dose) for dose in doses for i in range(len(rows))]
    alone = [change_node(nodes, int(rows[i]), 1 - dose) for i, dose in what]
    order = sorted(range(len(alone)), key=lambda at: (alone[at].layer, alone[at].position))  # what begins alike
    done = np.argsort(order)
    change: dict[str, list[float]] = {mode: [] for mode in ATTENTION}
    divergence: dict[str, list[float]] = {mode: [] for mode in ATTENTION}
    count = bench.count("ablating nodes one by one", len(alone) * len(ATTENTION))
    for mode in ATTENTION:
        for start in range(0, len(alone), AT_ONCE):
            part = [[alone[at]] for at in order[start : start + AT_ONCE]]
            read = intervene(bench.model, bench.transcoders, bench.run, part, attention=mode, read=metric.site)
            change[mode] += (metric.explained(read) - metric.clean).tolist()
            divergence[mode] += metric.moved(read).tolist()
            count(len(part))
    return [
        Ablation(
            node=int(rows[i]),
            influence=float(nodes.influence[rows[i]]),
            predicted=float(dose * predicted[i]),
            measured=change["live"][done[at]],
            kl=divergence["live"][done[at]],
            measured_frozen=change["frozen"][done[at]],
            kl_frozen=divergence["frozen"][done[at]],
            dose=dose,
        )
        for at, (i, dose) in enumerate(what)
    ]


def predict_ablations(
    transcoders: Dictionary,
    run: Trace,
    graph: AttributionGraph,
    metric: Metric,
    rows: Int[np.ndarray, "ablated"],
) -> Float[np.ndarray, "ablated"]:
    """What the graph says the target's value changes by when each unit or error is ablated alone.

    Of a unit's direct effects those count that an intervention makes: writes within its window, on what reads above
    it; what reads inside the window is held. From there on every path of the graph counts.

    Source: METHODS section 7.1, predictor P0 for the registered window.
    """
    contribution = flow(graph, metric.worth)
    window = default_window(transcoders)
    predicted = -contribution[rows]
    # Errors, and units of attention, write to one layer, whatever the window.
    is_unit = ~np.isin(graph.nodes.kind[rows], ("error", "attention"))
    if window == 0 or not is_unit.any():
        return predicted
    units = rows[is_unit]
    value = np.nan_to_num(graph.nodes.value)
    per_unit = np.divide(contribution, value, out=np.zeros_like(value), where=value != 0)
    targets = graph.nodes.where(*UNITS, "logit")
    effects = effects_on(run, transcoders, graph, targets, units, window=window)
    last = np.array([written_within(transcoders, int(layer), window)[-1] for layer in graph.nodes.layer[units]])
    above = graph.nodes.layer[targets][:, None] > last[None, :]
    predicted[is_unit] = -(per_unit[targets] @ np.where(above, effects, 0))
    return predicted


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
    least = thresholds.SIZEABLE * abs(clean)
    found["sizeable"] = float((np.abs(predicted) >= least).sum())
    for mode in ("", "_frozen"):
        measured, kl = column["measured" + mode], column["kl" + mode]
        ranks = correlate(stats.spearmanr, column["influence"], kl)
        found["spearman_kl" + mode] = ranks
        found["p_spearman_kl" + mode] = p_of_order(column["influence"], kl, ranks, seed)
        found["pearson" + mode] = correlate(stats.pearsonr, predicted, measured)
        found["spearman" + mode] = correlate(stats.spearmanr, predicted, measured)
        found["slope" + mode] = slope_of(predicted, measured)
        found["fit" + mode] = 1 - ratio(float(((measured - predicted) ** 2).sum()), float(measured @ measured))
        found["sign_agreement" + mode], _ = sign_agreement(predicted, measured, least)
    return found


def summarise_doses(ablations: Sequence[Ablation], doses: Sequence[Ablation], clean: float) -> dict[str, float]:
    """Figures over all doses of each node that moves the target by 5 % of itself at the largest: see `summarise`.

    monotone: the share of these whose effect grows with the dose, one way. answering: how many these are, live.
    slope_at_DOSE, sign_agreement_at_DOSE: of measured on predicted change at one dose, over all nodes and over those
    predicted to move the target by 5 % of itself.
    """
    found: dict[str, float] = {}
    responses: dict[int, list[Ablation]] = {}
    for each in sorted([*ablations, *doses], key=lambda each: each.dose):
        responses.setdefault(each.node, []).append(each)
    for mode in ("", "_frozen"):
        curves = np.array([[getattr(each, "measured" + mode) for each in nodes] for nodes in responses.values()])
        curves = curves.reshape(len(responses), -1)
        answers = np.abs(curves[:, -1]) >= thresholds.SIZEABLE * abs(clean) if curves.size else np.zeros(0, dtype=bool)
        steps = np.diff(curves[answers], axis=1, prepend=0.0) if curves.size else np.zeros((0, 1))
        one_way = np.logical_or((steps >= 0).all(1), (steps <= 0).all(1)).reshape(-1)
        found["answering" + mode] = float(answers.sum())
        found["monotone" + mode] = float(one_way.mean()) if len(one_way) else float("nan")
        for dose in sorted({each.dose for each in doses}):
            at = [each for each in doses if each.dose == dose]
            predicted = np.array([each.predicted for each in at])
            measured = np.array([getattr(each, "measured" + mode) for each in at])
            found[f"slope{mode}_at_{dose:g}"] = slope_of(predicted, measured)
            agreement, _ = sign_agreement(predicted, measured, thresholds.SIZEABLE * abs(clean))
            found[f"sign_agreement{mode}_at_{dose:g}"] = agreement
    return found
