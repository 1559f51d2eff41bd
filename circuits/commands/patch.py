"""`circuits patch`: one prompt's values in the other's run, place by place, as a heat map."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from circuits import flags

if TYPE_CHECKING:
    from circuits.components.pairs import Pairs
    from circuits.components.transformer import Transformer
    from circuits.model import Model
    from graphs.export.patching import Patching

KINDS = ("heads", "mlps", "resid", "attention", "neurons")
PATHS = "paths"
ABLATIONS = ("resample", "zero", "mean", "mean-by-position")
DIRECTIONS = {"denoising": ("denoising",), "noising": ("noising",), "both": ("denoising", "noising")}
METRICS = {  # in words, and their units
    "logit-difference": ("logit of {right!r} less that of {wrong!r}", "logits"),
    "probability-difference": ("probability of {right!r} less that of {wrong!r}", "probability"),
    "log-probability": ("log probability of {right!r}", "nats"),
    "cross-entropy": ("minus the cross entropy of {right!r}", "nats"),
    "kl": ("minus the divergence from the clean run", "nats"),
}
WRITTEN = ".svg, .png, .pdf, .dot, .html, .json or .csv"
SHOWN = 5  # places told in words
MOST_NEURONS = 24  # that a heat map shows by position
MOST_NUMBERS = 10**6  # that one range names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", help="the text whose answer is looked for")
    parser.add_argument(
        "--corrupt", metavar="PROMPT", required=True, help="the same with another answer, as many tokens long"
    )
    parser.add_argument("--over", choices=(*KINDS, PATHS), default="heads", help="what to patch (default: heads)")
    parser.add_argument(
        "--positions", action="store_true", help="heads, neurons: each position of the prompt by itself"
    )
    parser.add_argument("--layers", metavar="NUMBERS", type=numbers, help="only these, as 0,4-7 (default: all)")
    parser.add_argument("--neurons", metavar="NUMBERS", type=numbers, help="neurons: only these of each layer")
    parser.add_argument(
        "--from",
        dest="senders",
        metavar="NAMES",
        type=names,
        help="paths: who sends, as a0.h1,m2,input (default: every head and MLP by itself)",
    )
    parser.add_argument(
        "--to", dest="receivers", metavar="NAMES", type=names, help="paths: who receives, as a3.h2<q>,a3.h2,m3,logits"
    )
    parser.add_argument(
        "--mlps",
        choices=("live", "frozen"),
        help="paths: whether these pass through MLPs, or are direct edges (default: live)",
    )
    parser.add_argument(
        "--direction",
        choices=DIRECTIONS,
        default="denoising",
        help="clean values into the corrupted run, the reverse, or both ways (default: denoising)",
    )
    parser.add_argument(
        "--ablation",
        choices=ABLATIONS,
        default="resample",
        help="noising: what takes the place of clean values (default: resample, those of the corrupted prompt)",
    )
    parser.add_argument(
        "--metric", choices=METRICS, default="logit-difference", help="what is measured (default: logit-difference)"
    )
    parser.add_argument("--right", metavar="TOKEN", help="the clean prompt's answer (default: its likeliest token)")
    parser.add_argument("--wrong", metavar="TOKEN", help="the other's answer (default: its likeliest token)")
    default = Path("patch.svg")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, default=default, help=f"{WRITTEN} (default: {default})"
    )
    look = parser.add_argument_group("how a picture looks")
    look.add_argument("--diagram", action="store_true", help="paths: senders, receivers and what goes between")
    look.add_argument("--theme", metavar="NAME", help="light, dark or print (default: light)")
    look.add_argument("--font", metavar="NAME", help="sans or serif (default: sans)")
    look.add_argument("--width", dest="width_cm", metavar="CM", type=float, help="how wide on paper, in centimetres")
    look.add_argument("--title", metavar="TEXT", help="instead of what was patched")
    flags.add_model(parser, transcoders=False)
    flags.add_json(parser)
    flags.add_quiet(parser)


@dataclass(frozen=True)
class Shown:
    """What was patched in one direction, as a heat map has it. effect, share: [row column].

    rows, columns: what is meant by each; across: what columns are. places: the name of each square. [row][column]
    paths: which squares are paths between which sets of components; none where places were patched.
    """

    rows: list[str]
    columns: list[str]
    places: list[list[str]]
    across: str
    effect: Float[np.ndarray, "row column"]
    share: Float[np.ndarray, "row column"]
    clean: float
    corrupted: float
    paths: tuple[list[str], list[str], Int[np.ndarray, "sender receiver"]] | None = None


def run(arguments: argparse.Namespace) -> int:
    from circuits.keeping import check_output
    from graphs.export.patching import check_choices, write_patching

    look = {name: getattr(arguments, name) for name in ("theme", "font", "width_cm", "title")}
    check_output(arguments.output)
    _check_choices(arguments)
    check_choices(arguments.output, paths=arguments.over == PATHS, diagram=arguments.diagram, **look)

    from circuits.components.ablations import ABLATIONS
    from circuits.components.metrics import METRICS
    from circuits.components.opening import check_faithful, transformer_of
    from circuits.model import load_model
    from circuits.progress import Bars

    with Bars(quiet=arguments.quiet) as bars:
        bars.note(f"loading {arguments.model}")
        model = load_model(arguments.model, device=arguments.device, dtype=arguments.dtype, progress=bars)
        pairs = _pair(model, arguments)
        transformer = transformer_of(model)
        check_faithful(transformer, model, pairs.clean)
        settings = {
            "metric": METRICS[arguments.metric],
            "ablation": ABLATIONS[arguments.ablation](transformer, [pairs], bars),
            "progress": lambda done, total: bars("patching", done, total),
        }
        patch = _patch_paths if arguments.over == PATHS else _patch_places
        found = {
            direction: patch(model, transformer, pairs, arguments, {**settings, "direction": direction})
            for direction in DIRECTIONS[arguments.direction]
        }
        result = _gather(model, pairs, arguments, found)
        bars.note(f"writing {arguments.output}")
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        write_patching(result, arguments.output, diagram=arguments.diagram, **look)
    if arguments.json:
        print(json.dumps(result.record, indent=1))
    elif not arguments.quiet:
        print(*_in_words(arguments, result), f"wrote {arguments.output}", sep="\n")
    return 0


def _check_choices(arguments: argparse.Namespace) -> None:
    """That what was asked goes together.

    Raises:
        BadOption: it does not.
    """
    from circuits.errors import BadOption

    of_paths = [name for name in ("senders", "receivers", "mlps") if getattr(arguments, name) is not None]
    of_places = [name for name in ("positions", "layers", "neurons") if getattr(arguments, name) not in (None, False)]
    if arguments.over == PATHS and not arguments.receivers:
        raise BadOption("paths lead somewhere: name receivers, as --to a3.h2<q>,logits.")
    if arguments.over == PATHS and of_places:
        raise BadOption(f"--{of_places[0]} is for {', '.join(KINDS)}: paths are told by --from and --to.")
    if arguments.over != PATHS and of_paths:
        raise BadOption("--from, --to and --mlps are for paths: give --over paths as well.")
    if arguments.ablation != "resample" and arguments.direction != "noising":
        raise BadOption(
            f"--ablation {arguments.ablation} takes the place of clean values, so ablations are for noising: give "
            "--direction noising as well."
        )
    if arguments.neurons is not None and arguments.over != "neurons":
        raise BadOption(f"--neurons says which neurons: give --over neurons, found {arguments.over}.")


def names(text: str) -> list[str]:
    """Names with commas between them."""
    found = [name.strip() for name in text.split(",")]
    if not all(found) or len(set(found)) != len(found):
        raise argparse.ArgumentTypeError(f"names with commas between them are wanted, each once, found {text!r}")
    return found


def numbers(text: str) -> list[int]:
    """Whole numbers and ranges of them with commas between: `0,4-7`."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = (each.strip() for each in part.partition("-"))
        ends = [first, last or first]
        if not all(each.isdecimal() and len(each) < 10 for each in ends):
            raise argparse.ArgumentTypeError(f"numbers and ranges like 0,4-7 are wanted, found {text!r}")
        low, high = map(int, ends)
        if not low <= high < low + MOST_NUMBERS:
            raise argparse.ArgumentTypeError(f"a range runs from the smaller number to the larger, found {part!r}")
        found += range(low, high + 1)
    return found


