"""Verdicts on groups named as a hypothesis: each by itself, and every arrow between two of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from circuits.assaying import thresholds as bar
from circuits.assaying.claims import verdict_on
from circuits.assaying.groups import fewest_controls
from circuits.assaying.hypotheses import holm
from graphs.assays import Arrow, Group, Verdict
from graphs.wording import claim_arrow, visible


def judge_groups(groups: Sequence[Group], clean: float) -> list[Verdict]:
    """Groups that were named as a hypothesis: each by itself, then every arrow between two of them.

    clean: what the graph explains, in the clean run.
    """
    tested = [each for each in groups if not each.untested]
    family = [each.p for each in tested]
    stands = dict(zip([each.name for each in tested], _holm(family), strict=True))
    verdicts = []
    for each in groups:
        verdicts.append(_judge_group(each, clean, stands.get(each.name, False), len(tested)))
        verdicts.append(_judge_prediction(each, clean))
    pairs = [(each, arrow) for each in tested for arrow in each.arrows]
    sizeable = [abs(arrow.predicted) >= bar.SIZEABLE for _, arrow in pairs]
    stood = iter(_holm([arrow.p for (_, arrow), large in zip(pairs, sizeable, strict=True) if large]))
    for (each, arrow), large in zip(pairs, sizeable, strict=True):
        verdicts.append(_judge_arrow(each, arrow, large and next(stood), sum(sizeable)))
    return verdicts


def _holm(p: Sequence[float]) -> list[bool]:
    """Which of several p stand together; one that is undefined does not."""
    return holm(np.nan_to_num(np.array(p, dtype=np.float64), nan=1.0), bar.SIGNIFICANT).tolist()


def _judge_group(group: Group, clean: float, stands: bool, tested: int) -> Verdict:
    moved = group.measured / clean if clean else math.nan
    went = "lowers" if moved < 0 else "raises" if moved > 0 else "leaves"
    left = "" if math.isnan(group.left) else f"; {group.left:.0%} of the difference is left without it"
    most = max((abs(each / clean) for each in group.random), default=math.nan) if clean else math.nan
    return verdict_on(
        f"group {visible(group.name)} matters to the answer more than random groups as large",
        abs(moved),
        abs(moved) >= bar.SIZEABLE and stands,
        f"≥ {bar.SIZEABLE:.0%} of the target, p ≤ {bar.SIGNIFICANT}{_after_holm(tested, 'groups')}",
        f"{went} the target; {len(group.random)} random groups alike in {group.alike}: most {most:.1%}, "
        f"p = {group.p:.3f}{left}",
        group.untested or group.unmatched or _too_few(len(group.random), tested),
    )


def _judge_prediction(group: Group, clean: float) -> Verdict:
    predicted, measured = group.predicted, group.measured
    low, high = sorted(share * predicted for share in bar.SLOPE)
    within = f", {low:+.2f} to {high:+.2f}"
    small = max(abs(predicted), abs(measured)) < bar.SIZEABLE * abs(clean)
    least = f"both less than {bar.SIZEABLE:.0%} of the target, {clean:+.2g}"
    same = sum(each * measured > 0 for each in group.singles)
    return verdict_on(
        f"the graph predicts what ablating group {visible(group.name)} does",
        measured,
        low <= measured <= high,
        f"{bar.SLOPE[0]}–{bar.SLOPE[1]} of the predicted change" + ("" if group.untested else within),
        f"attention held {group.measured_frozen:+.2f}; its members alone add up to {sum(group.singles):+.2f}, "
        f"{same} of {len(group.singles)} go the same way",
        group.untested or (f"predicted {predicted:+.2g}, measured {measured:+.2g}, {least}" if small else ""),
    )


def _judge_arrow(group: Group, arrow: Arrow, stands: bool, judged: int) -> Verdict:
    way = math.copysign(1.0, arrow.predicted)
    least = min(bar.SIZEABLE, bar.SLOPE[0] * abs(arrow.predicted))
    most = max((abs(each) for each in arrow.random), default=math.nan)
    said = f"predicted {arrow.predicted:+.1%}, by its edges alone {arrow.direct:+.1%}"
    return verdict_on(
        claim_arrow(group.name, arrow.to),
        way * arrow.measured,
        way * arrow.measured >= least and stands,
        f"≥ {100 * least:.2g}% of its value the way predicted, p ≤ {bar.SIGNIFICANT}{_after_holm(judged, 'arrows')}",
        f"{said}, measured {arrow.measured:+.1%}, attention held {arrow.measured_frozen:+.1%}; {len(arrow.random)} "
        f"random groups: most {most:.1%}, p = {arrow.p:.3f}",
        arrow.untested
        or (f"{said}, less than {bar.SIZEABLE:.0%} of its value" if abs(arrow.predicted) < bar.SIZEABLE else "")
        or group.unmatched
        or _too_few(len(arrow.random), judged),
    )


def _after_holm(tests: int, what: str) -> str:
    return f" after Holm's correction over {tests} {what}" if tests > 1 else ""


def _too_few(controls: int, tests: int) -> str:
    """Why no p of so many controls can stand among so many tests, empty when it can."""
    wanted = fewest_controls(tests, tests)
    return f"only {controls} different random groups can be drawn, {wanted} are wanted" if controls < wanted else ""
