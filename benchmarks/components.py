"""Component circuits beside EAP-IG and TransformerLens: `python -m benchmarks.components [part ...]`.

    agreement   EAP, EAP-IG over inputs and activations with both conventions of the steps, clean-corrupted, and what
                the circuit chosen from each keeps: the same numbers as EAP-IG's, within 1e-4
    edges       how fast, and in how much memory, against EAP-IG: 6 layers of width 256, 32 prompts of 32 tokens
    sweeps      activation patching of 12 × 12 heads against TransformerLens's own functions

Models are GPT-2s with random weights in a folder that both sides load. Both take turns in one run, on one thread each,
medians of five; what counts is CPU time. Results go to benchmarks/results/components.json, and from there to
components.md after every part; parts that are not run again keep what they had.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.peers.cases import Case
from benchmarks.peers.component_jobs import INSTALL, PEER, Peer, Work, make_work
from benchmarks.peers.processes import Spent, is_installed, medians
from benchmarks.speed import machine, spend
from circuits.attribution import EDGE_METHODS
from circuits.components.finding import find
from circuits.components.metrics import METRICS
from circuits.components.patching import patch_activations

RESULTS = Path(__file__).parent / "results"
NEAR = 1e-4
SMALLEST = 1e-6  # of the largest score: edges below it are held to the largest, not to themselves
DTYPES = ("float64", "float32")
METRIC_NAMES = ("logit-difference", "probability-difference")
SHAPES = [Case("gpt2", layers=layers, width=32, heads=heads, tokens=8) for layers, heads in ((2, 4), (3, 2), (4, 8))]
WAYS: dict[str, tuple[str, dict[str, Any], int]] = {  # method, our options, by how many steps its points are later
    "eap": ("eap", {}, 0),
    "eap-ig, from corrupted (its own)": ("eap-ig", {"steps": 4, "begin": "corrupted"}, 0),
    "eap-ig, from clean": ("eap-ig", {"steps": 4, "begin": "clean"}, 1),
    "eap-ig-activations, from clean (its own)": ("eap-ig-activations", {"steps": 3, "begin": "clean"}, 0),
    "eap-ig-activations, from corrupted": ("eap-ig-activations", {"steps": 3, "begin": "corrupted"}, -1),
    "clean-corrupted": ("clean-corrupted", {}, 0),
}
REPEATS = 5
BATCH = 32
EDGES = [Case("gpt2", layers=6, width=256, heads=heads, tokens=32) for heads in (8, 4)]
STEPS = 5
AIMS = {"eap": (5.0, 0.25), "eap-ig": (4.0, None)}  # times as fast, share of the memory
SWEEP_AIM = 5.0
SWEPT = Case("gpt2", layers=12, width=384, heads=12, tokens=15)
SWEEPS = [(SWEPT, 1, 10), (SWEPT, 1, 1), (SWEPT, 4, 10), (SWEPT, 4, 1)]  # pairs, first tokens that the prompts share


# -- the same numbers -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """How far one method's scores, and the circuit chosen from them, are from the peer's.

    edges: the largest |difference| of an edge's score over the largest score. each: over the edge's own score, of
        edges above 1e-6 of the largest. chosen: edges that only one side chose for its circuit. kept: the largest
        |difference| of the metric of clean run, corrupted run and circuit, over how far the first two are apart.
    """

    case: str
    dtype: str
    metric: str
    way: str
    edges: float
    each: float
    chosen: int
    kept: float

    @property
    def holds(self) -> bool:
        """In float32 an edge whose terms cancel is no nearer to itself than rounding is to the largest."""
        exact = self.dtype == "float64"
        return max(self.edges, self.kept, self.each if exact else 0) <= NEAR and (self.chosen == 0 or not exact)


def compare(work: Work, peer: Peer, name: str, dtype: str, metric: str, way: str) -> Agreement:
    """One method by both, on the same pairs at once."""
    method, options, later = WAYS[way]
    file = work.folder / "found.npz"
    steps = {"steps": options["steps"]} if options else {}
    peer.score(method, metric=metric, later=later, **steps, save=file)
    theirs = np.load(file)["found"]
    count = work.transformer.heads * 12
    peer.evaluate(count, file, metric=metric)
    kept = dict(np.load(file))
    ours = find(work.model, [work.pairs], method=method, metric=metric, edges=count, batch=BATCH, **options)
    apart, largest = np.abs(ours.scores - theirs), np.abs(theirs).max()
    counted = np.abs(theirs) > SMALLEST * largest
    ends = {"clean": ours.clean, "corrupted": ours.corrupted, "kept": ours.kept}
    moved = [abs(value - kept[end].mean()) for end, value in ends.items()]
    return Agreement(
        case=f"{name}, {len(work.pairs)} pairs",
        dtype=dtype,
        metric=metric,
        way=way,
        edges=float(apart.max() / largest),
        each=float((apart[counted] / np.abs(theirs)[counted]).max()),
        chosen=int((ours.chosen != kept["chosen"]).sum()),
        kept=float(max(moved) / abs(kept["clean"].mean() - kept["corrupted"].mean())),
    )


def name_of(case: Case) -> str:
    return f"{case.layers} layers, width {case.width}, {case.heads} heads, {case.tokens} tokens"


def measure_agreement() -> dict[str, Any]:
    found = []
    for case in SHAPES:
        for dtype in DTYPES:
            work = make_work(case, 6, dtype)
            with Peer(work.folder) as peer:
                for metric in METRIC_NAMES:
                    found += [compare(work, peer, name_of(case), dtype, metric, way) for way in WAYS]
    return {"rows": [{**vars(each), "holds": each.holds} for each in found]}


# -- fast and small ---------------------------------------------------------------------------------------------------


def measure_edges() -> dict[str, Any]:
    """One batch of 32 pairs. The peer's parameters take no gradients where it can do without, which saves it time."""
    rows = []
    for case in EDGES:
        work = make_work(case, BATCH)
        with Peer(work.folder) as peer:
            for method, (aim, room) in AIMS.items():
                options = {"steps": STEPS} if method == "eap-ig" else {}
                ours = partial(
                    EDGE_METHODS[method], work.transformer, work.pairs, METRICS["logit-difference"], **options
                )
                theirs = partial(peer.score, method, batch=BATCH, frozen=method != "eap", **options)
                ours(), theirs()
                rows.append({"case": name_of(case), "method": method, **_race(ours, theirs), "aim": aim, "room": room})
    return {"rows": rows}


