"""`circuits patch`: one prompt's values in the other's run, place by place, as a heat map."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from circuits import flags

if TYPE_CHECKING:
    from circuits.components.pairs import Pairs
    from circuits.components.transformer import Transformer
    from circuits.model import Model

KINDS = ("heads", "mlps", "resid", "attention", "neurons")
PATHS = "paths"
ABLATIONS = ("resample", "zero", "mean", "mean-by-position")
SHOWN = 5  # places told in words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", help="the text whose answer is looked for")
    parser.add_argument(
        "--corrupt", metavar="PROMPT", required=True, help="the same with another answer, as many tokens long"
    )
    parser.add_argument("--over", choices=(*KINDS, PATHS), default="heads", help="what to patch (default: heads)")
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
        choices=("denoising", "noising"),
        default="denoising",
        help="clean values into the corrupted run, or the reverse (default: denoising)",
    )
    parser.add_argument(
        "--ablation",
        choices=ABLATIONS,
        default="resample",
        help="noising: what takes the place of clean values (default: resample, those of the corrupted prompt)",
    )
    parser.add_argument("--right", metavar="TOKEN", help="the clean prompt's answer (default: its likeliest token)")
    parser.add_argument("--wrong", metavar="TOKEN", help="the other's answer (default: its likeliest token)")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, default=Path("patch.svg"), help="an .svg (default: patch.svg)"
    )
    flags.add_model(parser, transcoders=False)
    flags.add_json(parser)
    flags.add_quiet(parser)


@dataclass(frozen=True)
class Shown:
    """What was patched, for a heat map. rows, columns: what is meant by each; share and effect: [row column]."""

    rows: list[str]
    columns: list[str]
    across: str
    effect: Float[np.ndarray, "row column"]
    share: Float[np.ndarray, "row column"]
    clean: float
    corrupted: float


def run(arguments: argparse.Namespace) -> int:
    from circuits.errors import BadOption
    from circuits.keeping import check_output

    check_output(arguments.output)
    if arguments.output.suffix.lower() != ".svg":
        raise BadOption(f"a heat map is written as .svg, found {str(arguments.output)!r}.")
    of_paths = [name for name in ("senders", "receivers", "mlps") if getattr(arguments, name) is not None]
    if arguments.over == PATHS and not arguments.receivers:
        raise BadOption("paths lead somewhere: name receivers, as --to a3.h2<q>,logits.")
    if arguments.over != PATHS and of_paths:
        raise BadOption("--from, --to and --mlps are for paths: give --over paths as well.")

    from circuits.components.ablations import ABLATIONS
    from circuits.components.transformer import check_faithful, transformer_of
    from circuits.model import load_model
    from circuits.progress import Bars
    from graphs.export.picture import to_svg

    with Bars(quiet=arguments.quiet) as bars:
        bars.note(f"loading {arguments.model}")
        model = load_model(arguments.model, device=arguments.device, dtype=arguments.dtype, progress=bars)
        pairs = _pair(model, arguments)
        transformer = transformer_of(model)
        check_faithful(transformer, model, pairs.clean)
        settings = {
            "direction": arguments.direction,
            "ablation": ABLATIONS[arguments.ablation](transformer, [pairs], bars),
            "progress": lambda done, total: bars("patching", done, total),
        }
        patch = _patch_paths if arguments.over == PATHS else _patch_places
        found = patch(model, transformer, pairs, arguments, settings)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(to_svg(_picture(model, pairs, arguments, found)), encoding="utf-8")
    if arguments.json:
        print(json.dumps(_record(model, pairs, arguments, found), indent=1))
    elif not arguments.quiet:
        print(*_in_words(model, pairs, arguments, found), f"wrote {arguments.output}", sep="\n")
    return 0


def names(text: str) -> list[str]:
    """Names with commas between them."""
    found = [name.strip() for name in text.split(",")]
    if not all(found) or len(set(found)) != len(found):
        raise argparse.ArgumentTypeError(f"names with commas between them are wanted, each once, found {text!r}")
    return found


def _patch_places(
    model: Model, transformer: Transformer, pairs: Pairs, arguments: argparse.Namespace, settings: dict[str, Any]
) -> Shown:
    from circuits.components.patching import patch_activations

    found = patch_activations(transformer, pairs, over=arguments.over, **settings)
    places = [text.strip() for text in model.texts(pairs.clean[0].tolist())]
    across = "tokens of the clean prompt"
    if arguments.over == "heads":
        places, across = [f"h{head}" for head in range(model.heads)], "heads"
    rows = [f"layer {layer}" for layer in range(len(found.share))]
    return Shown(rows, places, across, found.effect, found.share, found.clean, found.corrupted)


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
        return Shown(rows, columns, "receivers", found.effect, found.share, found.clean, found.corrupted)
    components = components_of(transformer)
    readers = [components.readers.index(name) for name in expand(components, to)]
    senders = [row for row in range(1, len(components.sources)) if components.edges[row, readers].any()]
    if not senders:
        raise BadOption(f"only the tokens come before {', '.join(to)}: give --from input.")
    found = patch_paths(transformer, pairs, [[components.sources[row]] for row in senders], [to], **settings)
    effect, share = np.full((2, len(components.sources) - 1), np.nan)
    effect[np.array(senders) - 1], share[np.array(senders) - 1] = found.effect[:, 0], found.share[:, 0]
    rows = [f"layer {layer}" for layer in range(components.layers)]
    columns = [*(f"h{head}" for head in range(components.heads)), "mlp"]
    shape = (components.layers, components.written)
    return Shown(rows, columns, "senders", effect.reshape(shape), share.reshape(shape), found.clean, found.corrupted)


def _pair(model: Model, arguments: argparse.Namespace) -> Pairs:
    """The two prompts, with the answers that were given or that the model gives.

    Raises:
        BadPairs: they are not equally long, the same, or have the same answer.
    """
    from circuits.components.pairs import gather

    given = {"clean": arguments.prompt, "corrupted": arguments.corrupt, "right": arguments.right}
    given["wrong"] = arguments.wrong
    for answer, prompt in (("right", arguments.prompt), ("wrong", arguments.corrupt)):
        if given[answer] is None:
            given[answer] = int(model.run(model.tokenize(prompt)[None])[0][0, -1].argmax())
    return gather(model, [("the prompts", given)])[0]


def _answers(model: Model, pairs: Pairs) -> tuple[str, str]:
    right, wrong = (text.strip() for text in model.texts([int(pairs.right[0]), int(pairs.wrong[0])]))
    return right, wrong


def _title(arguments: argparse.Namespace) -> str:
    if arguments.over != PATHS:
        return f"{arguments.direction}, {arguments.over}"
    return f"{arguments.direction}, paths to {', '.join(arguments.receivers)}"


def _picture(model: Model, pairs: Pairs, arguments: argparse.Namespace, found: Shown) -> Any:
    from graphs.export.heatmap import compose_heatmap

    right, wrong = _answers(model, pairs)
    kept = "brought back" if arguments.direction == "denoising" else "lost"
    other = "on the corrupted one" if arguments.ablation == "resample" else f"with all ablated ({arguments.ablation})"
    return compose_heatmap(
        found.share,
        rows=found.rows,
        columns=found.columns,
        title=f"{_title(arguments)}: share of the difference {kept}",
        across=found.across,
        note=f"logit of {right!r} less that of {wrong!r}: {found.clean:.2f} on the clean prompt, "
        f"{found.corrupted:.2f} {other}.",
    )


def _record(model: Model, pairs: Pairs, arguments: argparse.Namespace, found: Shown) -> dict[str, Any]:
    right, wrong = _answers(model, pairs)
    of_paths = {"from": arguments.senders, "to": arguments.receivers, "mlps": arguments.mlps or "live"}
    return {
        "over": arguments.over,
        **(of_paths if arguments.over == PATHS else {}),
        "direction": arguments.direction,
        "ablation": arguments.ablation,
        "right": right,
        "wrong": wrong,
        "clean": found.clean,
        "corrupted": found.corrupted,
        "rows": found.rows,
        "places": found.columns,
        "effect": _plain(found.effect),
        "share": _plain(found.share),
    }


def _plain(values: np.ndarray) -> list[list[float | None]]:
    return [[None if value != value else value for value in row] for row in values.tolist()]


def _in_words(model: Model, pairs: Pairs, arguments: argparse.Namespace, found: Shown) -> list[str]:
    right, wrong = _answers(model, pairs)
    measured = np.flatnonzero(np.isfinite(found.effect))
    order = measured[np.argsort(-np.abs(found.effect.flat[measured]), kind="stable")][:SHOWN]
    other = "corrupted" if arguments.ablation == "resample" else f"with all ablated ({arguments.ablation})"
    lines = [
        f"logit of {right!r} less that of {wrong!r}: {found.clean:.3f} clean, {found.corrupted:.3f} {other}",
        f"{_title(arguments)}, the strongest of {len(measured)} {'paths' if arguments.over == PATHS else 'places'}:",
    ]
    for row, column in zip(*np.unravel_index(order, found.effect.shape), strict=True):
        share, effect = found.share[row, column], found.effect[row, column]
        between = ", " if found.rows[row].startswith("layer") else " to "
        lines.append(f"  {share:6.1%}  {found.rows[row]}{between}{found.columns[column]}  ({effect:+.3f} logits)")
    return lines
