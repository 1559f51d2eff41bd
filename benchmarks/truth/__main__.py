"""Methods held to transformers whose circuits are known: `python -m benchmarks.truth [FOLDER]`.

Every method of edges, of nodes, and ACDC, on every program compiled here and, where FOLDER is given, on those that were
compiled with Tracr there; under each ablation. Results go to benchmarks/results/truth.json, and from there to truth.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.speed import machine
from benchmarks.truth import TRUTHS, Truth, load_truths
from benchmarks.truth.judging import HELD_UNDER, by_reader, judge
from benchmarks.truth.reporting import HAND, SEEDS, TRACR, report
from benchmarks.truth.scoring import Score
from circuits.components.edge_scores import components_of

COLUMNS = ("origin", "truth", "ablation", "method", "what", *(each.name for each in fields(Score)), "missed")
MORE_STEPS = (10, 100, 400)
RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="a folder of transformers compiled with Tracr")
    folder = parser.parse_args().folder
    told = load_truths(folder) if folder else []
    if folder and not told:
        parser.error(f"no program is in {folder}: folders with a ground_truth.json are wanted, one for each.")
    truths = [(HAND, make()) for make in TRUTHS.values()] + [(TRACR, truth) for truth in told]
    about, rows, steps = [], [], []
    for origin, truth in truths:
        began = time.perf_counter()
        about.append({"origin": origin, **_about(truth, together=origin == HAND)})
        rows += [{"origin": origin, **row} for row in _rows(truth)]
        steps += [{"origin": origin, **row} for row in _with_steps(truth)]
        print(f"{truth.name}, {origin}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    luck = {
        origin: [_luck([truth for of, truth in truths if of == origin], seed) for seed in range(SEEDS)]
        for origin in dict.fromkeys(of for of, _ in truths)
    }
    results: dict[str, Any] = {"machine": machine(), "truths": about, "random": luck, "steps": steps, "rows": rows}
    (RESULTS / "truth.json").write_text(_lines(results), encoding="utf-8")
    (RESULTS / "truth.md").write_text(report(results), encoding="utf-8")


def _lines(results: dict[str, Any]) -> str:
    """The results as JSON, one row a line, its columns in the order of the first line."""
    rows = [list(COLUMNS), *([row.get(name) for name in COLUMNS] for row in results["rows"])]
    rest = json.dumps({name: value for name, value in results.items() if name != "rows"}, indent=1)
    return rest[:-2] + ',\n "rows": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n ]\n}\n"


def _about(truth: Truth, *, together: bool) -> dict[str, Any]:
    """What is true of it."""
    found = {ablation: truth.found(ablation) for ablation in HELD_UNDER}
    return {
        "name": truth.name,
        "about": truth.about,
        "pairs": len(truth.pairs),
        "edges": int(components_of(truth.transformer).edges.sum()),
        "designed": int(truth.designed.sum()),
        "found": {ablation: int(edges.sum()) for ablation, edges in found.items()},
        "readers": by_reader(truth, found["resample"]),
        "together": int(truth.found_together("resample").sum()) if together else None,
        "nodes": int(truth.found_nodes("resample").sum()),
    }


def _rows(truth: Truth) -> Iterator[dict[str, Any]]:
    """Every judgement of it; None where there is no number."""
    for ablation in HELD_UNDER:
        for each in judge(truth, ablation):
            if each.what == "designed edges" and ablation != "resample":
                continue
            numbers = {name: round(value, 4) if value == value else None for name, value in vars(each.score).items()}
            missed = {name: count for name, count in each.missed.items() if count}
            yield vars(each) | numbers | {"missed": missed}


def _with_steps(truth: Truth, method: str = "eap-ig") -> list[dict[str, Any]]:
    """What more steps give integrated gradients; nothing where the fewest find every edge."""
    found = []
    for steps in MORE_STEPS:
        judged = next(each for each in judge(truth, "resample", [method], steps=steps) if each.what == "edges")
        if judged.score.recall == 1 and not found:
            break
        found.append({"truth": truth.name, "method": method, "steps": steps, "recall": judged.score.recall})
    return found


def _luck(truths: list[Truth], seed: int) -> float:
    """How well scores drawn by lot rank the edges, averaged over the truths."""
    drawn = [each for truth in truths for each in judge(truth, "resample", ["random"], seed=seed)]
    ranked = [each.score.ranking for each in drawn if each.what == "edges"]
    return mean(each for each in ranked if each == each)


if __name__ == "__main__":
    main()
