"""The flags that several commands share, so that they mean the same everywhere. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphs.store import Store

STORE = "circuits-store"


def add_store(parser: argparse.ArgumentParser) -> None:
    """--store FOLDER."""
    parser.add_argument("--store", metavar="FOLDER", default=STORE, help=f"where graphs are kept (default: {STORE}/)")


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """--quiet."""
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")


def add_graphs(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """GRAPH, or GRAPH… with nargs="+": as `find_graph` takes them."""
    parser.add_argument("graph", metavar="GRAPH", nargs=nargs, help="an id, its beginning, or a graph's folder")


def find_graph(store: Store, text: str) -> Path:
    """The folder of the graph that a person means: an id in the store, the beginning of one, or a path.

    An id comes first: a folder of the same name in the current one does not hide it.

    Raises:
        UnknownGraph: nothing of that name, or several.
    """
    from graphs.errors import UnknownGraph

    try:
        return store.find(text)
    except UnknownGraph:
        if text and Path(text).is_dir():
            return store.find(Path(text))
        raise
