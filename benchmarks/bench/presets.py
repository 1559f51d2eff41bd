"""PRESETS: how much a run does. "quick" is for two cores and five minutes, "full" makes the README's table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """How much is done of everything; all else that a run is made of is asked for by name.

    pairs: of a task in each split. draws: of the bootstrap. controls: random circuits matched to each circuit.
    parts: into how many parts of the training split scores are kept apart. resamples: of these parts, for stability.
    removed: units of a circuit that are taken out one by one. graphs: prompts whose features are traced.
    graph_controls: random sets beside each graph. features: of a graph, or of a task as nodes, at most.
    deep: all experiments of its assay, not only those for the tables.
    methods, seeds, ablations: what is taken where none are named.
    """

    pairs: int
    draws: int
    controls: int
    parts: int
    resamples: int
    removed: int
    graphs: int
    graph_controls: int
    features: int
    deep: bool
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    ablations: tuple[str, ...]


PRESETS = {
    "quick": Preset(
        pairs=20,
        draws=500,
        controls=3,
        parts=5,
        resamples=5,
        removed=8,
        graphs=1,
        graph_controls=20,
        features=2048,
        deep=False,
        methods=("exact", "eap-ig", "eap", "random", "exact-nodes", "atp", "atp-neurons", "atp-features", "direct"),
        seeds=(0,),
        ablations=("resample",),
    ),
    "full": Preset(
        pairs=100,
        draws=2000,
        controls=20,
        parts=16,
        resamples=10,
        removed=50,
        graphs=8,
        graph_controls=50,
        features=8192,
        deep=True,
        methods=(
            *("exact", "eap-ig", "eap-ig-activations", "eap", "clean-corrupted", "relp", "information-flow", "acdc"),
            *("random", "exact-nodes", "atp", "atp-star", "conductance", "exact-nodes-neurons", "atp-neurons"),
            *("exact-nodes-features", "atp-features", "direct"),
        ),
        seeds=(0, 1, 2),
        ablations=("resample", "mean"),
    ),
}
