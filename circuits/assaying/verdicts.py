"""From figures to verdicts, by rules that stand in `thresholds`: supported, not supported, or untested and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from circuits.assaying import thresholds as bar
from circuits.assaying.curves import ABLATIONS
from circuits.assaying.disturbing import KINDS
from circuits.assaying.groups import fewest_controls
from circuits.assaying.hypotheses import find_needed, holm
from graphs.assays import (
    Ablation,
    Arrow,
    Between,
    Contributions,
    Control,
    Curve,
    Disturbance,
    Edges,
    Examples,
    Group,
    Rewording,
    Subset,
    Verdict,
)
from graphs.wording import claim_arrow, visible

MODES = {"": "attention live", "_frozen": "attention held"}  # how figures and records name them -> in words
# Figures of level 3, see `summarise_between`.
RANKED = ("between_spearman", "between_p_spearman", "far_spearman")
PREDICTED = ("beyond_slope", "beyond_sign_agreement", "between_slope")
NOTHING = (math.nan, math.nan, [], [], math.nan, math.nan)  # the figures of a subset that was not tested


def judge(
    names: Sequence[str],
    conservation: float,
    records: Mapping[str, Sequence[Any]],
    statistics: Mapping[str, float],
    skipped: Mapping[str, str],
    moved_by: str = "KL",
) -> list[Verdict]:
    """Each claim that a graph makes, judged. Nothing is averaged into one score.

    names: the registered experiments. records: what each left. skipped: those that were not run, and why.
    moved_by: what an ablation's effect is measured in, see `Metric`.
    """
    verdicts = [judge_errors(statistics.get("missed", math.nan)), judge_conservation(conservation)]
    if "edges" in names:
        verdicts.append(judge_edges(records["edges"], skipped.get("edges", "")))
    if "ablations" in names:
        for mode, held in MODES.items():
            why = skipped.get("ablations", "")
            verdicts += judge_singles(records["ablations"], statistics, mode, held, why, moved_by)
    if "doses" in names:
        why = skipped.get("ablations", "") or skipped.get("doses", "")
        verdicts += [judge_doses(statistics, mode, held, why) for mode, held in MODES.items()]
    if "between" in names:
        why = skipped.get("between", "")
        for mode, held in MODES.items():
            verdicts += judge_between(records["between"], statistics, mode, held, why)
    if "disturbances" in names:
        verdicts += judge_disturbances(records["disturbances"], skipped.get("disturbances", ""))
    whole: list[tuple[str, Callable[[Any], list[Verdict]], list[Any]]] = [
        ("subsets", judge_subset, [Subset(each, *NOTHING) for each in ("mean", "zero")]),
        ("curves", judge_curve, [_no_curve(each) for each in ABLATIONS]),
        ("contributions", judge_contributions, [Contributions([], [], [])]),
        ("controls", judge_control, [Control("graphs that should do worse", "", math.nan, [], math.nan)]),
    ]
    for name, judge_one, nothing in whole:
        if name in names:
            why = skipped.get(name, "")
            unrun = [replace(each, untested=why) for each in nothing]
            for each in unrun if why else records[name]:
                verdicts += judge_one(each)
    if "groups" in names:
        verdicts += judge_groups(records["groups"], statistics.get("clean", math.nan))
    if "reseeded" in names:
        why = skipped.get("reseeded", "") or skipped.get("subsets", "")
        verdicts.append(judge_seeds(records["subsets"], records["reseeded"], why))
    if "rewordings" in names:
        verdicts.append(judge_rewordings(records["rewordings"], statistics, skipped.get("rewordings", "")))
    if "examples" in names:
        verdicts += judge_examples(records["examples"], statistics, skipped.get("examples", ""))
    return verdicts


def judge_errors(missed: float) -> Verdict:
    """Before all levels: whether a graph of features can be about this prompt at all."""
    return _verdict(
        "features say most of what the MLPs put out on this prompt, errors the least",
        missed,
        missed <= bar.MISSED,
        f"≤ {bar.MISSED:.0%} of it missed, squared",
        "a graph of features leaves out what they miss",
        "",
    )


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
    ablations: Sequence[Ablation], statistics: Mapping[str, float], mode: str, held: str, why: str = "", by: str = "KL"
) -> list[Verdict]:
    """Level 2: what influence ranks, and what the graph predicts."""
    low, high = bar.SLOPE
    count = len(ablations)
    few = why or (f"{count} ablated one by one, {bar.FEWEST} are wanted" if count < bar.FEWEST else "")
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
            f"Spearman with {by} ≥ {bar.RANKS}, p ≤ {bar.SIGNIFICANT}",
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


def judge_edges(records: Sequence[Edges], why: str = "") -> Verdict:
    """Level 1."""
    edges = records[0] if records else Edges(0, 0, math.nan, -1, -1)
    return _verdict(
        "each edge is what its target loses without its source, all else held",
        edges.largest,
        edges.largest <= bar.EXACT,
        f"≤ {bar.EXACT:g} of the gross input",
        f"{edges.tested} edges, all that a source writes; {edges.left_out} are read, not written",
        why or ("" if edges.tested else "no edge has a source that is written"),
    )


def judge_doses(statistics: Mapping[str, float], mode: str, held: str, why: str = "") -> Verdict:
    """Level 2: whether more of a node does more."""
    answering = statistics.get("answering" + mode, 0.0)
    doses = " and ".join(f"{dose:g}" for dose in bar.DOSES)
    slopes = [statistics.get(f"slope{mode}_at_{dose:g}", math.nan) for dose in bar.DOSES]
    said = " and ".join("undefined" if math.isnan(each) else f"{each:.2g}" for each in slopes)
    few = f"{answering:.0f} move the target by {bar.SIZEABLE:.0%} of itself, {bar.SEVERAL} are wanted"
    share = statistics.get("monotone" + mode, math.nan)
    return _verdict(
        f"more of a node taken away does more, one way ({held})",
        share,
        share >= bar.MONOTONE,
        f"≥ {bar.MONOTONE:.0%} of the nodes that answer",
        f"{answering:.0f} answer; slope at doses {doses}: {said}",
        why or (few if answering < bar.SEVERAL else ""),
    )


def judge_between(
    records: Sequence[Between], statistics: Mapping[str, float], mode: str, held: str, why: str = ""
) -> list[Verdict]:
    """Level 3. An edge confirms itself, so what the graph predicts is judged without the edge's own part."""
    low, high = bar.SLOPE
    figures = {name: statistics.get(name, math.nan) for name in ("between_pairs", "beyond_sizeable", "far_pairs")}
    pairs, sizeable, far = (0.0 if math.isnan(each) else each for each in figures.values())
    rank, p, apart = (statistics.get(f"{name}{mode}", math.nan) for name in RANKED)
    slope, signs, near = (statistics.get(f"{name}{mode}", math.nan) for name in PREDICTED)
    few = why or (f"{pairs:.0f} pairs of nodes, {bar.FEWEST} are wanted" if pairs < bar.FEWEST else "")
    small = (
        f"{sizeable:.0f} predicted to move by {bar.SIZEABLE:.0%} of themselves through other nodes, {bar.SEVERAL} are "
        "wanted"
        if sizeable < bar.SEVERAL
        else ""
    )
    alone = "" if math.isnan(apart) else f" ({far:.0f} that no edge joins: {apart:.2f})"
    return [
        _verdict(
            f"influence ranks what single ablations do to other features ({held})",
            rank,
            rank >= bar.RANKS and p <= bar.SIGNIFICANT,
            f"Spearman with the size of the change ≥ {bar.RANKS}, p ≤ {bar.SIGNIFICANT}",
            f"{pairs:.0f} pairs{alone}, {bar.SHUFFLES} shuffled orders: p = {p:.3f}",
            few,
        ),
        _verdict(
            f"the graph predicts what single ablations do to other features through those between ({held})",
            slope,
            low <= slope <= high and signs >= bar.SIGNS,
            f"slope in {low}–{high}, {bar.SIGNS:.0%} of signs",
            f"{signs:.0%} of {sizeable:.0f} sizeable signs right; slope with the edge's own part {near:.2g}",
            few or small,
        ),
    ]


