"""`circuits steer`: set features of a prompt otherwise, and see what the model says then."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from circuits import flags

if TYPE_CHECKING:
    from circuits.model import Model
    from circuits.steering import Steered

SHOWN = 5  # next tokens, before and after


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", help="the text")
    flags.add_model(parser)
    parser.add_argument(
        "--set",
        metavar="NAME[@POSITION]=AMOUNT",
        dest="settings",
        action="append",
        required=True,
        help="L2/544@last=0, or a label and a factor: texas=-1x; may be repeated",
    )
    parser.add_argument("--attention", choices=("live", "frozen"), default="live", help="over the prompt")
    parser.add_argument("--length", metavar="N", type=int, default=10, help="tokens to go on for (default: 10)")
    flags.add_json(parser)
    flags.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from circuits.model import load_model
    from circuits.progress import Bars
    from circuits.steering import read_setting, steer
    from circuits.tracing import trace
    from circuits.transcoders.loading import load_transcoders

    with Bars(quiet=arguments.quiet) as bars:
        bars.note(f"loading {arguments.model}")
        model = load_model(arguments.model, device=arguments.device, dtype=arguments.dtype, progress=bars)
        model.tokenize(arguments.prompt)  # a bad prompt is told before anything else is loaded
        transcoders = load_transcoders(flags.transcoders_for(arguments), model, force=arguments.force, progress=bars)
        run = trace(model, transcoders, arguments.prompt)
        chosen = [each for text in arguments.settings for each in read_setting(text, run, transcoders)]
        steered = steer(model, transcoders, run, chosen, attention=arguments.attention, length=arguments.length)
    if arguments.json:
        print(json.dumps(_record(model, steered), indent=1))
    elif not arguments.quiet:
        print(*_in_words(model, steered), sep="\n")
    return 0


def _record(model: Model, steered: Steered) -> dict[str, Any]:
    record: dict[str, Any] = {"interventions": [str(each) for each in steered.interventions]}
    for name, logits, said in (
        ("before", steered.before, steered.said_before),
        ("after", steered.after, steered.said_after),
    ):
        best = model.probabilities(logits).topk(min(SHOWN, model.vocabulary))
        texts = model.texts(best.indices.tolist())
        record[name] = {
            "likeliest": [
                {"token": text, "probability": p} for text, p in zip(texts, best.values.tolist(), strict=True)
            ],
            "continuation": model.texts(said),
        }
    return record


def _in_words(model: Model, steered: Steered) -> list[str]:
    from graphs.wording import table_in_words

    record = _record(model, steered)
    columns = [
        [f"{each['probability']:6.1%}  {each['token'].strip()}" for each in record[name]["likeliest"]]
        for name in ("before", "after")
    ]
    rows = [("before", "after"), *zip(*columns, strict=True)]
    spaced = any(token.startswith(" ") for name in ("before", "after") for token in record[name]["continuation"])
    goes_on = [
        f"{name}: {('' if spaced else ' ').join(record[name]['continuation']).strip()}" for name in ("before", "after")
    ]
    return [f"changed {', '.join(record['interventions'])}", *table_in_words(rows), "goes on", *goes_on]
