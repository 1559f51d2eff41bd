"""`circuits find`: the heads, MLPs, neurons or edges between them that carry an answer, over pairs of prompts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from circuits import flags

if TYPE_CHECKING:
    from circuits.components.pairs import Pairs
    from circuits.components.searching import Found
    from circuits.model import Model

OF_EDGES = ("eap-ig", "eap", "eap-ig-activations", "clean-corrupted", "relp", "exact", "information-flow", "random")
OF_NODES = ("atp", "atp-star", "conductance", "exact-nodes")
BY_SEARCH = ("acdc",)
ABLATIONS = ("resample", "zero", "mean", "mean-by-position", "optimal")
METRICS = ("logit-difference", "probability-difference", "log-probability", "cross-entropy", "kl")
TAKEN = {
    "edges": ("edges", "positions", "signed", "batch", "memory", "steps", "begin", "seed"),
    "nodes": (
        "nodes",
        "apart",
        "neurons",
        "transcoders",
        "max_features",
        "force",
        "positions",
        "verify",
        "signed",
        "batch",
        "memory",
        "steps",
        "begin",
        "seed",
    ),
    "search": ("threshold", "memory"),
}
SPLIT = "train"  # of a task's pairs
SHOWN = 10  # edges or nodes told in words
UNFINISHED = ".unfinished"  # in the store: what unfinished searches know so far


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pairs",
        metavar="FILE_OR_TASK",
        help='JSON lines: {"clean": …, "corrupted": …, "right": …, "wrong": …}; or in a checkout a task by name: ioi',
    )
    parser.add_argument("--size", metavar="N", type=flags.count, help="how many pairs of a task (default: 100)")
    flags.add_model(parser, transcoders=False)
    parser.add_argument(
        "--method",
        choices=(*OF_EDGES, *OF_NODES, *BY_SEARCH),
        default="eap-ig",
        help=f"how edges are scored, or nodes ({', '.join(OF_NODES)}), or searched (acdc) (default: eap-ig)",
    )
    parser.add_argument("--edges", metavar="N", type=flags.count, help="how many at most (default: 200)")
    parser.add_argument("--nodes", metavar="N", type=flags.count, help="how many at most, where nodes are scored (30)")
    parser.add_argument(
        "--threshold", metavar="X", type=float, help="acdc: an edge that makes less difference goes (default: 0.01)"
    )
    parser.add_argument(
        "--apart", action="store_true", help="nodes: queries, keys and values of each head besides its output"
    )
    parser.add_argument("--neurons", action="store_true", help="nodes: an MLP's neurons in its place")
    parser.add_argument(
        "-t",
        "--transcoders",
        metavar="SET",
        type=flags.filled,
        help="nodes: features of this per-layer set in an MLP's place, and an error for what they miss",
    )
    parser.add_argument(
        "--max-features", metavar="N", type=flags.count, help="those that differ most (default: all active ones)"
    )
    parser.add_argument("--force", action="store_true", help="use the set even if it does not fit the model")
    parser.add_argument(
        "--positions", action="store_true", help="nodes, edges of eap and eap-ig: each position by itself"
    )
    parser.add_argument(
        "--verify", metavar="N", type=flags.count, help="nodes: patch the N best for real, and choose from these"
    )
    parser.add_argument("--signed", action="store_true", help="the highest scores, not the largest sizes")
    parser.add_argument(
        "--ablation",
        choices=ABLATIONS,
        default="resample",
        help="what takes the place of all outside the circuit (default: resample, the corrupted prompt)",
    )
    parser.add_argument(
        "--metric",
        choices=METRICS,
        help="what to keep (default: logit-difference; of acdc: kl, to the clean run); cross-entropy is "
        "log-probability by its other name, given with its sign turned",
    )
    parser.add_argument(
        "--steps", metavar="N", type=flags.count, help="of integrated gradients (default: 5; conductance: 10)"
    )
    parser.add_argument(
        "--begin",
        choices=("corrupted", "clean"),
        help="which end is one of the steps (default: EAP-IG's: corrupted, of eap-ig-activations clean)",
    )
    flags.add_seed(parser, "for random scores")
    parser.add_argument("--batch", metavar="N", type=flags.count, help="pairs at a time (default: 32, or by --memory)")
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        type=flags.size,
        help="at most so much beside the model, as 4GB; batches are as large as it holds",
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="also draw the graph there: x.svg, x.html, …")
    flags.add_store(parser)
    flags.add_json(parser)
    flags.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from circuits.keeping import check_export, check_writable
    from graphs.store import Store

    store = Store(arguments.store)
    # At an address nothing unfinished is kept: a search writes it often.
    unfinished = store.folder / UNFINISHED if isinstance(store.folder, Path) else None
    if isinstance(store.folder, Path):
        check_writable(store.folder)
    if arguments.output:
        check_export(arguments.output)

    options = _asked(arguments)
    making = _making(arguments)

    from circuits.components.pairs import gather, read_records

    records = read_records(arguments.pairs) if making is None else []  # a bad file is told before a model is loaded

    from circuits.components.finding import find, search_out
    from circuits.components.node_finding import find_nodes
    from circuits.keeping import keep_pictures
    from circuits.model import load_model
    from circuits.progress import Bars
    from circuits.transcoders.loading import load_transcoders
    from graphs.export import export

    with _saying_what_is_kept(unfinished), Bars(quiet=arguments.quiet) as bars:
        bars.note(f"loading {arguments.model}")
        model = load_model(arguments.model, device=arguments.device, dtype=arguments.dtype, progress=bars)
        pairs, told = (gather(model, records), {}) if making is None else _make(making, arguments, model)
        force = options.pop("force", False)
        if arguments.transcoders:
            bars.note(f"loading transcoders {arguments.transcoders}")
            options["transcoders"] = load_transcoders(arguments.transcoders, model, force=force, progress=bars)
        search = find_nodes if arguments.method in OF_NODES else find
        if arguments.method in BY_SEARCH:
            search = search_out
        how = {"method": arguments.method, "ablation": arguments.ablation, "unfinished": unfinished}
        found = search(model, pairs, **how, progress=bars, **options)
        found = replace(found, graph=replace(found.graph, provenance={**found.graph.provenance, **told}))
        bars.note("storing the graph")
        id = store.save(found.graph, name=Path(arguments.pairs).stem)
        written, missing = keep_pictures(store, id, found.graph, None, bars.note)
        if arguments.output:
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            export(found.graph, arguments.output)
    if arguments.json:
        folder = str(store.find(id))
        extra = {"faithfulness": _plain(found.faithfulness), "missing": missing}
        print(json.dumps({"folder": folder, **store.record(id), **extra}, indent=1))
    elif not arguments.quiet:
        beside = f"wrote {store.find(id)}: graph.json, nodes.parquet, edges.parquet, {', '.join(written)}"
        print(*in_words(found), *missing, beside, sep="\n")
        if arguments.output:
            print(f"wrote {arguments.output}")
    return 0


def _making(arguments: argparse.Namespace) -> ModuleType | None:
    """The module that makes tasks; None where the pairs are in a file.

    Raises:
        BadOption: there is neither such a task nor such a file, or a file's size is asked.
    """
    from circuits.checkout import from_checkout
    from circuits.errors import BadOption
    from circuits.spelling import did_you_mean

    name = arguments.pairs
    if Path(name).suffix or Path(name).is_file():
        if arguments.size is not None:
            raise BadOption(f"--size is asked, but {name} is a file, all of which is taken: it is for tasks.")
        return None
    try:
        making = from_checkout("benchmarks.tasks.making")
    except BadOption as missing:
        raise BadOption(f"there is no file {name}; were it a task: {missing} A JSONL file works anywhere.") from missing
    if name not in making.TASKS:
        tasks = ", ".join(making.TASKS)
        raise BadOption(f"there is no file and no task {name!r}: tasks are {tasks}.{did_you_mean(name, making.TASKS)}")
    return making


def _make(making: ModuleType, arguments: argparse.Namespace, model: Model) -> tuple[list[Pairs], dict[str, Any]]:
    """A task's training pairs, and what the graph tells of them. The others are for whoever holds the circuit to them.

    Raises:
        BadTask: the model has not the words for it; the message names the tasks for which it has.
    """
    from circuits.components.pairs import gather

    name, size = arguments.pairs, arguments.size or making.SIZE
    try:
        made = making.make_task(name, model, size=size)
    except making.BadTask as reason:
        others = ", ".join(making.tasks_for(model)) or "none; give pairs of its own, in a JSONL file"
        raise making.BadTask(f"{reason} Tasks that it can be given: {others}.") from reason
    lines = [(f"{name}, pair {number}", line) for number, line in enumerate(made.splits[SPLIT], start=1)]
    return gather(model, lines), {"task": {"name": name, "split": SPLIT, "size": size, "seed": 0, "note": made.note}}


def _plain(number: float) -> float | None:
    return number if number == number else None


def _asked(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was asked; what this kind of method has no use for is refused.

    Raises:
        BadOption: a flag is of another kind of method.
    """
    from circuits.errors import BadOption

    kind = "nodes" if arguments.method in OF_NODES else "search" if arguments.method in BY_SEARCH else "edges"
    known = dict.fromkeys(name for names in TAKEN.values() for name in names)
    given = [name for name in known if getattr(arguments, name) not in (None, False)]
    strange = [name for name in given if name not in TAKEN[kind]]
    if strange:
        does = {"edges": "scores edges", "nodes": "scores nodes", "search": "takes edges out"}[kind]
        others = [
            *(OF_EDGES if strange[0] in TAKEN["edges"] else ()),
            *(OF_NODES if strange[0] in TAKEN["nodes"] else ()),
        ]
        raise BadOption(
            f"--{strange[0].replace('_', '-')} is asked, but {arguments.method} {does}: it is for "
            f"{', '.join(others or BY_SEARCH)}."
        )
    if arguments.force and not arguments.transcoders:
        raise BadOption("--force is for a set that does not fit the model: name it with --transcoders.")
    found = {name: getattr(arguments, name) for name in given}
    if arguments.metric is not None:
        found["metric"] = arguments.metric
    return found