def measure_sweeps() -> dict[str, Any]:
    """Denoising, the mean logit difference, every head at all positions."""
    rows = []
    for case, pairs, same in SWEEPS:
        work = make_work(case, pairs, same=same)
        with Peer(work.folder) as peer:
            peer.sweep(save=work.folder / "sweep.npz")
            ours = patch_activations(work.transformer, work.pairs)
            theirs = np.load(work.folder / "sweep.npz")["found"] - ours.corrupted
            apart = float(np.abs(ours.effect - theirs).max() / np.abs(theirs).max())
            figures = _race(partial(patch_activations, work.transformer, work.pairs), peer.sweep)
        rows.append({"case": name_of(case), "pairs": pairs, "same": same, "apart": apart, **figures, "aim": SWEEP_AIM})
    return {"rows": rows}


def _race(ours: Callable[[], Any], theirs: Callable[[], Spent]) -> dict[str, Any]:
    """Medians of both sides, and the median of the ratios of runs beside each other."""
    spent = [(spend(ours, fresh=True), theirs()) for _ in range(REPEATS)]
    mine, other = (medians(side) for side in zip(*spent, strict=True))
    ratio = median(b.cpu / a.cpu for a, b in spent)
    print(f"{ratio:.1f} times as fast: {other.cpu:.2f} s, {mine.cpu:.2f} s", file=sys.stderr, flush=True)
    return {
        "ours": vars(mine),
        "peer": vars(other),
        "ratio": ratio,
        "wall ratio": median(b.wall / a.wall for a, b in spent),
        "memory": mine.peak / other.peak if other.peak else float("nan"),
    }


# -- the report -------------------------------------------------------------------------------------------------------

HEAD = """\
# Component circuits beside EAP-IG and TransformerLens

Made by `python -m benchmarks.components`. The peers are hannamw/EAP-IG at 795f560 and TransformerLens 3.2.1 with torch
2.13.0, in an environment of their own. Models are GPT-2s with random weights in a folder that both sides load; their
vocabulary is 1000, so that the peers' logits at every position cost little. One thread each, turns taken in one run,
medians of five; seconds are CPU seconds. Other work ran on the machine meanwhile: trust the ratios, not the seconds.
"""
AGREEMENT = """\
## The same numbers

The worst over {} and both metrics. Edges: the largest
difference of a score over the largest score; each: over the edge's own score, of edges above 1e-6 of the largest.
Chosen: edges that only one side put into its circuit. Kept: the difference of the metric that clean run, corrupted run
and circuit have, over what the first two are apart. At most 1e-4 is wanted, of `kept` and in float64 of each edge by
itself; in float32, where the terms of an edge may cancel, of the largest. EAP-IG's scores are stored in float32. `its
own`: where its program begins its steps; the others are its program with every step moved by one.
"""
SCORES = """\
## Edge scores

{} pairs in one batch; integrated gradients in {} steps. MB: how far memory rose above what was loaded; share: ours over
the peer's. The peer's parameters take no gradients in its EAP-IG, which saves it time; its EAP cannot do without.
"""
PATCHING = """\
## Activation patching

Every head at all positions, denoising, against `get_act_patch_attn_head_out_all_pos` of TransformerLens 3.2.1 on its
HookedTransformer. Same tokens: how many the prompts have in common at their beginning, as prompts of one template have;
neither side is told. Apart: the largest difference over the largest effect. Where the prompts differ from their second
token on, what is left to save are the layers below a head and most of the last one, a little over half of all products;
the rest comes of many heads in one product, and of that there is less to gain the more pairs there are.
"""


