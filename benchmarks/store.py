"""How much CPU time it takes to list a store of many graphs: when it is read, and when it remembers.

    python -m benchmarks.store --graphs 10000 --nodes 500

Makes the store in a temporary folder: a few graphs with an assay and notes on their features, saved as any other, and
as many copies under other names as are asked for. Only the tables of copies are the same files on disk.
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

from graphs import Ablation, Assay, AttributionGraph, Nodes, Store, Verdict

DISTINCT = 10  # graphs that are really saved; the rest are copies
REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--edges", type=int, default=5_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        fill(store, arguments.graphs, arguments.nodes, arguments.edges)
        names, size = os.listdir(folder), next(store.folder.glob("*/graph.json")).stat().st_size
        print(f"{len(names):,} graphs of {arguments.nodes:,} nodes, graph.json of {size / 1000:,.0f} kB each")
        first, listed = timed(store.list)
        again = min(timed(store.list)[0] for _ in range(REPEATS))
        assert len(listed) == len(names) and not any(entry.problem for entry in listed)
        found = min(timed(lambda: store.find(names[0]))[0] for _ in range(REPEATS))
        loaded = min(timed(lambda: store.load(Path(folder, names[0])))[0] for _ in range(REPEATS))
        for what, seconds in (
            ("listed the first time, every record read and checked", first),
            ("listed again", again),
            ("one found by its id", found),
            ("one loaded", loaded),
        ):
            print(f"{seconds:8.4f} s  {what}; {first / seconds:,.0f} times the first listing's speed")


def fill(store: Store, graphs: int, nodes: int, edges: int) -> None:
    """Save some graphs, then copy them under other names until there are enough."""
    saved = [store.find(store.save(drawn(nodes, edges, seed), assayed(nodes))) for seed in range(min(DISTINCT, graphs))]
    for number in range(graphs - len(saved)):
        original = saved[number % len(saved)]
        copy = store.folder / f"{original.name}-{number}"
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


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds, which a busy machine does not change, and what came out."""
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


if __name__ == "__main__":
    main()
