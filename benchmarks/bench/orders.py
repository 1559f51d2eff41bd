"""Whether methods come out in the order that the literature reports on IOI, and what the numbers say where they do not.

    CPR of IOI in GPT-2 small: activation patching of edges 2.30, EAP-IG 1.85, EAP 1.20, random 0.25

Source: Mueller et al. 2025 (MIB); METHODS sections 12.2 and 12.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from benchmarks.bench.summaries import Number, Summary

REPORTED = ("exact", "eap-ig", "eap", "random")
NAMES = {"exact": "patching", "eap-ig": "EAP-IG", "eap": "EAP", "random": "random"}
AS_REPORTED = "as reported"
AGREED = 0.9  # rank correlation with patching above which a method is called its equal
USUAL = 1.2  # CPR of EAP on IOI; below it, leaving edges out has won nothing
METRICS = (("cpr", "value"), ("log area", "size"))


def found_order(methods: Sequence[Summary], metric: str, ranked: str) -> str:
    """The methods from best to worst; "≈" stands between two whose intervals reach each other's number."""
    known = [each for each in methods if each.method in REPORTED and not math.isnan(each.get(metric, ranked).value)]
    known.sort(key=lambda each: (-each.get(metric, ranked).value, REPORTED.index(each.method)))
    words = ""
    for at, each in enumerate(known):
        number = each.get(metric, ranked)
        if at:
            words += " > " if apart(known[at - 1].get(metric, ranked), number) else " ≈ "
        words += f"{NAMES[each.method]} {number.value:.2f}"
    return words


def judge_order(methods: Sequence[Summary]) -> str:
    """In words: the reported order, or which two do not follow it."""
    by_name = {each.method: each for each in methods if each.method in REPORTED}
    if len(by_name) < 2:
        return "too few of the methods were run"
    reversed_, level = [], []
    for better, worse in combinations([name for name in REPORTED if name in by_name], 2):
        one, other = (by_name[name].get("cpr", "value") for name in (better, worse))
        pair = f"{NAMES[better]} and {NAMES[worse]}"
        if not apart(one, other):
            level.append(pair)
        elif one.value < other.value:
            reversed_.append(pair)
    if not reversed_ and not level:
        return AS_REPORTED
    said = [f"reversed: {', '.join(reversed_)}"] if reversed_ else []
    said += [f"not told apart: {', '.join(level)}"] if level else []
    return "; ".join(said)


def apart(one: Number, other: Number) -> bool:
    """Whether the difference of two numbers is more than noise makes of it: their intervals taken as independent."""
    if one.value < other.value:
        one, other = other, one
    halves = (one.value - one.low, other.high - other.value)
    return one.value - other.value > math.hypot(*(0.0 if math.isnan(each) else each for each in halves))


def reasons(methods: Sequence[Summary]) -> list[str]:
    """What the run itself has to say about an order that is not the reported one, in sentences."""
    by_name = {each.method: each for each in methods if each.method in REPORTED}
    found = []
    ranks = [by_name[name].get("rank correlation with exact").value for name in ("eap-ig", "eap") if name in by_name]
    if ranks and min(ranks) >= AGREED:
        found.append(
            f"Gradients rank the edges almost as patching does (rank correlations of {AGREED} and more), so little is "
            "left to gain."
        )
    areas = {name: each.get("cpr", "value").value for name, each in by_name.items()}
    best = max((area for name, area in areas.items() if name != "random"), default=math.nan)
    if best < USUAL:
        found.append(
            "No CPR is far above 1: few edges speak against the answer, and it is leaving those out that takes the "
            "published numbers there."
        )
    if areas.get("exact", math.inf) < best:
        found.append(
            "Patching measures each edge with all others whole: edges that stand in for each other score little, and "
            "it need not choose the best set."
        )
    return found
