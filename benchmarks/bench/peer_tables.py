"""What stands in a report beside the peers: how far their numbers are from ours, and what both took."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from benchmarks.bench.documents import Block, Heading, Table, Words
from benchmarks.bench.methods import GRAPH_METHODS, METHODS, RANDOM
from benchmarks.bench.rows import UNTESTED, Row
from benchmarks.bench.side_by_side import BESIDE, EDGE_PEERS, GRAPH_PEERS, PEERS, PREFIX, PROGRAMS, REPEATS
from circuits.sizes import size_in_words

READING = (
    "The same model, prompts and options, each peer in an environment of its own at the versions that its script in "
    f"benchmarks/peers installs. Both sides took turns in one run, on one thread each: medians of {REPEATS}, in "
    "brackets the least and the largest. Times as fast: the peer's CPU seconds over ours. Share of memory: how far "
    "ours rose above what was held before, over how far the peer's did. What a peer could not run says why."
)
OF_EDGES = (
    "Scores apart: the largest difference of an edge's score, over the largest score. Rank: Spearman correlation of "
    "their sizes. Circuits alike: at how many of the sizes both sides' scores choose the same edges, and the least "
    "Jaccard index. Metric apart: the largest difference of any pair's metric as each side runs the peer's circuits, "
    "over the mean difference between clean and ablated. In float32, edges with nearly equal scores change places. "
    "EAP-IG's integration over activations (795f560) puts embeddings in place that ask for no gradient, so that, where "
    "no learned positions are added to them, edges from the tokens into the first layer lose a part of their scores; "
    "with embeddings that ask for one both sides agree. Where a norm stands on what attention writes (Gemma 2), "
    "a head's change passes it here, and in EAP-IG does not: edges from heads differ."
)
OF_GRAPHS = (
    "Edges apart: the largest difference of an edge, over the largest that its target receives. Scores: replacement "
    "and completeness. Kept by one side: nodes and edges that only one keeps, each pruning its own graph. All are the "
    "largest over the prompts on which both found the same features."
)
# Why no peer stands beside a method of ours; of all others, since neither program has it.
ABSENT = {
    "exact": "EAP-IG has it, at one run of a whole circuit for each edge: too slow to take turns with",
    **dict.fromkeys(("exact-nodes", "atp", "conductance"), "EAP-IG's own scores of nodes are not driven"),
}
NEITHER = "neither program has it"
COSTS = ("peer's seconds", "ours", "times as fast", "peer's memory", "ours", "share of memory")


def tell_peers(rows: Sequence[Row]) -> Iterator[Block]:
    """The tables of a run that had peers."""
    asked = [row for row in rows if row.method in PEERS]
    if not asked:
        return
    yield Heading("Beside the peers")
    yield Words(READING)
    for reading, methods, columns, figures in (
        (OF_EDGES, EDGE_PEERS, ("scores apart", "rank", "circuits alike", "metric apart"), _edges),
        (OF_GRAPHS, GRAPH_PEERS, ("same features", "edges", "influence", "scores", "kept by one side"), _graphs),
    ):
        here = [row for row in asked if row.method in methods and (row.level == BESIDE or row.metric == UNTESTED)]
        if here:
            yield Words(reading)
            yield _table(here, columns, figures)
    alone = dict.fromkeys(row.method for row in rows if row.method in (*METHODS, *GRAPH_METHODS))
    missing = [each for each in alone if f"{PREFIX}{each}" not in PEERS and each not in RANDOM.values()]
    if missing:
        yield Words("Of these methods no peer stands beside ours:")
        yield Table(("method", "why not"), [[each, ABSENT.get(each, NEITHER)] for each in missing])


def _table(rows: Sequence[Row], columns: Sequence[str], figures: Callable[[Sequence[Row]], list[str]]) -> Table:
    cells: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key = (row.task, row.model, row.method.removeprefix(PREFIX), PROGRAMS[PEERS[row.method]])
        cells.setdefault((*key, row.ablation, str(row.seed)), []).append(row)
    table = []
    for key, those in cells.items():
        held = [row for row in those if row.level == BESIDE]
        numbers = [*figures(held), *_costs(held)] if held else [""] * (len(columns) + len(COSTS))
        why = "" if held else "; ".join(dict.fromkeys(row.says for row in those))
        table.append([*key, *numbers, why])
    names = ("task", "model", "method", "peer", "ablation", "seed", *columns, *COSTS, "why not")
    return Table(names, table)


def _edges(rows: Sequence[Row]) -> list[str]:
    alike = [row.value for row in rows if row.metric == "circuits alike"]
    same = f"{sum(each == 1 for each in alike)} of {len(alike)}, least {min(alike):.3f}"
    moved = max(row.value for row in rows if row.metric == "metric apart")
    rank = _one(rows, "rank correlation with ours").value
    return [_small(_one(rows, "scores apart").value), f"{rank:.4f}", same, _small(moved)]


def _graphs(rows: Sequence[Row]) -> list[str]:
    same = _one(rows, "prompts with the same features")
    apart = [_small(_one(rows, name).value) for name in ("edges apart", "influence apart", "graph scores apart")]
    kept = [_one(rows, f"{name} kept by one side").value for name in ("nodes", "edges")]
    kept = "" if math.isnan(kept[0]) else f"{kept[0]:.0f} nodes, {kept[1]:.0f} edges"
    return [f"{same.value:.0f} of {same.count:.0f} prompts", *apart, kept]


def _costs(rows: Sequence[Row]) -> list[str]:
    seconds = [f"{_one(rows, name).value:.3g}" for name in ("peer's seconds", "our seconds")]
    ratio = _one(rows, "times as fast")
    memory = [_bytes(_one(rows, name).value) for name in ("peer's memory", "our memory")]
    share = _one(rows, "share of its memory").value
    return [
        *seconds,
        f"{ratio.value:.1f} [{ratio.low:.1f}, {ratio.high:.1f}]",
        *memory,
        "" if math.isnan(share) else f"{share:.2f}",
    ]


def _one(rows: Sequence[Row], metric: str) -> Row:
    return next(row for row in rows if row.metric == metric)


def _bytes(number: float) -> str:
    return "" if math.isnan(number) else size_in_words(number)


def _small(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.0e}"