def report(results: dict[str, Any]) -> str:
    """The results as tables."""
    lines = [HEAD]
    for name, part in PARTS.items():
        if name in results:
            where = results[name]["machine"]
            at = f"{where['cpu']}, {where['cores']} cores, load {where['load']:.1f}; torch {where['torch']}."
            lines += [*part.table(results[name]["rows"]), "", at, ""]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(str(cell) for cell in row)} |" for row in cells]


def _table_agreement(rows: list[dict[str, Any]]) -> list[str]:
    cells = []
    for way in WAYS:
        for dtype in DTYPES:
            some = [row for row in rows if row["way"] == way and row["dtype"] == dtype]
            edges, each, kept = (f"{max(row[name] for row in some):.0e}" for name in ("edges", "each", "kept"))
            holds = "yes" if all(row["holds"] for row in some) else "no"
            cells.append([way, dtype, edges, each, sum(row["chosen"] for row in some), kept, holds])
    models = f"models of {', '.join(f'{case.layers} × {case.heads}' for case in SHAPES)} heads"
    head = ["method", "dtype", "edges", "each", "chosen", "kept", "holds"]
    return [AGREEMENT.format(models), *_table(head, cells)]


def _table_edges(rows: list[dict[str, Any]]) -> list[str]:
    cells = []
    for r in rows:
        met = r["ratio"] >= r["aim"] and (r["room"] is None or r["memory"] <= r["room"])
        room = "" if r["room"] is None else f", ≤ {r['room']} of the memory"
        memory = [*(f"{r[side]['peak'] / 1e6:.0f}" for side in ("peer", "ours")), f"{r['memory']:.2f}"]
        aim = [f"≥ {r['aim']:.0f} ×{room}", "met" if met else "missed"]
        cells.append([r["case"], r["method"], *_figures(r), *memory, *aim])
    head = ["model", "method", *FIGURES, "peer MB", "ours MB", "share", "aim", ""]
    return [SCORES.format(BATCH, STEPS), *_table(head, cells)]


def _table_sweeps(rows: list[dict[str, Any]]) -> list[str]:
    cells = []
    for r in rows:
        aim = [f"≥ {r['aim']:.0f} ×", "met" if r["ratio"] >= r["aim"] else "missed"]
        cells.append([r["case"], r["pairs"], r["same"], *_figures(r), f"{r['apart']:.0e}", *aim])
    return [PATCHING, *_table(["model", "pairs", "same tokens", *FIGURES, "apart", "aim", ""], cells)]


FIGURES = ("peer s", "ours s", "times as fast", "by the clock")


def _figures(r: dict[str, Any]) -> list[str]:
    return [f"{r['peer']['cpu']:.2f}", f"{r['ours']['cpu']:.2f}", f"{r['ratio']:.1f}", f"{r['wall ratio']:.1f}"]


@dataclass(frozen=True)
class Part:
    """A part of the run, and how its rows are told."""

    measure: Callable[[], dict[str, Any]]
    table: Callable[[list[dict[str, Any]]], list[str]]


PARTS = {
    "agreement": Part(measure_agreement, _table_agreement),
    "edges": Part(measure_edges, _table_edges),
    "sweeps": Part(measure_sweeps, _table_sweeps),
}


def main(arguments: Sequence[str]) -> int:
    """Run the parts asked for, or all. Exit code 1 if numbers are apart."""
    strange = [name for name in arguments if name not in PARTS]
    if strange:
        print(f"there is no part {strange[0]!r}; there are {', '.join(PARTS)}.", file=sys.stderr)
        return 2
    if not is_installed(PEER):
        print(INSTALL, file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    file, held = RESULTS / "components.json", True
    for name in arguments or PARTS:
        found = {**PARTS[name].measure(), "machine": machine()}
        results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        results[name] = found
        file.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (RESULTS / "components.md").write_text(report(results), encoding="utf-8")
        print("\n".join(PARTS[name].table(found["rows"])), flush=True)
        held = held and all(row.get("holds", True) for row in found["rows"])
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
