"""`circuits find`: the heads, MLPs and edges between them that carry an answer, over pairs of prompts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from circuits import flags

if TYPE_CHECKING:
    from circuits.finding import Found

METHODS = ("eap-ig", "eap", "eap-ig-activations", "clean-corrupted", "relp", "exact", "information-flow", "random")
METRICS = ("logit-difference", "probability-difference", "log-probability", "kl")
SHOWN = 10  # edges told in words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pairs", metavar="FILE", help='JSON lines: {"clean": …, "corrupted": …, "right": …, "wrong": …}'
    )
    flags.add_model(parser, transcoders=False)
    parser.add_argument("--method", choices=METHODS, default="eap-ig", help="how edges are scored (default: eap-ig)")
    parser.add_argument("--edges", metavar="N", type=flags.count, default=200, help="how many at most (default: 200)")
    parser.add_argument("--signed", action="store_true", help="the highest scores, not the largest sizes")
    parser.add_argument(
        "--metric", choices=METRICS, default="logit-difference", help="what to keep (default: logit-difference)"
    )
    parser.add_argument("--steps", metavar="N", type=flags.count, help="of the integrated gradients (default: 5)")
    parser.add_argument(
        "--begin", choices=("corrupted", "clean"), help="which end is one of the steps (default: corrupted)"
    )
    flags.add_seed(parser, "for random scores")
    parser.add_argument("--batch", metavar="N", type=flags.count, default=32, help="pairs at a time (default: 32)")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="also draw the graph there: x.svg, x.html, …")
    flags.add_store(parser)
    flags.add_json(parser)
    flags.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from circuits.keeping import check_output, check_writable

    check_writable(Path(arguments.store))
    if arguments.output:
        check_output(arguments.output)

    from circuits.finding import find
    from circuits.keeping import keep_pictures
    from circuits.model import load_model
    from circuits.pairs import read_pairs
    from circuits.progress import Bars
    from graphs.export import export
    from graphs.store import Store

    store = Store(arguments.store)
    given = {name: getattr(arguments, name) for name in ("steps", "begin", "seed")}
    with Bars(quiet=arguments.quiet) as bars:
        bars.note(f"loading {arguments.model}")
        model = load_model(arguments.model, device=arguments.device, dtype=arguments.dtype, progress=bars)
        pairs = read_pairs(arguments.pairs, model)
        found = find(
            model,
            pairs,
            method=arguments.method,
            metric=arguments.metric,
            edges=arguments.edges,
            signed=arguments.signed,
            batch=arguments.batch,
            progress=bars,
            **{name: value for name, value in given.items() if value is not None},
        )
        bars.note("storing the graph")
        id = store.save(found.graph, name=Path(arguments.pairs).stem)
        written, missing = keep_pictures(store, id, found.graph, None, bars.note)
        if arguments.output:
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            export(found.graph, arguments.output)
    if arguments.json:
        folder = str(store.find(id))
        extra = {"faithfulness": _plain(found.faithfulness), "missing": missing}
        print(json.dumps({"folder": folder, **store.record(id), **extra}, indent=1))
    elif not arguments.quiet:
        beside = f"wrote {store.find(id)}: graph.json, nodes.parquet, edges.parquet, {', '.join(written)}"
        print(*in_words(found), *missing, beside, sep="\n")
        if arguments.output:
            print(f"wrote {arguments.output}")
    return 0


def _plain(number: float) -> float | None:
    return number if number == number else None


def in_words(found: Found) -> list[str]:
    """What was found, for a terminal."""
    import numpy as np

    made = found.graph.provenance
    lines = [
        f"{made['method']} on {made['pairs']} pair{'s' * (made['pairs'] != 1)}: {int(found.chosen.sum()):,} of "
        f"{int(found.components.edges.sum()):,} edges kept, {len(found.graph.nodes)} of "
        f"{len(found.components.sources) + 1} components",
        f"{made['options']['metric']}: {found.clean:.3f} clean, {found.corrupted:.3f} corrupted, {found.kept:.3f} with "
        f"only the circuit clean: {found.faithfulness:.1%} of the difference kept",
        "strongest edges:",
    ]
    order = np.argsort(-np.abs(np.where(found.chosen, found.scores, 0.0)), axis=None, kind="stable")
    strongest = order[: min(SHOWN, int(found.chosen.sum()))]
    for source, reader in np.column_stack(np.unravel_index(strongest, found.scores.shape)).tolist():
        lines.append(f"  {found.scores[source, reader]:+.4f}  {found.components.name(source, reader)}")
    return lines
