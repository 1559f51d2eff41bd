"""Verdicts on the whole graph: what it does alone, what is left without it, and whether a draw decides that."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from circuits.assaying import thresholds as bar
from circuits.assaying.claims import verdict_on
from circuits.assaying.hypotheses import find_needed
from graphs.assays import Contributions, Curve, Subset, Verdict


def judge_subset(subset: Subset) -> list[Verdict]:
    """Level 5: what the kept set does alone, and what is left without it."""
    count = len(subset.random_faithfulness)
    untested = subset.untested
    best = 0.0 if untested else max(subset.random_faithfulness)
    least = 0.0 if untested else min(subset.random_complement)
    return [
        verdict_on(
            f"the graph's features are enough ({subset.ablation} ablation of all others)",
            subset.faithfulness,
            subset.faithfulness >= bar.FAITHFUL and subset.p_faithfulness <= bar.SIGNIFICANT,
            f"≥ {bar.FAITHFUL:.0%} of the difference survives, p ≤ {bar.SIGNIFICANT}",
            f"{count} random sets: best {best:.0%}, p = {subset.p_faithfulness:.3f}",
            untested,
        ),
        verdict_on(
            f"the graph's features are needed ({subset.ablation} ablation of them)",
            subset.complement,
            subset.complement <= 1 - bar.FAITHFUL and subset.p_complement <= bar.SIGNIFICANT,
            f"≤ {1 - bar.FAITHFUL:.0%} of the difference survives, p ≤ {bar.SIGNIFICANT}",
            f"{count} random sets: lowest {least:.0%}, p = {subset.p_complement:.3f}",
            untested,
        ),
    ]


def judge_curve(curve: Curve) -> list[Verdict]:
    """Level 5: whether the order of influence is worth something; and what is left of the graph without errors."""
    if curve.errors == "kept":
        best = "" if curve.untested else f"best {max(curve.random_area):.2f}, p = {curve.p_area:.3f}"
        return [
            verdict_on(
                f"the most influential features bring the answer back first ({curve.ablation} ablation)",
                curve.area,
                curve.p_area <= bar.SIGNIFICANT,
                f"area under the curve above random sets', p ≤ {bar.SIGNIFICANT}",
                f"{len(curve.random_area)} random sets: {best}",
                curve.untested,
            )
        ]
    left = math.nan if curve.untested else curve.faithfulness[-2]
    others = [each[-1] for each in curve.random_faithfulness]
    p = (1 + sum(each >= left for each in others)) / (1 + len(others))
    best = "" if curve.untested else f"best {max(others):.0%}, p = {p:.3f}"
    return [
        verdict_on(
            f"the graph's features are enough without errors too ({curve.ablation} ablation of all others)",
            left,
            left >= bar.FAITHFUL and p <= bar.SIGNIFICANT,
            f"≥ {bar.FAITHFUL:.0%} of the difference survives, p ≤ {bar.SIGNIFICANT}",
            f"{len(curve.random_area)} random sets: {best}",
            curve.untested,
        )
    ]


def judge_contributions(found: Contributions) -> list[Verdict]:
    """Level 5: whether the graph holds nothing that a random feature could stand in for."""
    outdone = float(np.quantile(np.abs(found.reference), bar.OUTDONE)) if len(found.reference) else math.nan
    share = float((np.abs(found.lost) > outdone).mean()) if len(found.lost) else math.nan
    needed = find_needed(np.array(found.lost), np.array(found.reference), share=bar.OUTDONE, level=bar.SIGNIFICANT)
    surely = f"; {needed.mean():.0%} matter more by binomial tests, Holm's correction" if len(needed) else ""
    return [
        verdict_on(
            "no feature of the graph is idle (mean ablation of all others)",
            share,
            share >= bar.NEEDFUL,
            f"≥ {bar.NEEDFUL:.0%} matter more than {bar.OUTDONE:.0%} of random features added",
            f"{len(found.reference)} random features, of which {bar.OUTDONE:.0%} add less than {outdone:.2g}{surely}",
            found.untested,
        )
    ]


def judge_seeds(subsets: Sequence[Subset], reseeded: Sequence[Subset], why: str = "") -> Verdict:
    """Whether what is said of the whole graph hangs on a draw."""
    said = [{each.claim: each.verdict for each in judge_subset(subset)} for subset in reseeded]
    first = {each.claim: each.verdict for subset in subsets for each in judge_subset(subset)}
    same = [verdict == first.get(claim) for again in said for claim, verdict in again.items()]
    tested = [subset for subset in (*subsets, *reseeded) if not subset.untested]
    kept = [[each.faithfulness for each in tested if each.ablation == kind] for kind in ("mean", "zero")]
    apart = max((max(each) - min(each) for each in kept if each), default=math.nan)
    return verdict_on(
        "what is said of the whole graph is said with other seeds too",
        float(np.mean(same)) if same else math.nan,
        all(same),
        "≥ 100% of the verdicts on it the same",
        f"{len(same)} verdicts with two more seeds; what survives differs by {apart:.2g} at most",
        why or ("the graph could not be tested as a whole" if not tested else ""),
    )
