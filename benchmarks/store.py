"""What a store of many graphs costs: listing it, finding a graph, finding a feature in all of them.

    python -m benchmarks.store --graphs 10000 --nodes 500

Makes the store in a temporary folder: a few graphs with an assay and notes on their features, saved as any other, and
as many copies under other names as are asked for. Only the tables of copies are the same files on disk. Cold is a store
of which nothing is remembered: no catalog, no index; that is measured once, all else RUNS times, of which the median is
told. What the system has of its files in memory stays there. Results go to benchmarks/results/store.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from graphs import Ablation, Assay, AttributionGraph, Nodes, Store, Verdict, catalog
from graphs.folders import LINE
from graphs.query import Base, opened
from graphs.questions import between, holding, labelled, shared
from graphs.shelves import stamp_of

DISTINCT = 10  # graphs that are really saved; the rest are copies
RUNS = 5
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--edges", type=int, default=5_000)
    arguments = parser.parse_args()
    loads = [os.getloadavg()[0]]
    lines: list[str] = []
    tell = partial(measure, lines)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        fill(store, arguments.graphs, arguments.nodes, arguments.edges)
        names = sorted(os.listdir(folder))
        listed = tell("listed cold: every record read and checked", store.list)
        assert len(listed) == len(names) and not any(entry.problem for entry in listed)
        forget_all_but_saves(store)
        assert tell("listed for the first time after that many saves", store.list) == listed
        assert tell("listed again", store.list, RUNS) == listed
        tell("one found by its id", lambda: store.find(names[0]), RUNS)
        tell("one loaded", lambda: store.load(names[0]), RUNS)
        nodes = store.load(names[0]).nodes
        unit = nodes.unit(nodes.where("feature")[0])
        found = tell(f"the graphs with feature {unit}, cold: every node read", lambda: ask(store, unit))
        assert len(found) >= len(names) // DISTINCT
        assert tell("the same again", lambda: ask(store, unit), RUNS) == found
        with opened(store) as base:
            tell("all edges counted, for the first time: each file held to its checksum", partial(count_edges, base))
            tell(f"open: the graphs with feature {unit}", lambda: holding(base, unit), RUNS)
            tell("open: the features that two graphs share", lambda: shared(base, names[:2]), RUNS)
            tell("open: the features that most graphs share", lambda: shared(base, most=20), RUNS)
            tell("open: the mean weight of an edge", lambda: between(base, unit, "feature 7"), RUNS)
            tell("open: where a label occurs", lambda: labelled(base, unit.rpartition("/")[2]), RUNS)
            tell("open: all edges counted", partial(count_edges, base), RUNS)
    loads.append(os.getloadavg()[0])
    asked = f"--graphs {arguments.graphs} --nodes {arguments.nodes} --edges {arguments.edges}"
    begin = [
        "# A store of many graphs",
        "",
        f"`python -m benchmarks.store {asked}`: medians of {RUNS}, but for what is",
        "cold or happens the first time: that is measured once. Open: a store of which more than one thing is asked.",
        f"{os.cpu_count()} processors, load {loads[0]:.0f} before and {loads[1]:.0f} after.",
        "",
        "| | seconds | of CPU |",
        "|---|---|---|",
    ]
    (RESULTS / "store.md").write_text("\n".join([*begin, *lines, ""]), encoding="utf-8")


def ask(store: Store, unit: str) -> list[Any]:
    """The graphs with a feature, from nothing but the store's folder."""
    with opened(store) as base:
        return holding(base, unit)["graph"].to_pylist()


def count_edges(base: Base) -> int:
    """How many edges there are in all graphs."""
    return base.ask("select count(*) as edges from edges")["edges"][0].as_py()


def forget_all_but_saves(store: Store) -> None:
    """Leave in the catalog what it holds when every graph was saved into this store and nobody listed it yet."""
    lines, _ = store.lines()
    place = Path(str(store.folder))
    (place / catalog.CATALOG).unlink(missing_ok=True)  # of few graphs nothing is remembered
    for id, line in lines.items():
        catalog.add(place, LINE, id, stamp_of(place / id), list(line.values()))


def measure(lines: list[str], what: str, work: Callable[[], Any], repeats: int = 1) -> Any:
    """Print how long it took, the median of several, and add it to the lines of a table; returns what came out."""
    seconds = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        result = work()
        seconds.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu, wall = (statistics.median(each) for each in zip(*seconds, strict=True))
    lines.append(f"| {what} | {wall:.3f} | {cpu:.3f} |")
    print(f"{cpu:8.3f}  {wall:8.3f} s  {what}", flush=True)
    return result


def fill(store: Store, graphs: int, nodes: int, edges: int) -> None:
    """Save some graphs, then copy them under other names until there are enough."""
    saved = [store.find(store.save(drawn(nodes, edges, seed), assayed(nodes))) for seed in range(min(DISTINCT, graphs))]
    for number in range(graphs - len(saved)):
        original = Path(str(saved[number % len(saved)]))
        copy = original.with_name(f"{original.name}-{number}")
        copy.mkdir()
        (copy / "graph.json").write_bytes((original / "graph.json").read_bytes())
        for table in ("nodes.parquet", "edges.parquet"):
            os.link(original / table, copy / table)


def drawn(nodes: int, edges: int, seed: int) -> AttributionGraph:
    """A graph by lot: 10 tokens, features in 12 layers, one logit; every feature with a note of a usual size."""
    rng = np.random.default_rng(seed)
    features = nodes - 11
    layer = np.concatenate([np.full(10, -1), np.sort(rng.integers(0, 12, features)), [12]])
    position = np.concatenate([np.arange(10), rng.integers(0, 10, features), [9]])
    feature = np.concatenate([np.arange(10), rng.integers(0, 16_384, features), [7]])
    pairs = np.unique(rng.integers(0, nodes, (edges, 2)), axis=0)
    pairs = pairs[(pairs[:, 0] < pairs[:, 1]) & (pairs[:, 1] >= 10)]
    weight = rng.normal(size=len(pairs))
    goal = np.zeros(nodes)
    goal[-1] = 0.9
    labels = [f"feature {number}" for number in feature]
    notes = {f"{a}/{b}": {"label": c, "fires_on": [c] * 5} for a, b, c in zip(layer, feature, labels, strict=True)}
    return AttributionGraph(
        nodes=Nodes(
            kind=np.repeat(["token", "feature", "logit"], [10, features, 1]),
            layer=layer,
            position=position,
            feature=feature,
            activation=rng.random(nodes),
            value=np.bincount(pairs[:, 1], weight, minlength=nodes),
            gross=np.bincount(pairs[:, 1], np.abs(weight), minlength=nodes),
            influence=rng.random(nodes),
            label=np.array(labels, dtype=object),
        ),
        source=pairs[:, 0],
        target=pairs[:, 1],
        weight=weight,
        goal=goal,
        token_ids=tuple(range(10)),
        tokens=tuple(f" word{number}" for number in range(10)),
        provenance={"model": "drawn", "transcoders": "by lot", "feature_notes": notes},
    )


def assayed(nodes: int) -> Assay:
    """An assay of a usual size: 50 nodes ablated, nine claims."""
    ablations = [Ablation(row % nodes, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6) for row in range(50)]
    verdicts = [Verdict(f"claim {number}", "supported", 0.5, "above 0.2", "20 random sets") for number in range(9)]
    return Assay({"metric": "by lot"}, 1e-7, ablations, {"slope": 1.0}, [], verdicts)


if __name__ == "__main__":
    main()