def _patch_places(
    model: Model, transformer: Transformer, pairs: Pairs, arguments: argparse.Namespace, settings: dict[str, Any]
) -> Shown:
    from circuits.components.patching import patch_activations

    chosen = {"positions": arguments.positions, "layers": arguments.layers, "neurons": arguments.neurons}
    found = patch_activations(transformer, pairs, over=arguments.over, **chosen, **settings)
    tokens = [text.strip() or "␣" for text in model.texts(pairs.clean[0].tolist())]
    at_token = [f"{token} ({at})" for at, token in enumerate(tokens)]
    rows, columns, across = [f"layer {layer}" for layer in found.layers], tokens, "tokens of the clean prompt"
    letters = {"heads": ("a{}.h{}", "head"), "neurons": ("m{}.n{}", "neuron")}.get(arguments.over)
    if letters is None:
        places = [[f"{row}, {token}" for token in at_token] for row in rows]
    elif arguments.positions:
        both = [(layer, unit) for layer in found.layers for unit in found.units]
        rows = [letters[0].format(*each) for each in both]
        places = [[f"layer {layer}, {letters[1]} {unit}, {token}" for token in at_token] for layer, unit in both]
    else:
        columns, across = [f"{letters[1][0]}{unit}" for unit in found.units], arguments.over
        places = [[f"{row}, {letters[1]} {unit}" for unit in found.units] for row in rows]
    effect, share = (values.reshape(len(rows), len(columns)) for values in (found.effect, found.share))
    return Shown(rows, columns, places, across, effect, share, found.clean, found.corrupted)


