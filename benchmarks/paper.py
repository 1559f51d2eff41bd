"""The figures that Circuit Tracing gives for its own models, for ours: `python -m benchmarks.paper [--prompts N]`.

On held-out two-hop questions of `world`, and on openings of stories with the neurons of stories260K, where
../shared/models holds it. Each prompt's graph is pruned as by default and assayed; what is given is the median over
prompts, with the lowest and highest. Results go to benchmarks/results/paper.md.

Source: Ameisen et al. 2025, "Circuit Tracing", sections on validity; its figures as METHODS 7.2 and 12.1 have them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks import verdicts
from circuits import assay, attribute, load_model, load_transcoders
from circuits.assaying.disturbing import KINDS
from circuits.model import Model
from circuits.transcoders.base import Dictionary
from graphs import prune, scores
from graphs.assays import Assay
from graphs.graph import AttributionGraph

RESULTS = Path(__file__).parent / "results"
STORIES = Path(__file__).parents[2] / "shared" / "models" / "stories260K"
EXPERIMENTS = ("ablations", "between", "disturbances")
FEATURES = 2048  # whose inputs are traced, in a prompt of the stories
OPENINGS = (
    "Once upon a time, there was a little girl named",
    "Lily and Tom went to the park. They saw a big",
    "The dog was sad because he lost his",
    "One day, a boy found a shiny",
    "The cat sat on the",
    'Mom said, "It is time to go to',
    "Tim was very happy. He said thank",
    "The sun was bright and the sky was",
    "Sara wanted to play with her",
    "They ran and ran until they were",
)

# What is given: in words, what the paper has, and where it stands in an assay or among the scores of a graph.
FIGURES = (
    ("Spearman, influence of a feature on a feature and what its ablation does to it (attention held)", "0.72"),
    ("the same, attention live", ""),
    ("the same of pairs that no edge joins (attention held)", ""),
    ("Spearman, influence on the answer and KL caused (attention held)", "plotted"),
    ("slope of measured on predicted change of a feature, edges' own part left out (attention held)", ""),
    ("cosine of both models' answers to a change, one layer on, the change counted in (attention held)", "about 0.8"),
    ("the same, attention and norms live", ""),
    ("the same, the change left out, attention live", ""),
    ("squared error of that answer, share", "about 0.4"),
    ("replacement score", "0.61 (per-layer 0.37)"),
    ("completeness score", "0.80 (per-layer 0.78)"),
)


def figures_of(graph: AttributionGraph, found: Assay) -> list[float]:
    """One prompt's figures, in the order of FIGURES; nan for what there is none of."""
    said: Mapping[str, float] = found.statistics
    names = ("between_spearman_frozen", "between_spearman", "far_spearman_frozen", "spearman_kl_frozen")
    upstream = {each.attention: each for each in found.disturbances if each.kind == KINDS[0] and len(each.cosine)}
    live, held = upstream.get("live"), upstream.get("frozen")
    whole = scores(graph)
    return [
        *(said.get(name, np.nan) for name in names),
        said.get("beyond_slope_frozen", np.nan),
        held.stream[0] if held else np.nan,
        live.stream[0] if live else np.nan,
        live.cosine[0] if live else np.nan,
        live.error[0] if live else np.nan,
        whole.replacement,
        whole.completeness,
    ]


def measure(model: Model, dictionary: Dictionary, prompts: Sequence[str], most: int | None) -> np.ndarray:
    """Every prompt's figures. [prompt figure]"""
    found = []
    for prompt in prompts:
        graph = prune(attribute(model, dictionary, prompt, max_logits=1, max_features=most))
        result = assay(model, dictionary, graph, experiments=EXPERIMENTS)
        found.append(figures_of(graph, result))
        print(prompt, " ".join(f"{each:.2f}" for each in found[-1]), flush=True)
    return np.array(found)


def report(columns: Mapping[str, np.ndarray]) -> str:
    """The table: a row a figure, the paper's first."""
    lines = [
        "# Beside the Circuit Tracing paper",
        "",
        "`python -m benchmarks.paper`: medians over prompts, lowest and highest in brackets. The paper's models are an",
        "18-layer one and a commercial one, with cross-layer transcoders of 10 and 30 million features; ours are tiny.",
        "",
        f"| | the paper | {' | '.join(f'{name}, {len(found)} prompts' for name, found in columns.items())} |",
        "|---|---|" + "---|" * len(columns),
    ]
    for row, (words, theirs) in enumerate(FIGURES):
        cells = []
        for found in columns.values():
            known = found[:, row][np.isfinite(found[:, row])]
            some = f"{np.median(known):.2f} ({known.min():.2f} to {known.max():.2f})" if len(known) else "none"
            cells.append(some if len(known) == len(found) or not len(known) else f"{some}, of {len(known)}")
        lines.append(f"| {words} | {theirs} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prompts", type=int, default=20, help="of world (default: 20)")
    given = parser.parse_args(arguments)
    world = load_model("world", device="cpu")
    prompts = [each.text for each in verdicts.find_prompts(world, given.prompts)]
    columns = {}
    for kind, name in (("per-layer", "world"), ("cross-layer", "world/cross-layer")):
        columns[f"`world`, {kind}"] = measure(world, load_transcoders(name, world), prompts, None)
    if STORIES.exists():
        stories = load_model(STORIES, device="cpu")
        columns["stories260K, neurons"] = measure(stories, load_transcoders("neurons", stories), OPENINGS, FEATURES)
    else:
        print("stories260K is left out: ../shared/models does not hold it", file=sys.stderr)
    (RESULTS / "paper.md").write_text(report(columns), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
