"""`circuits list`: the graphs in the store, latest first."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from circuits import flags

if TYPE_CHECKING:
    from graphs.store import Entry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_store(parser)
    flags.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    from graphs.store import Store
    from graphs.wording import table_in_words

    store = Store(arguments.store)
    entries = store.list()
    if arguments.json:
        places = [{"store": str(store.folder), "folder": str(entry.folder)} for entry in entries]
        print(json.dumps([{**asdict(entry), **place} for entry, place in zip(entries, places, strict=True)], indent=1))
        return 0
    if not store.folder.exists():
        print(f"there is no store {store.folder} yet: trace a prompt first, or name another folder with --store")
    elif not entries:
        print(f"no graphs in {store.folder}: trace a prompt first")
    for line in table_in_words([row(entry) for entry in entries if not entry.problem]):
        print(line)
    for entry in entries:
        if entry.problem:
            print(f"{entry.id}  cannot be read: {entry.problem}")
    return 0


def row(entry: Entry) -> tuple[str, ...]:
    """The cells of a graph that can be read. The id is whole, for it is copied; what may be long is cut."""
    from graphs.wording import visible

    targets = ", ".join(visible(target.removeprefix(" ")) for target in entry.targets)
    supported = sum(verdict == "supported" for verdict in entry.verdicts)
    return (
        entry.id,
        f"{entry.nodes:,} nodes",
        f"{entry.edges:,} edges",
        cut(targets, 24),
        f"{cut(entry.model, 20)} with {cut(entry.transcoders, 20)}" if entry.transcoders else cut(entry.model, 20),
        cut(entry.method, 20),
        f"{supported} of {len(entry.verdicts)} supported" if entry.verdicts else "no assay",
        entry.saved[:16].replace("T", " "),
    )


def cut(text: str, width: int) -> str:
    """The text, its end left out where it is wider."""
    return text if len(text) <= width else f"{text[: width - 1]}…"
