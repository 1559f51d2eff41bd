"""The report of a run: what its rows say, in tables and plots, and how to run it again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.bench.documents import Block, Code, Figure, Heading, Table, Words
from benchmarks.bench.measures import BARS, SIZES
from benchmarks.bench.methods import RANDOM
from benchmarks.bench.orders import AS_REPORTED, METRICS, REPORTED, found_order, judge_order, reasons
from benchmarks.bench.peer_tables import tell_peers
from benchmarks.bench.pictures import draw_costs, draw_curves
from benchmarks.bench.presets import PRESETS
from benchmarks.bench.rows import UNTESTED, Row
from benchmarks.bench.summaries import CIRCUITS, Number, Place, Summary, summarise
from benchmarks.bench.truths import COMPILED, RANKS
from circuits.sizes import size_in_words
from graphs.wording import table_in_words

LARGE = 0.1  # the size at which circuits are compared for stability
READING = (
    "Circuits were chosen on the training split and run in the real model on the test split, on prompts that share "
    "nothing with it. Faithfulness is the share of the difference between the clean run and the one where all is "
    "ablated that is left when only the circuit is kept: a ratio of means over prompts. Completeness is the share that "
    "is lost when the circuit alone is ablated. Brackets are 95% intervals over prompts, drawn again with replacement; "
    "with several seeds, means over them. Every number holds under its ablation alone. Seconds and memory are those of "
    "scoring, part by part of the training split (acdc: at six thresholds), not of running the circuits."
)
REMARK = (
    "CPR and CMD are MIB's, trapezoids over ten sizes. 85% of their weight lies on circuits of a fifth of the model "
    "and more: a method whose circuits work only at full size has CPR 0.25 and CMD 0.75, and leaving out what speaks "
    "against the answer takes CPR above 1. CPR is of the highest scores, CMD and all else of the largest sizes. The "
    "log area weighs each doubling of the circuit alike. Matched random circuits are the method's own scores shuffled "
    "within the layers that an edge joins, or a node lies in. The tokens are in every circuit of nodes; edges on no "
    "path from the tokens to the logits are in none. p: the share of log areas, its own among them, as large."
)


def write_report(rows: Sequence[Row], made: Mapping[str, Any]) -> list[Block]:
    """All blocks of the report. made: how the run was made: command, versions, preset."""
    places = summarise(row for row in rows if row.model != COMPILED)
    return [
        Heading("Circuits, benchmarked", 1),
        Words(READING),
        *_tell_models(rows),
        *_tell_places(places, _least_p(made["preset"])),
        *_tell_order(places),
        *_tell_levels(places),
        *_tell_truths(rows),
        *_tell_stability(places),
        *_tell_features(rows),
        *tell_peers(rows),
        *_tell_untested(rows),
        Heading("To run it again"),
        Code(str(made["command"])),
        Words(f"Preset {made['preset']}. " + ", ".join(f"{name} {each}" for name, each in made["versions"].items())),
    ]


def results_in_words(rows: Sequence[Row], preset: str) -> list[str]:
    """What the report has foremost, for a terminal: at each place every method, its CPR, and p against random ones."""
    least, lines = _least_p(preset), []
    for place, methods in summarise(row for row in rows if row.model != COMPILED).items():
        cells = [
            (each.method, _size_of(each), _told(each.get("cpr", "value")), _chance(each, least)) for each in methods
        ]
        lines += [_called(place), *table_in_words([("method", "of", "CPR", "p"), *cells]), ""]
    return [*lines, _least_in_words(least)] if lines else []


def _tell_models(rows: Sequence[Row]) -> Iterator[Block]:
    found = [row for row in rows if row.metric in ("clean", "ablated", "accuracy") and row.split == "test"]
    lost = {(row.task, row.model, row.seed): row for row in rows if row.metric == "share lost"}
    by_cell: dict[tuple[str, str, str, int], dict[str, Row]] = {}
    for row in found:
        by_cell.setdefault((row.task, row.model, row.ablation, row.seed), {})[row.metric] = row
    if not by_cell:
        return
    yield Heading("Tasks and models")
    yield Words("The logit of the right answer less that of the wrong one, on the test split.")
    table = []
    for (task, model, ablation, seed), each in by_cell.items():
        gone = lost.get((task, model, seed))
        share = "" if gone is None else f"{gone.value:.0%}"
        numbers = [_told(each[name]) for name in ("clean", "ablated", "accuracy")]
        table.append(
            [
                task,
                model,
                ablation,
                str(seed),
                f"{each['clean'].count:.0f}",
                *numbers,
                share,
                "" if gone is None else gone.says,
            ]
        )
    columns = ["task", "model", "ablation", "seed", "prompts", "clean", "ablated", "answered rightly", "lost", "note"]
    yield Table(columns, table)


def _tell_places(places: Mapping[Place, Sequence[Summary]], least: float) -> Iterator[Block]:
    if not places:
        return
    yield Heading("Faithfulness")
    yield Words(f"{REMARK} {_least_in_words(least)}")
    columns = ["method", "of", "CPR", "CMD", "log area", "matched random", "p"]
    columns += [f"smallest at {bar}" for bar in BARS]
    columns += ["completeness there", "KL there, nats", "minimality", "seconds", "memory"]
    for place, methods in places.items():
        yield Heading(_called(place), 3)
        yield Table(columns, [_row_of(each, least) for each in methods])
        yield Figure(f"curves {' '.join(place)}", draw_curves(place, methods))
    for model in dict.fromkeys(place.model for place in places):
        some = [(place, methods) for place, methods in places.items() if place.model == model]
        yield Figure(f"cost {model}", draw_costs(some))


def _called(place: Place) -> str:
    return f"{place.task} in {place.model}, {place.ablation} ablation"


def _size_of(method: Summary) -> str:
    return f"{method.get('log area').count:.0f} {method.level}"


def _least_p(preset: str) -> float:
    """The lowest p that so many random circuits allow."""
    return 1 / (1 + PRESETS[preset].controls)


def _least_in_words(least: float) -> str:
    return f"With {1 / least - 1:.0f} random circuits p is {least:.2g} or more, and marked where it is no more."


def _chance(method: Summary, least: float) -> str:
    p = method.get("p of log area").value
    return f"{_figure(p)} (the least)" if p <= least * (1 + 1e-9) else _figure(p)


def _row_of(method: Summary, least: float) -> list[str]:
    small = [method.get(f"smallest at {bar}") for bar in BARS]
    # A mean over seeds is no size that was run: the next larger one is.
    at = next((size for size in SIZES if size >= small[-1].value), math.nan)
    there = [method.get(name, size=at) for name in ("completeness", "kl")]
    return [
        method.method,
        _size_of(method),
        _told(method.get("cpr", "value")),
        _told(method.get("cmd")),
        _told(method.get("log area")),
        _told(method.get("log area of matched random")),
        _chance(method, least),
        *(f"{each.count:.0f} ({each.value:.2g} of all)" if math.isfinite(each.value) else "none" for each in small),
        *(_told(each) for each in there),
        _told(method.get("minimality")),
        f"{method.seconds:.2g}",
        size_in_words(method.peak_memory) if math.isfinite(method.peak_memory) else "",
    ]


def _tell_order(places: Mapping[Place, Sequence[Summary]]) -> Iterator[Block]:
    told = {place: methods for place, methods in places.items() if sum(each.method in REPORTED for each in methods) > 1}
    if not told:
        return
    yield Heading("The order of the literature")
    yield Words(
        "Reported of IOI in GPT-2 small, by CPR: patching of every edge 2.30, EAP-IG 1.85, EAP 1.20, random 0.25 "
        "(Mueller et al. 2025). Two methods with ≈ between them differ by less than noise makes likely."
    )
    table, why = [], {}
    for place, methods in told.items():
        verdict = judge_order(methods)
        ranks = [(each.method, each.get("rank correlation with exact").value) for each in methods]
        near = ", ".join(f"{name} {rank:.2f}" for name, rank in ranks if name in REPORTED and not math.isnan(rank))
        table.append([*place, *(found_order(methods, *each) for each in METRICS), near, verdict])
        for reason in reasons(methods) if verdict != AS_REPORTED else ():
            why.setdefault(reason, []).append(place.task)
    columns = ["task", "model", "ablation", "by CPR", "by log area", "rank correlation with patching", "verdict"]
    yield Table(columns, table)
    for reason, tasks in why.items():
        yield Words(f"{reason} ({', '.join(dict.fromkeys(tasks))})")


def _tell_levels(places: Mapping[Place, Sequence[Summary]]) -> Iterator[Block]:
    """Circuits of other things at equal faithfulness; only methods that do not draw by lot."""
    rows = []
    for place, methods in places.items():
        for bar in BARS:
            best = [_smallest_of(methods, level, bar) for level in CIRCUITS]
            if sum(bool(each) for each in best) > 1:
                rows.append([*place, str(bar), *(each or "not run" for each in best)])
    if rows:
        yield Heading("How many units each needs, at equal faithfulness")
        yield Words(
            "The smallest of the ten sizes at which the circuit, and every larger one, reaches the bar; of the method "
            "that needs fewest. Nodes are heads and MLPs; neurons are those of MLPs, beside heads; "
            "features are those of a set, beside heads, with one node a layer for what they miss."
        )
        yield Table(["task", "model", "ablation", "bar", *CIRCUITS], rows)


def _smallest_of(methods: Sequence[Summary], level: str, bar: float) -> str:
    known = [
        (each.get(f"smallest at {bar}"), each)
        for each in methods
        if each.level == level and each.method != RANDOM[level]
    ]
    if not known:
        return ""
    reached = [(number.count, each) for number, each in known if math.isfinite(number.value)]
    if not reached:
        return "none"
    count, each = min(reached, key=lambda found: found[0])
    drawn = [each.get(f"smallest at {bar}").count for each in methods if each.method == RANDOM[level]]
    beside = f"; random {drawn[0]:.0f}" if drawn else ""
    return f"{count:.0f} of {each.get('log area').count:.0f} ({each.method}{beside})"


def _tell_truths(rows: Sequence[Row]) -> Iterator[Block]:
    found = [row for row in rows if row.model == COMPILED and row.metric in RANKS]
    for level in dict.fromkeys(row.level for row in found):
        for ablation in dict.fromkeys(row.ablation for row in found if row.level == level):
            here = [row for row in found if (row.level, row.ablation) == (level, ablation)]
            yield Heading(f"Known circuits: {level}, {ablation} ablation")
            methods = list(dict.fromkeys(row.method for row in here))
            tasks = list(dict.fromkeys(row.task for row in here))
            yield Words(
                "Area under the ROC curve of the scores' sizes against the true ones, found by brute force, ties "
                "counted as ties; behind it the share of the true ones that have a score at all. Random scores are "
                "means over two hundred draws."
            )
            table = [[task, *(_ranked(here, task, method) for method in methods)] for task in tasks]
            known = [row for row in here if row.metric == "auroc" and not math.isnan(row.value)]
            mean = [_figure(_mean([row.value for row in known if row.method == each])) for each in methods]
            yield Table(["program", *methods], [*table, ["mean", *mean]])
            yield Words(_truth_in_words(here, methods))


def _truth_in_words(rows: Sequence[Row], methods: Sequence[str]) -> str:
    said = []
    for method in methods:
        areas = [row for row in rows if row.method == method and row.metric == "auroc" and not math.isnan(row.value)]
        if not areas:
            continue
        if "random" in method:
            mean = _mean([row.value for row in areas])
            said.append(f"{method}: {mean:.2f} in the mean, chance is 0.50")
        elif method.startswith("exact"):
            short = [f"{row.task} {row.value:.2f}" for row in areas if row.value < 1]
            said.append(
                f"{method}: 1.00 on all {len(areas)}" if not short else f"{method}: below 1.00 on {', '.join(short)}"
            )
    return "; ".join(said) + "." if said else ""


def _ranked(rows: Sequence[Row], task: str, method: str) -> str:
    found = {
        name: [row.value for row in rows if (row.task, row.method, row.metric) == (task, method, name)]
        for name in RANKS
    }
    area, recalled = (_mean(found[name]) for name in ("auroc", "recall"))
    if math.isnan(recalled):
        return ""
    return f"{'all or none are true' if math.isnan(area) else _figure(area)}, {recalled:.0%}"


def _tell_stability(places: Mapping[Place, Sequence[Summary]]) -> Iterator[Block]:
    over = ("batches", "phrasings", "seeds")
    rows = []
    for place, methods in places.items():
        for each in methods:
            plain = [each.get(f"jaccard over {name}", size=LARGE) for name in over]
            weighted = [each.get(f"weighted jaccard over {name}") for name in over]
            if any(not math.isnan(number.value) for number in (*plain, *weighted)):
                rows.append([*place, each.method, *(_told(number) for number in (*plain, *weighted))])
    if rows:
        yield Heading("Stability")
        yield Words(
            f"How alike the circuits of {LARGE:.0%} of all units are that resampled batches of the training split, "
            "its phrasings, or other seeds give: the mean Jaccard index over all pairs, the least and the largest. "
            "Weighted: of the scores' sizes. 0.8 has been proposed as the bar of a stable circuit."
        )
        columns = [*(f"over {name}" for name in over), *(f"weighted, over {name}" for name in over)]
        yield Table(["task", "model", "ablation", "method", *columns], rows)


def _tell_features(rows: Sequence[Row]) -> Iterator[Block]:
    found = [row for row in rows if row.level == "graphs" and row.metric != UNTESTED]
    if not found:
        return
    yield Heading("Graphs of features")
    yield Words(
        "Prompts of the test split, each traced for the right answer less the wrong one and pruned. Areas are those "
        "under what survives as units come back, most influential first; behind them those of random sets as large, in "
        "the same layers and places."
    )
    table = []
    for (task, model, method), those in _grouped(found, "task", "model", "method").items():
        plain = [_told(_number(those, name, "")) for name in ("graph nodes", "graph replacement", "graph completeness")]
        kinds = dict.fromkeys((row.ablation, row.metric) for row in those if row.metric.startswith("area, "))
        areas = [
            f"{ablation}, {metric.removeprefix('area, ')}: {_told(_number(those, metric, ablation))}, random "
            f"{_figure(_number(those, metric.replace('area,', 'area of matched random,'), ablation).value)}"
            for ablation, metric in kinds
            if not math.isnan(_number(those, metric, ablation).value)
        ]
        table.append(
            [
                task,
                model,
                method,
                f"{sum(row.count for row in those if row.metric == 'graph nodes'):.0f}",  # of all seeds
                *plain,
                "; ".join(areas) or "no graph has a feature",
                f"{_mean([row.seconds for row in those]):.2g}",
            ]
        )
    columns = [
        "task",
        "model",
        "method",
        "prompts",
        "nodes",
        "replacement",
        "completeness",
        "areas",
        "seconds a prompt",
    ]
    yield Table(columns, table)
    claims = [row for row in found if row.metric.startswith("supported: ")]
    table = []
    for (claim,), those in _grouped(claims, "metric").items():
        tested = [row for row in those if not math.isnan(row.value)]
        supported, of = (
            sum(each) for each in ([row.value * row.count for row in tested], [row.count for row in tested])
        )
        said = "untested" if not tested else f"{supported:.0f} of {of:.0f} prompts"
        why = "; ".join(dict.fromkeys(row.says.removeprefix("untested: ") for row in those if row not in tested))
        table.append([str(claim).removeprefix("supported: "), said, why])
    yield Words("What the assay's verdicts support, over all tasks:")
    yield Table(["claim", "supported on", "why not on others"], table)


def _tell_untested(rows: Sequence[Row]) -> Iterator[Block]:
    found = _grouped([row for row in rows if row.metric == UNTESTED], "task", "model", "says")
    if found:
        yield Heading("What could not be measured, and why")
        table = [
            [task, model, ", ".join(dict.fromkeys(row.method for row in those)), says]
            for (task, model, says), those in found.items()
        ]
        yield Table(["task", "model", "methods", "why"], table)


def _grouped(rows: Sequence[Row], *names: str) -> dict[tuple[str, ...], list[Row]]:
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(getattr(row, name) for name in names), []).append(row)
    return found


def _number(rows: Sequence[Row], metric: str, ablation: str) -> Number:
    found = [row for row in rows if (row.metric, row.ablation) == (metric, ablation)]
    columns = ("value", "low", "high", "count")
    return Number(*(_mean([getattr(row, name) for row in found]) for name in columns))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _told(number: Number | Row) -> str:
    if math.isnan(number.value):
        return ""
    between = "" if math.isnan(number.low) else f" [{_figure(number.low)}, {_figure(number.high)}]"
    return f"{_figure(number.value)}{between}"


def _figure(value: float) -> str:
    if math.isnan(value):
        return ""
    return "none" if math.isinf(value) else f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"