@contextmanager
def _saying_what_is_kept(unfinished: Path | None) -> Iterator[None]:
    """On Ctrl-C, whether the same command has something to go on from."""
    try:
        yield
    except KeyboardInterrupt:
        if unfinished is not None and unfinished.is_dir() and any(unfinished.iterdir()):
            print("circuits: what is finished is kept; the same command goes on with the rest", file=sys.stderr)
        raise


def in_words(found: Found) -> list[str]:
    """What was found, for a terminal."""
    import numpy as np

    from circuits.components.components import Components

    made = found.graph.provenance
    of = f"{made['method']} on {made['pairs']} pair{'s' * (made['pairs'] != 1)}"
    if isinstance(found.over, Components):
        every = int(found.over.edges.sum()) * (found.scores.shape[2] if found.scores.ndim == 3 else 1)
        kept = f"{int(found.chosen.sum()):,} of {every:,} edges kept, "
        kept += f"{len(found.graph.nodes)} of {len(found.over.sources) + 1} components"
    else:
        kept = f"{int(found.chosen[1:].sum()):,} of {found.chosen[1:].size:,} nodes kept"
    lines = [
        *_of_task(made.get("task")),
        f"{of}: {kept}",
        f"{made['options']['metric']}: {found.clean:.3f} clean, {found.corrupted:.3f} {_ablated(made)}, "
        f"{found.kept:.3f} with only the circuit clean: {found.faithfulness:.1%} of the difference kept",
        *_verified(made),
        f"strongest {'edges' if isinstance(found.over, Components) else 'nodes'}:",
    ]
    if not found.chosen.any():
        return [*lines[:-1], "no edge that was chosen lies on a path from the tokens to the logits: choose more"]
    order = np.argsort(-np.abs(np.where(found.chosen, found.scores, 0.0)), axis=None, kind="stable")
    for at in order[: min(SHOWN, int(found.chosen.sum()))].tolist():
        place = np.unravel_index(at, found.scores.shape)
        lines.append(f"  {found.scores[place]:+.4f}  {_name(found, *map(int, place))}")
    return lines + _edges_in_words(found)


