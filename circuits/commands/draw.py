"""`circuits draw`: pictures of stored graphs, and files of them for other programs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits import flags

if TYPE_CHECKING:
    from graphs.addresses import Place

PAGE_FOLDER = "circuit-tracer"
LOOKS = "theme font width_cm most_edges least_share most_boxes bos errors title picture groups".split()


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
        "--as",
        dest="ending",
        metavar="ENDING",
        help="what to draw where no file is named (default: svg); circuit-tracer: a folder for its page, with what is "
        "known of features",
    )
    what = parser.add_argument_group("what to draw")
    what.add_argument(
        "--supernodes",
        dest="picture",
        action="store_const",
        const="groups",
        help="the diagram of groups, suggested ones unless --groups names them; needs Graphviz",
    )
    what.add_argument(
        "--curves",
        dest="picture",
        action="store_const",
        const="curves",
        help="the same as --plot curves: faithfulness as more and more of the graph is kept",
    )
    what.add_argument(
        "--plot",
        dest="picture",
        metavar="NAME",
        help="what `check` measured: predictions, steps, doses, pairs, hypotheses, layers, curves, controls, "
        "stability; or assay: all",
    )
    what.add_argument(
        "--groups", metavar="FILE", help='groups for that diagram, as JSON: {"texas": ["L1/544@3", "L2/17"], …}'
    )
    what.add_argument("--edges", dest="most_edges", metavar="N", type=int, help="at most N edges (default: 700)")
    what.add_argument("--boxes", dest="most_boxes", metavar="N", type=int, help="at most N groups (default: 25)")
    what.add_argument(
        "--least-share", metavar="SHARE", type=float, help="no edge below this share of its target's input (default: 0)"
    )
    what.add_argument("--biases", action="store_true", help="draw the constants too")
    what.add_argument("--bos", metavar="HOW", help="what comes from the opening mark: grey, draw or hide")
    what.add_argument("--errors", metavar="HOW", help="what the features miss: grey or hide")
    look = parser.add_argument_group("how it looks")
    look.add_argument("--theme", metavar="NAME", help="light, dark or print (default: light)")
    look.add_argument("--font", metavar="NAME", help="sans or serif (default: sans)")
    look.add_argument("--width", dest="width_cm", metavar="CM", type=float, help="how wide on paper, in centimetres")
    look.add_argument("--title", metavar="TEXT", help="instead of the prompt")
    look.add_argument("--no-labels", action="store_true", help="only logits are called by name")
    look.add_argument("--no-legend", action="store_true", help="do not say what the marks mean")
    flags.add_store(parser)
    flags.add_json(parser)
    flags.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.ending == PAGE_FOLDER:
        return run_page_folder(arguments)
    from graphs.export import export
    from graphs.store import Store

    store = Store(arguments.store)
    folders = [flags.find_graph(store, text) for text in arguments.graph]
    paths = places(folders, arguments.output, arguments.ending)
    options = looks(arguments, paths)
    written = []
    for folder, path in zip(folders, paths, strict=True):
        graph, assay = store.load(folder), store.assay(folder)
        known: dict[str, Any] = {}
        if path.suffix.lower() == ".html":
            known["heads"] = heads = store.heads_or_reason(folder)
            if isinstance(heads, str):
                print(f"circuits: {path.name} tells of no heads: {heads}", file=sys.stderr)
        if isinstance(path, Path):
            written.append(export(graph, path, assay=assay, **known, **options))
        else:  # beside a graph that lies at an address
            drawing = partial(export, graph, assay=assay, **known, **options)
            written.append(store.attach(folder, path.name, drawing))
        if not (arguments.quiet or arguments.json):
            print(f"wrote {path}, {path.stat().st_size / 1000:,.0f} kB")
    if arguments.json:
        print(json.dumps([str(path) for path in written]))
    return 0


def run_page_folder(arguments: argparse.Namespace) -> int:
    """Write graphs into a folder for circuit-tracer's page.

    Raises:
        CannotWrite: no folder is named, or it takes no files. BadOption: see `looks`.
    """
    from graphs.errors import CannotWrite
    from graphs.export.page_folder import write_page_folder
    from graphs.store import Store

    store = Store(arguments.store)
    found = [flags.find_graph(store, text) for text in arguments.graph]
    folder = Path(arguments.output or "")
    if not arguments.output or folder.is_file():
        raise CannotWrite(f"--as {PAGE_FOLDER} writes a folder: name it, -o FOLDER/.")
    looks(arguments, [folder / "a graph of that page"])
    graphs = [store.load(each) for each in found]
    written = write_page_folder(graphs, folder)
    if arguments.json:
        print(json.dumps([str(path) for path in written]))
    elif not arguments.quiet:
        print(f"wrote {', '.join(map(str, written))}")
        print(f"to see them: circuit-tracer start-server --graph_file_dir {folder}")
    return 0


def looks(arguments: argparse.Namespace, paths: Sequence[Place]) -> dict[str, Any]:
    """What was asked for, as options of a picture; what was not is left to the picture.

    Raises:
        BadOption: a file that is no picture was asked to look like something.
    """
    from graphs.errors import BadOption
    from graphs.export import PICTURES

    options = {name: getattr(arguments, name) for name in LOOKS if getattr(arguments, name) is not None}
    if arguments.biases:
        options["biases"] = True
    for name in ("labels", "legend"):
        if getattr(arguments, f"no_{name}"):
            options[name] = False
    others = [path for path in paths if path.suffix.lower() not in PICTURES]
    if options and others:
        raise BadOption(
            f"{others[0].name} is no picture, and takes none of the choices about one: leave out what says how it "
            f"looks, or draw {', '.join(PICTURES)}."
        )
    if arguments.groups is not None:
        from graphs.grouping import read_groups

        options["picture"] = "groups"
        options["groups"] = read_groups(arguments.groups)
    return options


def places(folders: Sequence[Place], output: str | None, ending: str | None) -> Sequence[Place]:
    """Where each graph's picture goes: beside it, to the file that is named, or under its id into one folder.

    Raises:
        CannotWrite: no file is named, one for several graphs, a folder in place of one, or an ending against --as.
    """
    from graphs.errors import CannotWrite

    suffix = f".{(ending or 'svg').lstrip('.')}"
    if output is None:
        return [folder / f"graph{suffix}" for folder in folders]
    if not output.strip():
        raise CannotWrite("-o wants the name of a file, found nothing: name one, x.svg, or leave -o out.")
    place = Path(output)
    named = place.suffix.lower() in (".svg", ".png", ".pdf", ".dot", ".html")
    folder_meant = output.endswith("/") or ending is not None or len(folders) > 1
    if place.is_dir() and (named or not folder_meant):
        raise CannotWrite(
            f"{output} is a folder: name a file in it, {place / 'x'}{suffix}"
            + ("." if named else f", or write {output}/ for one that is called by the graph's id.")
        )
    if place.is_dir() or output.endswith("/") or (len(folders) > 1 and not place.suffix and not place.exists()):
        place.mkdir(parents=True, exist_ok=True)
        return [place / f"{folder.resolve().name}{suffix}" for folder in folders]
    if len(folders) > 1:
        raise CannotWrite(
            f"{len(folders)} graphs do not go into one file: name a folder, {place.with_suffix('')}/, and "
            f"--as {(ending or place.suffix).lstrip('.')}."
        )
    if ending is not None and place.suffix and place.suffix.lower() != suffix.lower():
        raise CannotWrite(f"{output} ends in {place.suffix}, but --as says {suffix}: leave one of them out.")
    return [place if place.suffix or ending is None else place.with_name(place.name + suffix)]
