"""What a store of many graphs costs: listing it, finding a graph, finding a feature in all of them.

    python -m benchmarks.store --graphs 10000 --nodes 500

Makes the store in a temporary folder: a few graphs with an assay and notes on their features, saved as any other, and
as many copies under other names as are asked for. Only the tables of copies are the same files on disk. Cold is a store
of which nothing is remembered: no catalog, no index. What the system has of its files in memory stays there.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from graphs import Ablation, Assay, AttributionGraph, Nodes, Store, Verdict, catalog
from graphs.folders import LINE
from graphs.query import opened
from graphs.questions import between, holding, labelled, shared
from graphs.shelves import stamp_of

DISTINCT = 10  # graphs that are really saved; the rest are copies
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--edges", type=int, default=5_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        fill(store, arguments.graphs, arguments.nodes, arguments.edges)
        names = sorted(os.listdir(folder))
        size = (store.folder / names[0] / "graph.json").stat().st_size
        print(f"{len(names):,} graphs of {arguments.nodes:,} nodes, graph.json of {size / 1000:,.0f} kB each")
        print("     CPU      wall")
        listed = tell("listed cold: every record read and checked", store.list)
        assert len(listed) == len(names) and not any(entry.problem for entry in listed)
        forget_all_but_saves(store)
        assert tell("listed for the first time after that many saves", store.list) == listed
        assert tell("listed again", store.list, REPEATS) == listed
        tell("one found by its id", lambda: store.find(names[0]), REPEATS)
        tell("one loaded", lambda: store.load(names[0]), REPEATS)
        nodes = store.load(names[0]).nodes
        unit = nodes.unit(nodes.where("feature")[0])
        found = tell(f"the graphs with feature {unit}, cold: every node read", lambda: ask(store, unit))
        assert len(found) >= len(names) // DISTINCT
        assert tell("the same again", lambda: ask(store, unit), REPEATS) == found
        with opened(store) as base:
            print("of an open store:")
            tell(f"the graphs with feature {unit}", lambda: holding(base, unit), REPEATS)
            tell("the features that two graphs share", lambda: shared(base, names[:2]), REPEATS)
            tell("the features that most graphs share", lambda: shared(base, most=20), REPEATS)
            tell("the mean weight of an edge", lambda: between(base, unit, "feature 7"), REPEATS)
            tell("where a label occurs", lambda: labelled(base, unit.rpartition("/")[2]), REPEATS)
            tell("all edges counted", lambda: base.ask("select count(*) from edges"))


def ask(store: Store, unit: str) -> list[Any]:
    """The graphs with a feature, from nothing but the store's folder."""
    with opened(store) as base:
        return holding(base, unit)["graph"].to_pylist()


def forget_all_but_saves(store: Store) -> None:
    """Leave in the catalog what it holds when every graph was saved into this store and nobody listed it yet."""
    lines, _ = store.lines()
    place = Path(str(store.folder))
    (place / catalog.CATALOG).unlink()
    for id, line in lines.items():
        catalog.add(place, LINE, id, stamp_of(place / id), list(line.values()))


def tell(what: str, work: Callable[[], Any], repeats: int = 1) -> Any:
    """Print how long the fastest of several took; returns what came out."""
    seconds = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        result = work()
        seconds.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu, wall = min(seconds)
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