def _edges_in_words(found: Found) -> list[str]:
    """Of a circuit of nodes the strongest edges between two of them: what reads what."""
    told = found.graph.provenance.get("edges", {})
    ends = {edge: edge.split("->") for edge in told}
    inner = [edge for edge, (source, target) in ends.items() if source[:5] != "input" and target != "logits"]
    lines = [f"  {told[edge]:+.4f}  {' -> '.join(_labelled(found, end) for end in ends[edge])}" for edge in inner]
    return ["strongest edges between them:", *lines[:SHOWN]] if lines else []


def _labelled(found: Found, name: str) -> str:
    """A part with what is known of it, where it is a feature that has a label: m0.f828 (texas)."""
    nodes = found.graph.nodes
    for row in nodes.where("feature"):
        if name.partition("@")[0] == f"m{nodes.layer[row]}.f{nodes.feature[row]}" != nodes.label[row]:
            return f"{name} ({nodes.label[row]})"
    return name


def _of_task(task: Mapping[str, Any] | None) -> list[str]:
    if task is None:
        return []
    said = f"{task['name']}, {task['split']} pairs"
    return [f"{said}: {task['note']}" if task["note"] else said]


def _verified(made: Mapping[str, Any]) -> list[str]:
    if "verified" not in made:
        return []
    told = made["verified"]
    beyond = "none is left"
    if told["missed"]:
        beyond = f"in company, no other moves the metric by more than {told['missed']:.3f} ({told['confidence']:.0%})"
    return [f"{told['nodes']} nodes patched for real; {beyond}"]


def _ablated(made: Mapping[str, Any]) -> str:
    ablation = made["options"]["ablation"]
    return "corrupted" if ablation == "resample" else f"with all ablated ({ablation})"


def _name(found: Found, *place: int) -> str:
    from circuits.components.components import Components

    if isinstance(found.over, Components):
        name, position = found.over.name(*place[:2]), place[2:]
    else:
        name, position = _labelled(found, found.over.names[place[0]]), place[1:]
    return name + "".join(f" @{found.graph.tokens[at].strip()} ({at})" for at in position)
