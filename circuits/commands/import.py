"""`circuits import`: graphs of other programs put into the store."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from circuits import flags

if TYPE_CHECKING:
    from graphs.graph import AttributionGraph

GROUPS = "groups.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="+",
        help="x.json of Neuronpedia or of circuit-tracer's page, or x.pt of circuit-tracer",
    )
    parser.add_argument(
        "--subgraph",
        metavar="FILE",
        help=f"groups saved there, as JSON, instead of those in the file: kept as {GROUPS} beside the graph, for "
        "circuits draw --groups",
    )
    parser.add_argument(
        "-m",
        "--model",
        metavar="MODEL",
        type=flags.filled,
        help="whose words the tokens of a .pt file are, which has only their ids: shipped name, folder, or Hub id",
    )
    flags.add_store(parser)
    flags.add_json(parser)
    flags.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from circuits.errors import BadOption, CircuitError
    from graphs.errors import GraphError
    from graphs.importing import import_graph
    from graphs.importing.saved_groups import read_groups_saved_there, read_groups_within
    from graphs.records import to_json
    from graphs.store import Store

    if arguments.subgraph and len(arguments.file) > 1:
        raise BadOption(f"--subgraph is of one graph, found {len(arguments.file)} files: import that one by itself.")
    store = Store(arguments.store)
    told: list[dict[str, Any]] = []
    wrong: list[str] = []
    for file in arguments.file:
        try:
            graph = import_graph(file)
            if arguments.model:
                graph = in_words(graph, arguments.model)
            read_groups = read_groups_saved_there if arguments.subgraph else read_groups_within
            groups = read_groups(arguments.subgraph or file, graph)
        except (GraphError, CircuitError) as reason:
            if len(arguments.file) == 1:
                raise
            wrong.append(str(reason))  # of several, the others are imported all the same
            continue
        id = store.save(graph)
        if groups:
            store.attach(id, GROUPS, to_json(groups))
        told.append({"id": id, "file": str(file), "nodes": len(graph.nodes), "edges": len(graph.source)})
        if not (arguments.quiet or arguments.json):
            for line in describe(graph, file, id, str(store.find(id)), groups):
                print(line)
    if arguments.json:
        print(json.dumps(told, indent=1))
    for words in wrong:
        print(f"circuits: not imported: {words}", file=sys.stderr)
    return 2 if wrong else 0


def in_words(graph: AttributionGraph, name: str) -> AttributionGraph:
    """The graph with its tokens as the model writes them, where the file had only their ids.

    Raises:
        WrongGraph: an id is none of the model's.
    """
    from circuits.errors import WrongGraph
    from circuits.model import load_model

    if graph.provenance.get("imported", {}).get("format") != "circuit-tracer":
        return graph
    model = load_model(name)
    nodes = graph.nodes
    rows = [row for row in nodes.where("token", "logit") if nodes.label[row] == f"#{nodes.feature[row]}"]
    strange = [i for i in (*graph.token_ids, *nodes.feature[rows].tolist()) if not 0 <= i < model.words.size]
    if strange:
        raise WrongGraph(
            f"{model.name} has {model.words.size:,} tokens, the graph has number {strange[0]}: of another model?"
        )
    labels = nodes.label.copy()
    labels[rows] = model.words.texts(nodes.feature[rows].tolist())
    return replace(graph, nodes=nodes.with_columns(label=labels), tokens=tuple(model.words.texts(graph.token_ids)))


def describe(graph: AttributionGraph, file: str, id: str, folder: str, groups: dict[str, list[str]]) -> list[str]:
    """The lines that are printed of one file."""
    said = graph.provenance.get("imported", {})
    threshold = (said.get("metadata") or {}).get("node_threshold")
    lines = [f"imported {len(graph.nodes):,} nodes and {len(graph.source):,} edges from {file}"]
    if threshold is not None:
        lines.append(
            f"pruned before, to {threshold:.0%} of the influence: how much that was, no score of this graph can tell"
        )
    notes = graph.provenance.get("feature_notes")
    if notes:
        lines.append("with notes on 1 feature" if len(notes) == 1 else f"with notes on {len(notes):,} features")
    if groups:
        counted = "1 group" if len(groups) == 1 else f"{len(groups)} groups"
        lines.append(f"{counted}: circuits draw {id} --groups {folder}/{GROUPS}")
    return [*lines, f"wrote {folder}"]
