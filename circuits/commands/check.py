"""`circuits check`: test a stored graph by ablation in the real model, and keep the assay with it."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from circuits import flags

UNFINISHED = "assay.unfinished.json"  # experiments of a check that was interrupted, or ran out of time
SECONDS = {"s": 1, "m": 60, "h": 3600}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_graphs(parser)
    flags.add_model(parser, default=None)
    flags.add_seed(parser, "of the random sets")
    flags.add_paraphrase(parser)
    parser.add_argument(
        "--groups",
        metavar="FILE",
        help='hypotheses, as JSON: {"texas": ["L1/544@3", …], …}: each is ablated as one, against random groups',
    )
    parser.add_argument(
        "--controls", metavar="N", type=flags.count, help="how many random sets (default: 100, quick 20)"
    )
    parser.add_argument(
        "--budget",
        metavar="TIME",
        default="5m",
        help="30s, 5m, 1h or full: what is not begun by then is untested, and run by the next check (default: 5m)",
    )
    parser.add_argument("--quick", action="store_true", help="only the experiments that `trace` runs, and --groups")
    flags.add_store(parser)
    flags.add_json(parser)
    flags.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from graphs.grouping import find_groups, read_groups
    from graphs.store import Store

    budget, paraphrases = _read_budget(arguments.budget), flags.paraphrases_in(arguments.paraphrase)
    store = Store(arguments.store)
    folder = flags.find_graph(store, arguments.graph)
    graph, heads = store.load(folder), store.heads_or_reason(folder)
    groups = None if arguments.groups is None else read_groups(arguments.groups)
    find_groups(graph, groups or {})  # a node that is not there is told before anything is loaded

    from circuits.assaying import assay
    from circuits.errors import WrongGraph
    from circuits.keeping import check_writable, keep_pictures
    from circuits.model import load_model
    from circuits.progress import Bars
    from circuits.transcoders.loading import load_transcoders
    from graphs import wording

    unfinished = None
    if isinstance(folder, Path):  # at an address nothing is written piece by piece, so a check there begins anew
        check_writable(folder)
        unfinished = folder / UNFINISHED
    made = graph.provenance
    if "circuit" in made:
        raise WrongGraph(
            "this graph is a circuit that `circuits find` found over pairs of prompts: what it keeps was measured "
            "then, see metric in graph.json. Check a graph that `circuits trace` made."
        )
    names = [_made_with(made, what, getattr(arguments, what)) for what in ("model", "transcoders")]
    with _saying_what_is_kept(unfinished), Bars(quiet=arguments.quiet) as bars:
        bars.note(f"loading {names[0]}")
        dtype = arguments.dtype or made.get("dtype", "float32")
        model = load_model(names[0], device=arguments.device, dtype=dtype, progress=bars)
        bars.note(f"loading transcoders {names[1]}")
        transcoders = load_transcoders(names[1], model, force=arguments.force, progress=bars)
        bars.note("testing the graph in the real model")
        result = assay(
            model,
            transcoders,
            graph,
            deep=not arguments.quick,
            controls=arguments.controls,
            seed=arguments.seed or 0,
            paraphrases=paraphrases,
            groups=groups,
            budget=budget,
            unfinished=unfinished,
            progress=bars,
        )
        kept = store.keep_assay(folder, result)
        if unfinished is not None and not result.skipped:
            unfinished.unlink(missing_ok=True)
        written, missing = keep_pictures(store, folder, graph, result, bars.note, heads)
    if arguments.json:
        print(json.dumps(json.loads(kept.read_bytes()), indent=1))
    elif not arguments.quiet:
        left = f"{len(result.skipped)} experiments are left: the same command goes on with them"
        said = [*wording.assay_in_words(result), *([left] if result.skipped else []), *missing]
        print(*said, f"wrote {folder}: assay.json, {', '.join(written)}", sep="\n")
    if missing and (arguments.quiet or arguments.json):
        print(*missing, sep="\n", file=sys.stderr)
    return 0


@contextmanager
def _saying_what_is_kept(unfinished: Path | None) -> Iterator[None]:
    """On Ctrl-C, whether the next check has something to go on from."""
    try:
        yield
    except KeyboardInterrupt:
        if unfinished is not None and unfinished.exists():
            print("circuits: finished experiments are kept; the same command goes on with the rest", file=sys.stderr)
        raise


def _read_budget(text: str) -> float:
    """Seconds: `30s`, `5m`, `1h`; `full` is no end."""
    from circuits.errors import BadOption

    if text == "full":
        return math.inf
    try:
        seconds = float(text[:-1]) * SECONDS[text[-1]]
    except (ValueError, KeyError, IndexError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise BadOption(f"--budget is a time like 30s, 5m or 1h, or full; found {text!r}.")
    return seconds


def _made_with(made: Mapping[str, Any], what: str, given: str | None) -> str:
    from circuits.errors import WrongGraph

    name = given or made.get(what)
    if not isinstance(name, str) or not name:
        raise WrongGraph(f"the graph does not say with which {what} it was made: name them with --{what}.")
    if given is None and "imported" in made:
        raise WrongGraph(
            f"another program made the graph, and calls its {what} {name!r}: say what that is here, with --{what}, or "
            "trace the prompt here."
        )
    return name
