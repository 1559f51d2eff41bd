"""The report on methods held to what is true: tables out of the results, and why methods miss what they miss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import mean, stdev
from typing import Any

from benchmarks.truth.judging import HELD_UNDER, READERS, SEARCH
from circuits.attribution import EDGE_METHODS, PART_METHODS

HAND, TRACR = "compiled here", "compiled with Tracr"
SEEDS = 20  # of scores drawn by lot
HIDDEN = ("either", "backup", "cancelling")  # where cuts of one edge do not tell all
OF_EDGES = (*EDGE_METHODS, SEARCH)
Row = dict[str, Any]

HEAD = """# Methods held to what is true

Made by `python -m benchmarks.truth FOLDER`. Transformers whose circuits are known: compiled here by hand from blocks
(benchmarks/truth/programs), and those of the folder, compiled with Tracr. Each layer of ours also has an idle head, and
an idle MLP where the program has none, which write what nobody reads.

- **Found**: edges that matter when they alone are cut under that ablation, by brute force: a run of the circuit without
  it moves the metric of some pair by more than 1e-6 logits. For Tracr's it is what their folder says: some logit by
  more than 1e-3. Scores are held to these.
- **Designed**: the edges by which a program was wired. Redundancy hides some of them from single cuts; cut two at a
  time they show (`together`: those that matter alone or once one other is cut).
- Recall: the share of the true edges that get a score above a millionth of the largest. Precision: the share of what
  gets one that is true. AUROC: the chance that a true edge has the larger score, ties half. AP: average precision.
  Needed: how many of the strongest edges have to be taken until all true ones are in, over how many are true. Top: on
  how many programs these are just the true ones. Means over programs.
- Integrated gradients take 10 steps. ACDC, at a threshold of 1e-3 logits, leaves a set: scores of 1 and 0. Information
  flow and random scores know no ablation.
"""

WHY = """## Where methods miss, and why

- **Saturated patterns and steps have no gradient** (METHODS 8.8). A head that looks at one position only, sure to
  e^-100, does not change for a small change of its queries or keys, nor does a neuron that is off, nor a step that has
  been climbed. EAP and RelP see the clean run only, and clean-corrupted finds no gradient at either end: most of what
  they miss is read by queries and keys, and what lies before a blind reader is missed with it.
- **Points between the prompts help**, as in EAP-IG, where one of them falls on the way up: halfway, the pattern is
  divided. Where the change is over within less than a step, none does, until there are more: see the table of steps.
- **Soft patterns**: `induction-soft`, the same wiring with gradients let through, gives all of these full recall.
- **An OR gate** (`either`): with both signs there, no edge of its heads matters alone. Exact patching gives them
  nothing, and so does EAP; only a cut of both shows them. EAP-IG gives them a score, since between the prompts the gate
  is not yet full: against single cuts that counts as wrong, against the wiring as right. ACDC leaves one way in, the
  one it tries last.
- **Self-repair** (`backup`): cutting what the first head reads wakes the second, and the answer stays. Only the edge by
  which the first speaks matters alone: the second still sees that it has spoken. As a node the first head does not
  matter, though it is what says the answer on every prompt. ACDC leaves the first head's way and not the second's.
- **What cancels** (`cancelling`): each edge of the two opposite heads matters alone; what they read does not, nor does
  the head that writes it as a node. All of it may be cut at once with no effect: to matter alone and to be needed are
  two things. ACDC takes out the half whose absence happens to make the answer stronger, and then needs the rest.
- **AtP\\*** drops each layer in turn; in models of two layers what acts through the dropped one alone gets nothing,
  which costs it nodes that AtP has. Its corrections of queries and keys need heads apart, and here are none.
- **Truth depends on the ablation.** `indirect-object` under zero or mean does not need its marks: the head that brings
  the marked name, seeing none, brings a mean in which that name counts double, and that is enough. With norms
  (`induction-normed`) whatever changes the length of the stream matters a little, under all but resample.
- **Two logits are not all.** Of Tracr's `hist` and `hist_soft` one edge under mean moves a logit that is neither the
  right nor the wrong answer, so that exact patching of their difference gives it nothing. And of `reverse` and `sort`
  it finds, under zero or mean, one or two edges that move it by less than their folder's tolerance.