def _patch_paths(
    model: Model, transformer: Transformer, pairs: Pairs, arguments: argparse.Namespace, settings: dict[str, Any]
) -> Shown:
    """Each sender to each receiver, and all of them together; or every component to the receivers together."""
    from circuits.components.edge_scores import components_of
    from circuits.components.path_patching import expand, patch_paths
    from circuits.errors import BadOption

    settings = {**settings, "mlps": arguments.mlps or "live"}
    to = arguments.receivers
    if arguments.senders:
        own, others = (
            [[each] for each in given] + ([given] if len(given) > 1 else []) for given in (arguments.senders, to)
        )
        found = patch_paths(transformer, pairs, own, others, **settings)
        rows, columns = ([each[0] if len(each) == 1 else "together" for each in sets] for sets in (own, others))
        called = [
            [{"together": f"all {kind} together"}.get(name, name) for name in names]
            for kind, names in (("senders", rows), ("receivers", columns))
        ]
        places = [[f"{row} to {column}" for column in called[1]] for row in called[0]]
        at = np.arange(found.effect.size).reshape(found.effect.shape)[: len(arguments.senders), : len(to)]
        paths = (arguments.senders, to, at)
        return Shown(rows, columns, places, "receivers", found.effect, found.share, found.clean, found.corrupted, paths)
    components = components_of(transformer)
    readers = [components.readers.index(name) for name in expand(components, to)]
    senders = [row for row in range(1, len(components.sources)) if components.edges[row, readers].any()]
    if not senders:
        raise BadOption(f"only the tokens come before {', '.join(to)}: give --from input.")
    found = patch_paths(transformer, pairs, [[components.sources[row]] for row in senders], [to], **settings)
    effect, share = np.full((2, len(components.sources) - 1), np.nan)
    at = np.array(senders) - 1
    effect[at], share[at] = found.effect[:, 0], found.share[:, 0]
    rows = [f"layer {layer}" for layer in range(components.layers)]
    columns = [*(f"h{head}" for head in range(components.heads)), "mlp"]
    shape = (components.layers, components.written)
    receivers = ", ".join(to)
    places = [f"{name} to {receivers}" for name in components.sources[1:]]
    return Shown(
        rows,
        columns,
        [places[row * shape[1] : (row + 1) * shape[1]] for row in range(shape[0])],
        "senders",
        effect.reshape(shape),
        share.reshape(shape),
        found.clean,
        found.corrupted,
        ([components.sources[row] for row in senders], [receivers], at[:, None]),
    )


def _pair(model: Model, arguments: argparse.Namespace) -> Pairs:
    """The two prompts, with the answers that were given or that the model gives.

    Raises:
        BadPairs: they are not equally long, the same, or have the same answer.
    """
    from circuits.components.pairs import gather
    from circuits.errors import BadPairs

    given = {"clean": arguments.prompt, "corrupted": arguments.corrupt, "right": arguments.right}
    given["wrong"] = arguments.wrong
    for answer, prompt in (("right", arguments.prompt), ("wrong", arguments.corrupt)):
        if given[answer] is None:
            given[answer] = int(model.run(model.tokenize(prompt)[None])[0][0, -1].argmax())
    if arguments.right is None and arguments.wrong is None and given["right"] == given["wrong"]:
        tokens = [model.tokenize(prompt).tolist() for prompt in (arguments.prompt, arguments.corrupt)]
        if len(tokens[0]) == len(tokens[1]) and tokens[0] != tokens[1]:  # else that is what is wrong
            raise BadPairs(
                f"{model.name} answers both prompts with {model.texts([given['right']])[0]!r}, so nothing tells them "
                "apart: name the answers with --right and --wrong, or choose another prompt."
            )
    return gather(model, [("the prompts", given)])[0]


