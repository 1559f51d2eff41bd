"""`circuits patch`: one prompt's values in the other's run, place by place, as a heat map."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits import flags

if TYPE_CHECKING:
    from circuits.model import Model
    from circuits.pairs import Pairs
    from circuits.patching import Patched

KINDS = ("heads", "mlps", "resid", "attention")
SHOWN = 5  # places told in words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", help="the text whose answer is looked for")
    parser.add_argument(
        "--corrupt", metavar="PROMPT", required=True, help="the same with another answer, as many tokens long"
    )
    parser.add_argument("--over", choices=KINDS, default="heads", help="what to patch (default: heads)")
    parser.add_argument(
        "--direction",
        choices=("denoising", "noising"),
        default="denoising",
        help="clean values into the corrupted run, or the reverse (default: denoising)",
    )
    parser.add_argument("--right", metavar="TOKEN", help="the clean prompt's answer (default: its likeliest token)")
    parser.add_argument("--wrong", metavar="TOKEN", help="the other's answer (default: its likeliest token)")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, default=Path("patch.svg"), help="an .svg (default: patch.svg)"
    )
    flags.add_model(parser, transcoders=False)
    flags.add_json(parser)
    flags.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from circuits.errors import BadOption
    from circuits.keeping import check_output

    check_output(arguments.output)
    if arguments.output.suffix.lower() != ".svg":
        raise BadOption(f"a heat map is written as .svg, found {str(arguments.output)!r}.")

    from circuits.model import load_model
    from circuits.patching import patch_activations
    from circuits.progress import Bars
    from circuits.transformer import check_faithful, transformer_of
    from graphs.export.picture import to_svg

    with Bars(quiet=arguments.quiet) as bars:
        bars.note(f"loading {arguments.model}")
        model = load_model(arguments.model, device=arguments.device, dtype=arguments.dtype, progress=bars)
        pairs = _pair(model, arguments)
        transformer = transformer_of(model)
        check_faithful(transformer, model, pairs.clean)
        found = patch_activations(
            transformer,
            pairs,
            over=arguments.over,
            direction=arguments.direction,
            progress=lambda done, total: bars("patching layers", done, total),
        )
    places = _places(model, pairs, found)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(to_svg(_picture(model, pairs, found, places)), encoding="utf-8")
    if arguments.json:
        print(json.dumps(_record(model, pairs, found, places), indent=1))
    elif not arguments.quiet:
        print(*_in_words(model, pairs, found, places), f"wrote {arguments.output}", sep="\n")
    return 0


def _pair(model: Model, arguments: argparse.Namespace) -> Pairs:
    """The two prompts, with the answers that were given or that the model gives.

    Raises:
        BadPairs: they are not equally long, the same, or have the same answer.
    """
    from circuits.pairs import gather

    given = {"clean": arguments.prompt, "corrupted": arguments.corrupt, "right": arguments.right}
    given["wrong"] = arguments.wrong
    for answer, prompt in (("right", arguments.prompt), ("wrong", arguments.corrupt)):
        if given[answer] is None:
            given[answer] = int(model.run(model.tokenize(prompt)[None])[0][0, -1].argmax())
    return gather(model, [("the prompts", given)])[0]


def _places(model: Model, pairs: Pairs, found: Patched) -> list[str]:
    if found.over == "heads":
        return [f"h{head}" for head in range(model.heads)]
    return [text.strip() for text in model.texts(pairs.clean[0].tolist())]


def _answers(model: Model, pairs: Pairs) -> tuple[str, str]:
    right, wrong = (text.strip() for text in model.texts([int(pairs.right[0]), int(pairs.wrong[0])]))
    return right, wrong


def _picture(model: Model, pairs: Pairs, found: Patched, places: list[str]) -> Any:
    from graphs.export.heatmap import compose_heatmap

    right, wrong = _answers(model, pairs)
    kept = "brought back" if found.direction == "denoising" else "lost"
    return compose_heatmap(
        found.share,
        rows=[f"layer {layer}" for layer in range(len(found.share))],
        columns=places,
        title=f"{found.direction}, {found.over}: share of the difference {kept}",
        across="heads" if found.over == "heads" else "tokens of the clean prompt",
        note=f"logit of {right!r} less that of {wrong!r}: {found.clean:.2f} on the clean prompt, "
        f"{found.corrupted:.2f} on the corrupted one.",
    )


def _record(model: Model, pairs: Pairs, found: Patched, places: list[str]) -> dict[str, Any]:
    right, wrong = _answers(model, pairs)
    return {
        "over": found.over,
        "direction": found.direction,
        "right": right,
        "wrong": wrong,
        "clean": found.clean,
        "corrupted": found.corrupted,
        "places": places,
        "effect": found.effect.tolist(),
        "share": [[None if value != value else value for value in row] for row in found.share.tolist()],
    }


def _in_words(model: Model, pairs: Pairs, found: Patched, places: list[str]) -> list[str]:
    import numpy as np

    right, wrong = _answers(model, pairs)
    order = np.argsort(-np.abs(found.effect), axis=None, kind="stable")[:SHOWN]
    lines = [
        f"logit of {right!r} less that of {wrong!r}: {found.clean:.3f} clean, {found.corrupted:.3f} corrupted",
        f"{found.direction}, {found.over}, the strongest of {found.effect.size} places:",
    ]
    for layer, place in zip(*np.unravel_index(order, found.effect.shape), strict=True):
        share = found.share[layer, place]
        lines.append(f"  {share:6.1%}  layer {layer}, {places[place]}  ({found.effect[layer, place]:+.3f} logits)")
    return lines