def judge_disturbances(records: Sequence[Disturbance], why: str = "") -> list[Verdict]:
    """Level 4: one layer on, by the change most like those that the model meets."""
    found: dict[tuple[str, str], float] = {
        (each.kind, each.attention): each.cosine[0] for each in records if len(each.cosine)
    }
    verdicts = []
    for attention, held in (("live", MODES[""]), ("frozen", MODES["_frozen"])):
        upstream, random = (found.get((kind, attention), math.nan) for kind in (KINDS[0], KINDS[-1]))
        verdicts.append(
            _verdict(
                f"features answer a small change as the model's next layer does ({held})",
                upstream,
                upstream >= bar.COSINE,
                f"cosine of the answers to more of an upstream feature ≥ {bar.COSINE}",
                f"to a random change of that size {random:.2f}",
                why or ("no feature of the graph feeds another" if math.isnan(upstream) else ""),
            )
        )
    return verdicts


def judge_rewordings(records: Sequence[Rewording], statistics: Mapping[str, float], why: str = "") -> Verdict:
    """Whether the graph is about the question, or about these words."""
    reworded = [each for each in records if not each.control]
    answered, p, most = (statistics.get(name, math.nan) for name in ("reworded", "p_survives", "unrelated_influence"))
    survives = statistics.get("survives_influence", math.nan)
    why = why or next((each.untested for each in records if each.untested), "")
    return _verdict(
        "the graph survives rewording",
        survives,
        survives >= bar.SURVIVES and p <= bar.SIGNIFICANT,
        f"≥ {bar.SURVIVES:.0%} of its features' influence is in the graphs of other wordings, p ≤ {bar.SIGNIFICANT}",
        f"{answered:.0f} of {len(reworded)} wordings answered alike; unrelated prompts at most {most:.0%}, p = {p:.3f}",
        why or (f"none of {len(reworded)} wordings is answered alike" if answered == 0 else ""),
    )


