"""`circuits show`: what a stored graph holds, in words."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from circuits import flags

if TYPE_CHECKING:
    from graphs.addresses import Place
    from graphs.store import Store

MOST_PATHS = 10_000  # so many are kept for every node on the way


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_graphs(parser)
    parser.add_argument(
        "--paths", metavar="N", type=int, default=5, help="how many of the strongest paths, 0 for none (default: 5)"
    )
    flags.add_store(parser)
    flags.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from circuits.errors import BadOption
    from graphs.store import Store

    if not 0 <= arguments.paths <= MOST_PATHS:
        raise BadOption(f"--paths must be from 0 to {MOST_PATHS:,}, found {arguments.paths}.")
    store = Store(arguments.store)
    folder = flags.find_graph(store, arguments.graph)
    if arguments.json:
        print(json.dumps(store.record(folder), indent=1))
        return 0
    for line in describe(store, folder, arguments.paths):
        print(line)
    return 0


def describe(store: Store, folder: Place, paths: int) -> list[str]:
    """The lines that `show` prints."""
    from graphs.paths import strongest_paths
    from graphs.wording import (
        circuit_in_words,
        expansion_in_words,
        figure_in_words,
        kept_in_words,
        logits_in_words,
        paths_in_words,
        scores_in_words,
        visible,
    )

    graph, record, assay = store.load(folder), store.record(folder), store.assay(folder)
    made = {key: record["provenance"].get(key) for key in ("model", "transcoders", "method")}
    lines = [f"{folder.name}, in {folder}", f"prompt: {record['prompt']}"]
    if not isinstance(record["provenance"].get("prompt"), str):  # a chat, or ids: roles and marks are part of it
        lines.append(f"tokens: {' '.join(visible(token.strip() or token) for token in graph.tokens)}")
    lines += [f"{key}: {value}" for key, value in made.items() if isinstance(value, str) and value]
    lines += ["targets:", *(f"  {line}" for line in logits_in_words(graph))]
    lines += [*expansion_in_words(graph), kept_in_words(graph), *scores_in_words(record["scores"], record["kept"])]
    lines += paths_in_words(graph, strongest_paths(graph, paths)) if paths > 0 else []
    found = circuit_in_words(graph)
    lines += found
    if assay:
        lines.append("assay:")
        for each in assay.verdicts:
            known = each.number == each.number
            why = (
                f"{figure_in_words(each)}; wanted: {each.threshold}"
                if known
                else each.control.removeprefix("untested: ")
            )
            lines.append(f"  {each.verdict}: {each.claim} ({why})")
    elif not found:
        lines.append(f"assay: none yet; circuits check {folder.name} makes one")
    beside = sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))
    lines.append(f"files: {', '.join(beside)}")
    return lines
