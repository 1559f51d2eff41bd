"""`circuits diff`: two stored graphs beside each other, in words, as JSON or as a picture of both."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits import flags

if TYPE_CHECKING:
    from graphs.comparing import Comparison
    from graphs.graph import AttributionGraph

FEW = 8  # nodes of each list told in words
LOOKS = ("theme", "font", "width_cm", "most_edges", "title")
FIGURES = ("replacement", "completeness", "error", "unselected", "pruned", "bias")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name in ("A", "B"):
        parser.add_argument(
            name.lower(),
            metavar=name,
            help="a graph: an id, its beginning or the digits it ends in, or a graph's folder",
        )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="x.svg, x.png, x.pdf, x.dot: both graphs in one picture, tokens aligned"
    )
    parser.add_argument("--nodes", metavar="N", type=flags.count, default=FEW, help=f"of each list (default: {FEW})")
    parser.add_argument(
        "--force", action="store_true", help="compare two models or sets too, as if their numbers meant the same"
    )
    look = parser.add_argument_group("how the picture looks")
    look.add_argument(
        "--edges", dest="most_edges", metavar="N", type=int, help="at most N of each graph (default: 300)"
    )
    look.add_argument("--theme", metavar="NAME", help="light, dark or print (default: light)")
    look.add_argument("--font", metavar="NAME", help="sans or serif (default: sans)")
    look.add_argument("--width", dest="width_cm", metavar="CM", type=float, help="how wide on paper, in centimetres")
    look.add_argument("--title", metavar="TEXT", help="above both prompts")
    flags.add_store(parser)
    flags.add_json(parser)
    flags.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from circuits.errors import BadOption
    from graphs.comparing import compare
    from graphs.store import Store

    look = {name: getattr(arguments, name) for name in LOOKS if getattr(arguments, name) is not None}
    if look and arguments.output is None:
        raise BadOption("there is no picture to look like that: name its file too, -o x.svg.")
    store = Store(arguments.store)
    folders = [flags.find_graph(store, text) for text in (arguments.a, arguments.b)]
    a, b = map(store.load, folders)
    found = compare(a, b, force=arguments.force)
    if arguments.output is not None:
        from graphs.export.comparison import draw_comparison

        draw_comparison(a, b, arguments.output, found=found, **look)
    if arguments.json:
        print(json.dumps(as_json(a, b, found, [each.name for each in folders]), indent=1, allow_nan=False))
    elif not arguments.quiet:
        for line in describe(a, b, found, arguments.nodes):
            print(line)
        if arguments.output is not None:
            print(f"wrote {arguments.output}")
    return 0


def describe(a: AttributionGraph, b: AttributionGraph, found: Comparison, most: int) -> list[str]:
    """The lines that `diff` prints."""
    from graphs.comparing import counts_in_words
    from graphs.export.scene.names import prompt_in_words
    from graphs.wording import logits_in_words

    lines = []
    for name, graph in (("A", a), ("B", b)):
        lines += [f"{name}: {prompt_in_words(graph)}", *(f"  {line}" for line in logits_in_words(graph)[:3])]
    return [
        *lines,
        counts_in_words(found),
        f"overlap of influence {_plain(found.overlap)}; weights of the edges in both, correlation "
        f"{_plain(found.correlation)}",
        "A node is the same in both when kind, layer, unit and place counted from the end are. Overlap: the lesser of",
        "both influences over the greater, summed over all nodes. How much two wordings of one question differ anyway,",
        "this does not say: trace such a pair, and hold that figure against this one.",
        shifts_in_words(found),
        *_moves_in_words(a, b, found, most),
        *_only_in_words("A", a, found.only_a, most),
        *_only_in_words("B", b, found.only_b, most),
    ]


def shifts_in_words(found: Comparison) -> str:
    """What becomes of the influence in A and in B."""
    before, after = found.scores
    told = []
    for name in FIGURES:
        one, other = getattr(before, name), getattr(after, name)
        told.append(f"{name} {_share(one)} → {_share(other)}")
    return f"A → B: {', '.join(told)}; {_plain(before.path_length)} → {_plain(after.path_length)} hops in the mean"


def _moves_in_words(a: AttributionGraph, b: AttributionGraph, found: Comparison, most: int) -> list[str]:
    order = np.argsort(-np.abs(found.moved), kind="stable")
    order = order[found.moved[order] != 0][:most]
    lines = ["influence moves most, A → B:"] if len(order) else ["no node that is in both has other influence in B"]
    for row, twin in found.both[order].tolist():
        name, other = _named(a, row), _named(b, twin)
        before, after = _influence(a, row), _influence(b, twin)
        lines.append(
            f"  {f'{_share(before)} → {_share(after)}':>15}  {name}" + (f" | {other}" if other != name else "")
        )
    return lines


def _only_in_words(name: str, graph: AttributionGraph, rows: np.ndarray, most: int) -> list[str]:
    carried = np.nan_to_num(graph.nodes.influence[rows])
    order = rows[np.argsort(-carried, kind="stable")][:most].tolist()
    lines = [f"  {_share(_influence(graph, row)):>6}  {_named(graph, row)}" for row in order]
    return [f"only in {name}, by influence:", *lines] if order else [f"no node is only in {name}"]


def _named(graph: AttributionGraph, row: int) -> str:
    """A node by its name and, since several units may have one, by its number: `texas L2 @dallas (2/544)`."""
    from graphs.wording import name_node

    name, unit = name_node(graph, row), graph.nodes.unit(row)
    numbered = str(graph.nodes.kind[row]) in ("feature", "attention", "neuron") and f"L{unit}" not in name
    return f"{name} ({unit})" if numbered else name


def _influence(graph: AttributionGraph, row: int) -> float:
    return float(graph.nodes.influence[row])


def as_json(a: AttributionGraph, b: AttributionGraph, found: Comparison, ids: list[str]) -> dict[str, Any]:
    """The whole comparison; rows are those of each graph's node table, what is undefined is null."""

    def only(graph: AttributionGraph, rows: np.ndarray) -> list[dict[str, Any]]:
        return [
            {"row": row, "name": _named(graph, row), "influence": _known(_influence(graph, row))}
            for row in rows.tolist()
        ]

    both = [
        {
            "rows": [row, twin],
            "names": [_named(a, row), _named(b, twin)],
            "influence": [_known(_influence(a, row)), _known(_influence(b, twin))],
        }
        for row, twin in found.both.tolist()
    ]
    scored = [{name: _known(value) for name, value in each.to_json().items()} for each in found.scores]
    return {
        "a": ids[0],
        "b": ids[1],
        "overlap": _known(found.overlap),
        "correlation": _known(found.correlation),
        "nodes": {"both": both, "only_a": only(a, found.only_a), "only_b": only(b, found.only_b)},
        "edges": {
            "both": len(found.edges),
            "only_a": len(found.edges_only_a),
            "only_b": len(found.edges_only_b),
        },
        "scores": {"a": scored[0], "b": scored[1]},
    }


def _known(value: float) -> float | None:
    return None if value != value else value


def _plain(value: float) -> str:
    return "undefined" if value != value else f"{value:.2f}"


def _share(value: float) -> str:
    return "undefined" if value != value else f"{value:.1%}"
