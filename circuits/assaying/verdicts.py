"""From figures to verdicts, by rules that stand in `thresholds`: supported, not supported, or untested and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from circuits.assaying import thresholds as bar
from circuits.assaying.claims import verdict_on
from circuits.assaying.curves import ABLATIONS
from circuits.assaying.disturbing import KINDS
from circuits.assaying.group_verdicts import judge_groups
from circuits.assaying.set_verdicts import judge_contributions, judge_curve, judge_seeds, judge_subset
from graphs.assays import (
    Ablation,
    Between,
    Contributions,
    Control,
    Curve,
    Disturbance,
    Edges,
    Examples,
    Rewording,
    Subset,
    Verdict,
)

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
    return verdict_on(
        "features say most of what the MLPs put out on this prompt, errors the least",
        missed,
        missed <= bar.MISSED,
        f"≤ {bar.MISSED:.0%} of it missed, squared",
        "a graph of features leaves out what they miss",
        "",
    )


def judge_conservation(conservation: float) -> Verdict:
    """Level 0."""
    return verdict_on(
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
        verdict_on(
            f"influence ranks what single ablations do ({held})",
            rank,
            rank >= bar.RANKS and p <= bar.SIGNIFICANT,
            f"Spearman with {by} ≥ {bar.RANKS}, p ≤ {bar.SIGNIFICANT}",
            f"{bar.SHUFFLES} shuffled orders: p = {p:.3f}",
            few or alike,
        ),
        verdict_on(
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
    return verdict_on(
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
    return verdict_on(
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
        verdict_on(
            f"influence ranks what single ablations do to other features ({held})",
            rank,
            rank >= bar.RANKS and p <= bar.SIGNIFICANT,
            f"Spearman with the size of the change ≥ {bar.RANKS}, p ≤ {bar.SIGNIFICANT}",
            f"{pairs:.0f} pairs{alone}, {bar.SHUFFLES} shuffled orders: p = {p:.3f}",
            few,
        ),
        verdict_on(
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
            verdict_on(
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
    return verdict_on(
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
        verdict_on(
            "on other wordings the graph's features score higher and lower than the model equally often",
            p_equivalent,
            p_equivalent <= bar.SIGNIFICANT,
            f"p ≤ {bar.SIGNIFICANT} that the share is {bar.MARGIN:.0%} or more off one half",
            f"{count} wordings, {share:.0%} of them higher",
            why,
        ),
        verdict_on(
            "on other wordings what is left without the graph's features says nothing of what the model says",
            p_independent,
            p_independent > bar.SIGNIFICANT,
            f"p > {bar.SIGNIFICANT} of independence, which is no proof of it",
            f"{count} wordings, shuffled 1000 times",
            why,
        ),
    ]


def judge_control(control: Control) -> list[Verdict]:
    """Level 6."""
    best = "" if control.untested else f"best {max(control.null):.0%}, p = {control.p:.3f}"
    return [
        verdict_on(
            f"the graph does better than {control.name}",
            control.ours,
            control.p <= bar.SIGNIFICANT,
            f"more survives than of theirs, p ≤ {bar.SIGNIFICANT}",
            f"{len(control.null)} of them: {best}",
            control.untested,
        )
    ]


def _no_curve(ablation: str) -> Curve:
    return Curve(ablation, "kept", [], [], [], [], math.nan, [], math.nan)


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
