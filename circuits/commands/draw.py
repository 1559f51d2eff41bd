"""`circuits draw`: pictures of stored graphs, and files of them for other programs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from circuits import flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_graphs(parser, nargs="+")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="x.svg, x.png, …: the ending says what to draw. For several graphs a folder, with --as. "
        "Without it, the picture goes beside the graph",
    )
    parser.add_argument(
        "--as", dest="ending", metavar="ENDING", help="what to draw where no file is named (default: svg)"
    )
    flags.add_store(parser)
    flags.add_json(parser)
    flags.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from graphs.export import export
    from graphs.store import Store

    store = Store(arguments.store)
    folders = [flags.find_graph(store, text) for text in arguments.graph]
    written = []
    for folder, path in zip(folders, places(folders, arguments.output, arguments.ending), strict=True):
        written.append(export(store.load(folder), path, assay=store.assay(folder)))
        if not (arguments.quiet or arguments.json):
            print(f"wrote {path}, {path.stat().st_size / 1000:,.0f} kB")
    if arguments.json:
        print(json.dumps([str(path) for path in written]))
    return 0


def places(folders: list[Path], output: str | None, ending: str | None) -> list[Path]:
    """Where each graph's picture goes: beside it, to the file that is named, or under its id into one folder.

    Raises:
        CannotWrite: one file is named for several graphs.
    """
    from graphs.errors import CannotWrite

    suffix = f".{(ending or 'svg').lstrip('.')}"
    if output is None:
        return [folder / f"graph{suffix}" for folder in folders]
    place = Path(output)
    if place.is_dir() or output.endswith("/"):
        place.mkdir(parents=True, exist_ok=True)
        return [place / f"{folder.resolve().name}{suffix}" for folder in folders]
    if len(folders) > 1:
        raise CannotWrite(f"{len(folders)} graphs do not go into one file: name a folder, {output}/, and --as svg.")
    return [place if ending is None or place.suffix else place.with_suffix(suffix)]
