"""Whether our graphs are circuit-tracer's: `python -m benchmarks.agreement [word ...]`.

For models of six families, per-layer, skip and cross-layer dictionaries, every site they read and write, and the
shipped model: the same adjacency (float64: 1e-10 of each row's largest; float32: 1e-4 of the edge and 5e-5 of the
row's largest), the same features chosen under a budget, the same nodes and edges after pruning by its rule, the same
influence and scores. Results go to benchmarks/results/agreement.md; cases that are not run again keep what they had.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers.case_tables import Rows, run_cases, table_of
from benchmarks.peers.cases import Case, make
from benchmarks.peers.graphs_apart import apart, compare_pruned, places
from benchmarks.peers.hooked_models import without_float32
from benchmarks.peers.jobs import Peer, write_attribution
from circuits.attribution.direct import attribute_directly

RESULT = Path(__file__).parent / "results/agreement.md"
SMALL = {"width": 64, "units": 512, "tokens": 8}
CASES = [
    *(Case(family, **SMALL, kind=kind) for family in ("llama", "gpt2") for kind in ("per-layer", "skip")),
    *(Case(family, **SMALL, kind="cross-layer") for family in ("llama", "gpt2")),
    *(Case("gemma2", **SMALL, kind=kind) for kind in ("per-layer", "skip")),
    *(Case(family, **SMALL) for family in ("gemma3", "qwen3", "gpt_neox")),
    *(Case(family, **SMALL, reads="mlp_normalised") for family in ("llama", "gpt2", "gemma3", "gpt_neox")),
    *(Case(family, **SMALL, reads="residual_mid") for family in ("llama", "gpt2")),
    *(Case(family, **SMALL, writes="mlp_raw") for family in ("gemma2", "gemma3")),
    Case("world"),
    Case("world", kind="cross-layer"),
]
# What has no line in the table, and why.
BEYOND = {
    "neurons as features": "it takes dictionaries only",
    "GPT-Neo, Mistral, Qwen 2, families without a record here": "their weights are not translated for it yet",
    "`residual_mid` in Pythia": "it has no such site: attention and MLP stand side by side",
    "Gemma 3 as it loads it": "one rotary table is shared by all layers, though local ones turn faster (0.5.0, "
    "`_deduplicate_attention_buffers`); it is another model then, so each layer is given its own table back",
    "its other backend, nnsight": "not driven yet",
    "positions left out but the first": "it goes by the model's name: four for gemma-3-*-it, else the first",
    "unselected features, biases and sinks": "it has no such nodes: ours are left out of the comparison",
}
BATCH, INTERVAL = 16, 4  # the peer's rounds under a budget are of 64 features
BUDGET = 0.4  # of the active features


@dataclass(frozen=True)
class Agreement:
    """How far two graphs of one prompt are apart.

    features: both found the same active ones. edges: the largest |difference| over its row's largest weight.
    excess: the largest |difference| over 1e-4 |edge| + 5e-5 of the row's largest; at most 1 is wanted in float32.
    chosen: features that only one side chose, under a budget. budgeted: `edges` of that graph.
    nodes, kept: nodes and edges that only one side keeps, each pruning its own graph. None is wanted in float64; in
        float32 the peer's long sums lose an edge or two.
    influence, scores: the largest differences.
    """

    case: str
    dtype: str
    features: bool
    edges: float
    excess: float
    chosen: int
    budgeted: float
    nodes: int
    kept: int
    influence: float
    scores: float

    @property
    def holds(self) -> bool:
        exact = self.dtype == "float64"
        same = self.features and self.chosen == 0 and (not exact or self.nodes == self.kept == 0)
        near = max(self.edges, self.budgeted) <= 1e-10 if exact else self.excess <= 1
        return same and near and max(self.influence, self.scores) <= (1e-10 if exact else 1e-4)


def compare(case: Case, dtype: str) -> Agreement:
    """One case, attributed, chosen from, pruned and scored by both."""
    made = make(case, dtype)
    folder = write_attribution(made.folder, made.dictionary, made.tokens, dtype)
    with without_float32() if dtype == "float64" else nullcontext():
        graph = attribute_directly(made.model, made.dictionary, made.tokens)
        budget = max(1, int(BUDGET * graph.provenance["active"]))
        rounds = {"max_features": budget, "round_size": BATCH * INTERVAL}
        small = attribute_directly(made.model, made.dictionary, made.tokens, **rounds)
    with Peer(folder) as peer:
        options = {"batch_size": BATCH, "update_interval": INTERVAL, "max_feature_nodes": budget}
        peer.attribute(**options, save=folder / "small.npz")
        peer.attribute(batch_size=BATCH, save=folder / "whole.npz")
        peer.prune(0.8, 0.98, save=folder / "pruned.npz")
        peer.score(folder / "scores.npz")
    whole, fewer = np.load(folder / "whole.npz"), np.load(folder / "small.npz")
    edges, excess = apart(graph, whole["adjacency"])
    same_chosen = set(places(small)) ^ {tuple(place) for place in fewer["active"][fewer["selected"]].tolist()}
    return Agreement(
        case=case.name,
        dtype=dtype,
        features=places(graph) == [tuple(place) for place in whole["active"].tolist()],
        edges=edges,
        excess=excess,
        chosen=len(same_chosen),
        budgeted=apart(small, fewer["adjacency"])[0] if not same_chosen else float("nan"),
        **vars(compare_pruned(graph, folder)),
    )


def report(rows: Rows) -> str:
    """The results as a table, in the order of the cases."""
    lines = ["# Equal to circuit-tracer", ""]
    lines += ["What `python -m benchmarks.agreement` found, case by case; its docstrings say what the columns are. In"]
    lines += ["float32, `excess` ≤ 1 is asked for; the rest holds in both.", "", *table_of(Agreement, CASES, rows)]
    lines += ["", "Not compared:", "", *(f"- {what}: {why}" for what, why in BEYOND.items())]
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str]) -> int:
    """Print and store a line for each case; exit code 1 if any is apart. Arguments: words that its name must hold."""
    return run_cases(Agreement, CASES, compare, RESULT, report, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