def judge_examples(records: Sequence[Examples], statistics: Mapping[str, float], why: str = "") -> list[Verdict]:
    """Over examples: equivalence must be shown; independence is not supported once it is refuted."""
    why = why or next((each.untested for each in records), "")
    count = sum(len(each.prompt) for each in records)
    share, p_equivalent, p_independent = (
        statistics.get(name, math.nan) for name in ("higher", "p_equivalent", "p_independent")
    )
    return [
        _verdict(
            "on other wordings the graph's features score higher and lower than the model equally often",
            p_equivalent,
            p_equivalent <= bar.SIGNIFICANT,
            f"p ≤ {bar.SIGNIFICANT} that the share is {bar.MARGIN:.0%} or more off one half",
            f"{count} wordings, {share:.0%} of them higher",
            why,
        ),
        _verdict(
            "on other wordings what is left without the graph's features says nothing of what the model says",
            p_independent,
            p_independent > bar.SIGNIFICANT,
            f"p > {bar.SIGNIFICANT} of independence, which is no proof of it",
            f"{count} wordings, shuffled 1000 times",
            why,
        ),
    ]


def judge_curve(curve: Curve) -> list[Verdict]:
    """Level 5: whether the order of influence is worth something; and what is left of the graph without errors."""
    if curve.errors == "kept":
        best = "" if curve.untested else f"best {max(curve.random_area):.2f}, p = {curve.p_area:.3f}"
        return [
            _verdict(
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
        _verdict(
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
        _verdict(
            "no feature of the graph is idle (mean ablation of all others)",
            share,
            share >= bar.NEEDFUL,
            f"≥ {bar.NEEDFUL:.0%} matter more than {bar.OUTDONE:.0%} of random features added",
            f"{len(found.reference)} random features, of which {bar.OUTDONE:.0%} add less than {outdone:.2g}{surely}",
            found.untested,
        )
    ]


def judge_control(control: Control) -> list[Verdict]:
    """Level 6."""
    best = "" if control.untested else f"best {max(control.null):.0%}, p = {control.p:.3f}"
    return [
        _verdict(
            f"the graph does better than {control.name}",
            control.ours,
            control.p <= bar.SIGNIFICANT,
            f"more survives than of theirs, p ≤ {bar.SIGNIFICANT}",
            f"{len(control.null)} of them: {best}",
            control.untested,
        )
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
    return _verdict(
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
    return _verdict(
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
    return _verdict(
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


def judge_seeds(subsets: Sequence[Subset], reseeded: Sequence[Subset], why: str = "") -> Verdict:
    """Whether what is said of the whole graph hangs on a draw."""
    said = [{each.claim: each.verdict for each in judge_subset(subset)} for subset in reseeded]
    first = {each.claim: each.verdict for subset in subsets for each in judge_subset(subset)}
    same = [verdict == first.get(claim) for again in said for claim, verdict in again.items()]
    tested = [subset for subset in (*subsets, *reseeded) if not subset.untested]
    kept = [[each.faithfulness for each in tested if each.ablation == kind] for kind in ("mean", "zero")]
    apart = max((max(each) - min(each) for each in kept if each), default=math.nan)
    return _verdict(
        "what is said of the whole graph is said with other seeds too",
        float(np.mean(same)) if same else math.nan,
        all(same),
        "≥ 100% of the verdicts on it the same",
        f"{len(same)} verdicts with two more seeds; what survives differs by {apart:.2g} at most",
        why or ("the graph could not be tested as a whole" if not tested else ""),
    )


def _no_curve(ablation: str) -> Curve:
    return Curve(ablation, "kept", [], [], [], [], math.nan, [], math.nan)


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
