"""`circuits upload`: a stored graph put on a Neuronpedia server."""

from __future__ import annotations

import argparse
import json
import os

from circuits import flags
from circuits.uploading import SERVER

KEY = "NEURONPEDIA_API_KEY"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_graphs(parser)
    parser.add_argument("--scan", metavar="NAME", help="the model's name there (default: its name here)")
    parser.add_argument("--slug", metavar="NAME", help="the graph's name there (default: words of the prompt, a hash)")
    parser.add_argument("--source-set", metavar="NAME", help="the dictionary's name there, for its pages of features")
    parser.add_argument("--groups", metavar="FILE", help="groups to save with it, as circuits draw --groups takes them")
    parser.add_argument("--server", metavar="URL", default=SERVER, help=f"where to (default: {SERVER})")
    parser.epilog = f"The key of your account there is read from the environment: {KEY}."
    flags.add_store(parser)
    flags.add_json(parser)
    flags.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from circuits.errors import NotUploaded
    from circuits.uploading import upload
    from graphs.export.neuronpedia import opens_there, subgraph_of, to_neuronpedia
    from graphs.grouping import read_groups
    from graphs.store import Store

    key = os.environ.get(KEY, "")
    if not key:
        raise NotUploaded(f"a key of that server is wanted in the environment, found none: set {KEY}.")
    store = Store(arguments.store)
    graph = store.load(flags.find_graph(store, arguments.graph))
    if not opens_there(graph):
        raise NotUploaded(
            "everything before what is explained lies in layer 0, and the page there fails on such a graph. Prune "
            "less, or trace a model of more layers. For other programs, circuits draw -o x.json writes it."
        )
    names = {"slug": arguments.slug, "scan": arguments.scan, "source_set": arguments.source_set}
    groups = read_groups(arguments.groups) if arguments.groups else None
    record = to_neuronpedia(graph, groups=groups, **names)
    del record["circuit_assay"]  # how the graph was made, with names of folders, is nobody's business there
    subgraph = None
    if groups is not None:
        subgraph = subgraph_of(graph, groups, scan=record["metadata"]["scan"], slug=record["metadata"]["slug"])
    address = upload(record, key, server=arguments.server, subgraph=subgraph)
    if arguments.json:
        print(json.dumps({"url": address}))
    elif not arguments.quiet:
        print(f"uploaded {len(record['nodes']):,} nodes and {len(record['links']):,} links: {address}")
    return 0
