"""From figures to verdicts, by rules that stand in `thresholds`: supported, not supported, or untested and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from circuits.assaying import thresholds as bar
from graphs.assays import Ablation, Subset, Verdict


def judge(
    conservation: float, ablations: Sequence[Ablation], statistics: Mapping[str, float], subsets: Sequence[Subset]
) -> list[Verdict]:
    """Each claim that a graph makes, judged. Nothing is averaged into one score."""
    verdicts = [judge_conservation(conservation)]
    for mode, held in (("", "attention live"), ("_frozen", "attention held")):
        verdicts += judge_singles(ablations, statistics, mode, held)
    for subset in subsets:
        verdicts += judge_subset(subset)
    return verdicts


def judge_conservation(conservation: float) -> Verdict:
    """Level 0."""
    return _verdict(
        "every target's inputs sum to its value",
        conservation,
        conservation <= 1e-5,
        "≤ 1e-5 of the gross input",
        "a law, no control",
        "the graph does not say how well its inputs add up" if math.isnan(conservation) else "",
    )


def judge_singles(
    ablations: Sequence[Ablation], statistics: Mapping[str, float], mode: str, held: str
) -> list[Verdict]:
    """Level 2: what influence ranks, and what the graph predicts."""
    low, high = bar.SLOPE
    count = len(ablations)
    few = f"{count} ablated one by one, {bar.FEWEST} are wanted" if count < bar.FEWEST else ""
    rank, p = statistics["spearman_kl" + mode], statistics["p_spearman_kl" + mode]
    alike = _alike([each.influence for each in ablations], [getattr(each, "kl" + mode) for each in ablations])
    slope, signs, sizeable = (statistics[name] for name in ("slope" + mode, "sign_agreement" + mode, "sizeable"))
    small = (
        f"{sizeable:.0f} predicted to move the target by {bar.SIZEABLE:.0%} of itself, {bar.SEVERAL} are wanted"
        if sizeable < bar.SEVERAL
        else ""
    )
    return [
        _verdict(
            f"influence ranks what single ablations do ({held})",
            rank,
            rank >= bar.RANKS and p <= bar.SIGNIFICANT,
            f"Spearman with KL ≥ {bar.RANKS}, p ≤ {bar.SIGNIFICANT}",
            f"{bar.SHUFFLES} shuffled orders: p = {p:.3f}",
            few or alike,
        ),
        _verdict(
            f"the graph predicts what single ablations do ({held})",
            slope,
            low <= slope <= high and signs >= bar.SIGNS,
            f"slope in {low}–{high}, {bar.SIGNS:.0%} of signs",
            f"{signs:.0%} of {sizeable:.0f} sizeable signs right",
            few or small,
        ),
    ]


def judge_subset(subset: Subset) -> list[Verdict]:
    """Level 5: what the kept set does alone, and what is left without it."""
    count = len(subset.random_faithfulness)
    untested = subset.untested
    best = 0.0 if untested else max(subset.random_faithfulness)
    least = 0.0 if untested else min(subset.random_complement)
    return [
        _verdict(
            f"the graph's features are enough ({subset.ablation} ablation of all others)",
            subset.faithfulness,
            subset.faithfulness >= bar.FAITHFUL and subset.p_faithfulness <= bar.SIGNIFICANT,
            f"≥ {bar.FAITHFUL:.0%} of the difference survives, p ≤ {bar.SIGNIFICANT}",
            f"{count} random sets: best {best:.0%}, p = {subset.p_faithfulness:.3f}",
            untested,
        ),
        _verdict(
            f"the graph's features are needed ({subset.ablation} ablation of them)",
            subset.complement,
            subset.complement <= 1 - bar.FAITHFUL and subset.p_complement <= bar.SIGNIFICANT,
            f"≤ {1 - bar.FAITHFUL:.0%} of the difference survives, p ≤ {bar.SIGNIFICANT}",
            f"{count} random sets: lowest {least:.0%}, p = {subset.p_complement:.3f}",
            untested,
        ),
    ]


def _verdict(claim: str, number: float, passed: bool, threshold: str, control: str, why: str) -> Verdict:
    """why: the reason that nothing can be said, empty when the number can be judged."""
    if why or math.isnan(number):
        return Verdict(claim, "untested", math.nan, threshold, f"untested: {why or 'there is no number to judge'}")
    return Verdict(claim, "supported" if passed else "not supported", number, threshold, control)


def _alike(influence: Sequence[float], kl: Sequence[float]) -> str:
    """Why there is no order to compare, if there is none."""
    if not len(kl):
        return "nothing was ablated"
    if not np.isfinite(kl).all():
        return "an ablation gave no finite output"
    if np.ptp(influence) == 0:
        return "all have the same influence"
    if np.ptp(kl) == 0:
        return "no ablation changed the output" if not any(kl) else "every ablation changed the output alike"
    return ""
