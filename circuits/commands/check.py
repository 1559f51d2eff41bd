"""`circuits check`: test a stored graph by ablation in the real model, and keep the assay with it."""

from __future__ import annotations

import argparse

from circuits import flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_graphs(parser)
    flags.add_model(parser, default=None)
    parser.add_argument("--seed", type=int, default=0, help="of the random sets (default: 0)")
    parser.add_argument("--controls", metavar="N", type=int, help="how many random sets (default: 20)")
    flags.add_store(parser)
    flags.add_json(parser)
    flags.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from graphs.store import Store

    store = Store(arguments.store)
    folder = flags.find_graph(store, arguments.graph)
    graph = store.load(folder)

    from circuits.assaying import assay, thresholds
    from circuits.keeping import check_writable, keep_pictures
    from circuits.model import load_model
    from circuits.progress import Bars
    from circuits.transcoders.loading import load_transcoders
    from graphs import wording

    check_writable(folder)
    made = graph.provenance
    name = arguments.model or made.get("model", "")
    bars = Bars(quiet=arguments.quiet)
    bars.note(f"loading {name}")
    model = load_model(name, device=arguments.device, dtype=arguments.dtype or made.get("dtype", "float32"))
    transcoders = load_transcoders(arguments.transcoders or made.get("transcoders", ""), model)
    with bars:
        result = assay(
            model,
            transcoders,
            graph,
            controls=thresholds.CONTROLS if arguments.controls is None else arguments.controls,
            seed=arguments.seed,
            progress=bars,
        )
    kept = store.keep_assay(folder, result)
    written, missing = keep_pictures(store, folder, graph, result)
    if arguments.json:
        print(kept.read_text(), end="")
    elif not arguments.quiet:
        print(*wording.assay_in_words(result), *missing, sep="\n")
        print(f"wrote {folder}: assay.json, {', '.join(written)}")
    return 0