- **Nearness is not use**: information flow gives idle heads as much as others.
"""


def report(results: dict[str, Any]) -> str:
    """The whole of it, in Markdown."""
    parts = [HEAD]
    for origin in (HAND, TRACR):
        truths = [truth for truth in results["truths"] if truth["origin"] == origin]
        rows, steps = ([row for row in results[name] if row["origin"] == origin] for name in ("rows", "steps"))
        if truths:
            parts += [
                f"## {len(truths)} programs {origin}\n",
                _programs(truths),
                *_edges(rows, results["random"][origin]),
            ]
            parts += [_steps(steps)] if steps else []
            parts += [_designed(rows)] if origin == HAND else []
            parts += [_missed(rows, truths), _nodes(rows)]
    parts.append(WHY)
    about = results["machine"]
    parts.append(f"{about['cpu']}, {about['cores']} cores; torch {about['torch']}.\n")
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)]) + "\n"


def _mean(rows: Iterable[Row], name: str | Callable[[Row], float | None]) -> str:
    values = [row[name] if isinstance(name, str) else name(row) for row in rows]
    known = [value for value in values if value is not None]
    return f"{mean(known):.2f}" if known else "–"


def _needed(row: Row) -> float | None:
    return row["needed"] / row["true"] if row["true"] else None


def _programs(truths: list[Row]) -> str:
    head = (
        "program",
        "what it says",
        "edges",
        "designed",
        *(f"found, {each}" for each in HELD_UNDER),
        "together",
        "nodes",
    )
    return _table(
        head,
        (
            (
                truth["name"],
                truth["about"],
                truth["edges"],
                truth["designed"],
                *(truth["found"][ablation] for ablation in HELD_UNDER),
                "–" if truth["together"] is None else truth["together"],
                truth["nodes"],
            )
            for truth in truths
        ),
    )


def _of(rows: list[Row], what: str, method: str, ablation: str = "resample") -> list[Row]:
    wanted = (what, method, ablation)
    return [row for row in rows if (row["what"], row["method"], row["ablation"]) == wanted]


def _summary(rows: list[Row], what: str, methods: Sequence[str]) -> str:
    head = ("method", "recall", "precision", "AUROC", "AP", "needed", "top")
    lines = []
    for method in methods:
        own = _of(rows, what, method)
        top = sum(row["needed"] == row["true"] for row in own)
        names = ("recall", "precision", "ranking", "average_precision", _needed)
        lines.append((method, *(_mean(own, name) for name in names), f"{top} of {len(own)}"))
    return _table(head, lines)


def _edges(rows: list[Row], luck: list[float]) -> list[str]:
    names = list(dict.fromkeys(row["truth"] for row in rows))
    cells = {
        (
            row["truth"],
            row["method"],
        ): f"{row['recall']:.2f}, {'–' if row['ranking'] is None else format(row['ranking'], '.2f')}"
        for row in rows
        if row["what"] == "edges" and row["ablation"] == "resample"
    }
    half = 1.96 * stdev(luck) / math.sqrt(len(luck))
    inside = "inside" if abs(mean(luck) - 0.5) <= half else "outside"
    return [
        "Edges that matter alone under resample:\n",
        _summary(rows, "edges", OF_EDGES),
        f"Random scores, {len(luck)} seeds: mean AUROC {mean(luck):.3f} ± {half:.3f} (95 %), chance {inside}.\n",
        "Recall and AUROC under each ablation, each held to what matters under it:\n",
        _table(
            ("method", *HELD_UNDER),
            (
                (
                    method,
                    *(
                        f"{_mean(own, 'recall')}, {_mean(own, 'ranking')}"
                        for own in (_of(rows, "edges", method, ablation) for ablation in HELD_UNDER)
                    ),
                )
                for method in OF_EDGES
            ),
        ),
        "Recall and AUROC on each program, resample:\n",
        _table(("program", *OF_EDGES), ((name, *(cells[name, method] for method in OF_EDGES)) for name in names)),
    ]


def _steps(rows: list[Row]) -> str:
    counts = list(dict.fromkeys(row["steps"] for row in rows))
    recalls = {(row["truth"], row["steps"]): f"{row['recall']:.2f}" for row in rows}
    body = [(name, *(recalls[name, count] for count in counts)) for name in dict.fromkeys(row["truth"] for row in rows)]
    text = "Recall of EAP-IG with more steps, resample, where the fewest miss an edge:\n\n"
    return text + _table(("program", *(f"{count} steps" for count in counts)), body)


def _designed(rows: list[Row]) -> str:
    def recalls(method: str) -> Iterable[str]:
        for name in HIDDEN:
            yield _mean((row for row in _of(rows, "designed edges", method) if row["truth"] == name), "recall")

    body = [
        (
            method,
            *(_mean(_of(rows, "designed edges", method), name) for name in ("recall", "precision", "ranking")),
            *recalls(method),
        )
        for method in OF_EDGES
    ]
    text = "Held to the designed edges instead, resample; and the recall where single cuts do not tell all:\n\n"
    return text + _table(("method", "recall", "precision", "AUROC", *HIDDEN), body)


def _missed(rows: list[Row], truths: list[Row]) -> str:
    total = {reader: sum(truth["readers"][reader] for truth in truths) for reader in READERS}
    body = []
    for method in OF_EDGES:
        own = _of(rows, "edges", method)
        body.append((method, *(sum(row.get("missed", {}).get(reader, 0) for row in own) for reader in READERS)))
    text = "Edges that matter alone and get no score, resample, by what reads them:\n\n"
    return text + _table(("method", *READERS), [("of", *total.values()), *body])


def _nodes(rows: list[Row]) -> str:
    text = (
        "Nodes that matter when all edges from one are cut, resample; methods of edges by the strongest edge out:\n\n"
    )
    return text + _summary(rows, "nodes", (*PART_METHODS, *OF_EDGES))