def _gather(model: Model, pairs: Pairs, arguments: argparse.Namespace, found: dict[str, Shown]) -> Patching:
    """All that was measured, with the words for it."""
    from graphs.export.heatmap import MOST_ROWS, HeatMap
    from graphs.export.patching import Patching
    from graphs.export.patching.paths import Paths

    right, wrong = (text.strip() for text in model.texts([int(pairs.right[0]), int(pairs.wrong[0])]))
    metric, unit = METRICS[arguments.metric]
    by_neuron = arguments.over == "neurons"
    first = next(iter(found.values()))
    ends = _ends(arguments, first, metric.format(right=right, wrong=wrong))
    maps = []
    for direction, each in found.items():
        kept = f"share of the difference {'brought back' if direction == 'denoising' else 'lost'}"
        drawn = kept if np.isfinite(each.share).any() else f"effect in {unit}"
        maps.append(
            HeatMap(
                effect=each.effect,
                share=each.share,
                rows=each.rows,
                columns=each.columns,
                places=each.places,
                title=f"{direction}, {_patched(arguments)}: {drawn}",
                direction=direction,
                unit=unit,
                kept=kept,
                across=each.across,
                note=ends,
                ranked=by_neuron and not arguments.positions,
                most=MOST_NEURONS if by_neuron else MOST_ROWS,
            )
        )
    record = _record(arguments, found, right, wrong)
    paths = None if first.paths is None else Paths(*first.paths)
    return Patching(arguments.prompt, arguments.corrupt, maps, record, paths)


def _patched(arguments: argparse.Namespace) -> str:
    if arguments.over == PATHS:
        return f"paths to {', '.join(arguments.receivers)}"
    return f"{arguments.over} by position" if arguments.positions else arguments.over


def _ends(arguments: argparse.Namespace, found: Shown, metric: str) -> str:
    other = "corrupted" if arguments.ablation == "resample" else f"with all ablated ({arguments.ablation})"
    apart = "" if np.isfinite(found.share).any() else "; these do not differ, so there are no shares"
    return f"{metric}: {found.clean:.3f} clean, {found.corrupted:.3f} {other}{apart}"


def _record(arguments: argparse.Namespace, found: dict[str, Shown], right: str, wrong: str) -> dict[str, Any]:
    of_paths = {"from": arguments.senders, "to": arguments.receivers, "mlps": arguments.mlps or "live"}
    first = next(iter(found.values()))
    measured = {
        direction: {"effect": _plain(each.effect), "share": _plain(each.share)} for direction, each in found.items()
    }
    return {
        "prompt": arguments.prompt,
        "corrupt": arguments.corrupt,
        "over": arguments.over,
        **(of_paths if arguments.over == PATHS else {"positions": arguments.positions}),
        "direction": arguments.direction,
        "ablation": arguments.ablation,
        "metric": arguments.metric,
        "right": right,
        "wrong": wrong,
        "clean": first.clean,
        "corrupted": first.corrupted,
        "rows": first.rows,
        "places": first.columns,
        **(measured if len(measured) > 1 else measured[arguments.direction]),
    }


def _plain(values: np.ndarray) -> list[list[float | None]]:
    return [[None if value != value else value for value in row] for row in values.tolist()]


def _in_words(arguments: argparse.Namespace, result: Patching) -> list[str]:
    lines = [result.maps[0].note]
    what = "paths" if arguments.over == PATHS else "places"
    for each in result.maps:
        measured = np.flatnonzero(np.isfinite(each.effect))
        order = measured[np.argsort(-np.abs(each.effect.flat[measured]), kind="stable")][:SHOWN]
        lines.append(f"{each.direction}, {_patched(arguments)}, the strongest of {len(measured):,} {what}:")
        for at in order.tolist():
            share, effect = each.share.flat[at], each.effect.flat[at]
            place = each.places[at // len(each.columns)][at % len(each.columns)]
            said = f"{share:6.1%}  " if np.isfinite(share) else ""
            lines.append(f"  {said}{place}  ({effect:+.3f} {each.unit})")
    return lines
