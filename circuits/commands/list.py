"""`circuits list`: the graphs in the store, latest first."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from circuits import flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_store(parser)
    flags.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from graphs.store import Store
    from graphs.wording import table_in_words

    store = Store(arguments.store)
    entries = store.list()
    if arguments.json:
        print(json.dumps([{**asdict(entry), "folder": str(entry.folder)} for entry in entries], indent=1))
        return 0
    if not entries:
        print(f"no graphs in {store.folder}: trace a prompt first")
        return 0
    readable = [entry for entry in entries if not entry.problem]
    rows = [
        (e.id, f"{e.nodes:,} nodes", f"{e.edges:,} edges", e.model, e.saved[:16].replace("T", " ")) for e in readable
    ]
    for line in table_in_words(rows):
        print(line)
    for entry in entries:
        if entry.problem:
            print(f"{entry.id}  cannot be read: {entry.problem}")
    return 0
