"""From figures to verdicts, by rules that stand in `thresholds`: supported, not supported, or untested."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from circuits.assaying import thresholds as bar
from graphs.assays import Ablation, Subset, Verdict


def judge(
    conservation: float, ablations: Sequence[Ablation], statistics: dict[str, float], subsets: Sequence[Subset]
) -> list[Verdict]:
    """Each claim that a graph makes, judged. Nothing is averaged into one score."""
    low, high = bar.SLOPE
    verdicts = [
        _verdict(
            "every target's inputs sum to its value",
            conservation,
            conservation <= 1e-5,
            "≤ 1e-5 of the gross input",
            "a law, no control",
        )
    ]
    enough = len(ablations) >= bar.FEWEST
    for mode, held in (("", "attention live"), ("_frozen", "attention held")):
        rank, p = statistics["spearman_kl" + mode], statistics["p_spearman_kl" + mode]
        verdicts.append(
            _verdict(
                f"influence ranks what single ablations do ({held})",
                rank if enough else math.nan,
                rank >= bar.RANKS and p <= bar.SIGNIFICANT,
                f"Spearman with KL ≥ {bar.RANKS}",
                f"{bar.SHUFFLES} shuffled orders: p = {p:.3f}",
            )
        )
        slope, signs = statistics["slope" + mode], statistics["sign_agreement" + mode]
        judged = enough and statistics["sizeable"] >= 3
        verdicts.append(
            _verdict(
                f"the graph predicts what single ablations do ({held})",
                slope if judged else math.nan,
                low <= slope <= high and signs >= bar.SIGNS,
                f"slope in {low}–{high}, {bar.SIGNS:.0%} of signs",
                f"{signs:.0%} of {statistics['sizeable']} sizeable signs right",
            )
        )
    for subset in subsets:
        best, least = _best(subset.random_faithfulness, max), _best(subset.random_complement, min)
        verdicts.append(
            _verdict(
                f"the graph's features are enough ({subset.ablation} ablation of all others)",
                math.nan if math.isnan(subset.p_faithfulness) else subset.faithfulness,
                subset.faithfulness >= bar.FAITHFUL and subset.p_faithfulness <= bar.SIGNIFICANT,
                f"≥ {bar.FAITHFUL:.0%} of the difference survives",
                f"{len(subset.random_faithfulness)} random sets: best {best:.0%}, p = {subset.p_faithfulness:.3f}",
            )
        )
        verdicts.append(
            _verdict(
                f"the graph's features are needed ({subset.ablation} ablation of them)",
                math.nan if math.isnan(subset.p_complement) else subset.complement,
                subset.complement <= 1 - bar.FAITHFUL and subset.p_complement <= bar.SIGNIFICANT,
                f"≤ {1 - bar.FAITHFUL:.0%} of the difference survives",
                f"{len(subset.random_complement)} random sets: lowest {least:.0%}, p = {subset.p_complement:.3f}",
            )
        )
    return verdicts


def _verdict(claim: str, number: float, passed: bool, threshold: str, control: str) -> Verdict:
    untested = number is None or math.isnan(number)
    word = "untested" if untested else "supported" if passed else "not supported"
    return Verdict(claim, word, number, threshold, control)


def _best(values: Sequence[float], choose: Callable[[list[float]], float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return choose(known) if known else math.nan
