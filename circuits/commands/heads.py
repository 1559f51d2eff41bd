"""`circuits heads`: through which attention heads a stored graph's edges came."""

from __future__ import annotations

import argparse
import json
from typing import Any

from circuits import flags

SHOWN = 15
LEAST = 0.05  # of an edge: what a head must carry to be named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_graphs(parser)
    flags.add_model(parser, default=None)
    flags.add_store(parser)
    flags.add_json(parser)
    flags.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from graphs.store import Store

    store = Store(arguments.store)
    folder = flags.find_graph(store, arguments.graph)
    graph = store.load(folder)

    import numpy as np

    from circuits.attention import can_be_split, gather_heads, strongest_heads
    from circuits.progress import Bars
    from circuits.serving.lab import load_by_name, names_in, open_graph
    from graphs.export.page import to_html
    from graphs.wording import name_node, table_in_words

    load = load_by_name(
        arguments.model, arguments.transcoders, device=arguments.device, dtype=arguments.dtype, force=arguments.force
    )
    with Bars(quiet=arguments.quiet) as bars:
        names = names_in(graph)
        bars.note(f"loading {names[0]}")
        opened = open_graph(graph, *load(*names))
        bars.note("splitting edges")
        edges = can_be_split(graph)
        found = strongest_heads(opened.run, opened.transcoders, graph, edges)
        heads = gather_heads(graph, edges, found)
        store.keep_heads(folder, heads)
        page = to_html(graph, assay=store.assay(folder), heads=heads)
        store.attach(folder, "graph.html", page.encode("utf-8"))
    order = np.argsort(-np.abs(graph.weight[edges]), kind="stable").tolist()
    if arguments.json:
        records: list[dict[str, Any]] = [
            {
                "source": int(graph.source[edges[at]]),
                "target": int(graph.target[edges[at]]),
                "weight": float(graph.weight[edges[at]]),
                "heads": [{"layer": layer, "head": head, "load": load} for layer, head, load in found[at]],
            }
            for at in order
        ]
        print(json.dumps(records, indent=1))
    elif not arguments.quiet:
        parts = [
            [(f"a{layer}.h{head}", load / weight) for layer, head, load in heads if abs(load) >= LEAST * abs(weight)]
            for heads, weight in zip(found, graph.weight[edges].tolist(), strict=True)
        ]
        crossing = [at for at in order if parts[at]]
        rows = [
            (
                f"{graph.weight[edges[at]]:+.3g}",
                f"{name_node(graph, int(graph.source[edges[at]]))} > {name_node(graph, int(graph.target[edges[at]]))}",
                "  ".join(f"{head} {share:.0%}" for head, share in parts[at]),
            )
            for at in crossing[:SHOWN]
        ]
        print("strongest edges that heads carried, and the heads that carried most of each:")
        print(*table_in_words(rows), sep="\n")
        print(
            f"of {len(edges):,} edges {len(crossing):,} owe {LEAST:.0%} or more to a head; graph.html says it of each"
        )
    return 0
