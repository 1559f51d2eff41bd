"""`circuits steer`: set features of a prompt otherwise, and see what the model says then."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from circuits import flags

if TYPE_CHECKING:
    from circuits.model import Model
    from circuits.steering import Lead, Steered

SHOWN = 5  # next tokens, before and after
NAMED = 12  # changes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", help="the text")
    flags.add_model(parser)
    parser.add_argument(
        "--set",
        metavar="NAME[@POSITION]=AMOUNT",
        dest="settings",
        action="append",
        required=True,
        help="L2/544@last=0; a label and a factor: texas=-1x; from a position on: L2/544@5:=3; may be repeated",
    )
    parser.add_argument("--groups", metavar="FILE", help='names for --set, as JSON: {"texas": ["L1/544@3", …], …}')
    parser.add_argument("--attention", choices=("live", "frozen"), default="live", help="over the prompt")
    parser.add_argument(
        "--mlps",
        choices=("frozen", "rebuilt", "live"),
        default="frozen",
        help="in the window: held at what they were, with the other features encoded anew, or live (default: frozen)",
    )
    parser.add_argument(
        "--window",
        metavar="N",
        type=int,
        help="layers past its own in which a feature's writes count (default: 0 or 2)",
    )
    parser.add_argument("--generate", metavar="N", type=int, default=10, help="tokens to go on for (default: 10)")
    flags.add_json(parser)
    flags.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from circuits.interventions import intervene
    from circuits.model import load_model
    from circuits.progress import Bars
    from circuits.steering import lead_of, read_setting, steer
    from circuits.tracing import trace
    from circuits.transcoders.loading import load_transcoders
    from graphs.grouping import read_groups

    groups = {} if arguments.groups is None else read_groups(arguments.groups)
    with Bars(quiet=arguments.quiet) as bars:
        bars.note(f"loading {arguments.model}")
        model = load_model(arguments.model, device=arguments.device, dtype=arguments.dtype, progress=bars)
        model.tokenize(arguments.prompt)  # a bad prompt is told before anything else is loaded
        transcoders = load_transcoders(flags.transcoders_for(arguments), model, force=arguments.force, progress=bars)
        run = trace(model, transcoders, arguments.prompt)
        sets = {text: read_setting(text, run, transcoders, groups) for text in arguments.settings}
        chosen = [each for found in sets.values() for each in found]
        options = {"attention": arguments.attention, "mlps": arguments.mlps, "window": arguments.window}
        steered = steer(model, transcoders, run, chosen, length=arguments.generate, **options)
        each_alone = intervene(model, transcoders, run, list(sets.values()), **options)[:, -1] if len(sets) > 1 else []
    target = int(steered.before.argmax())
    leads = [lead_of(target, logits) for logits in (steered.before, steered.after, *each_alone)]
    record = _record(model, steered, leads, list(sets))
    if arguments.json:
        print(json.dumps(record, indent=1))
    elif not arguments.quiet:
        print(*_in_words(record), sep="\n")
    return 0


def _record(model: Model, steered: Steered, leads: list[Lead], sets: list[str]) -> dict[str, Any]:
    """What was done and came of it. leads: of what was the likeliest, before, after, and with each set alone."""
    from circuits.changes import to_record

    before, after, *each_alone = leads

    record: dict[str, Any] = {
        "interventions": [str(each) for each in steered.interventions],
        "changes": [to_record(each) for each in steered.interventions],
    }
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
    record["target"] = {
        "token": model.texts([int(steered.before.argmax())])[0],
        "logit": {"before": before.logit, "after": after.logit},
        "lead": {"before": before.lead, "after": after.lead},
    }
    record["alone"] = [
        {"set": text, "logit_change": each.logit - before.logit, "lead_change": each.lead - before.lead}
        for text, each in zip(sets if each_alone else [], each_alone, strict=True)
    ]
    return record


def _in_words(record: dict[str, Any]) -> list[str]:
    from graphs.wording import table_in_words

    columns = [
        [f"{each['probability']:6.1%}  {each['token'].strip()}" for each in record[name]["likeliest"]]
        for name in ("before", "after")
    ]
    rows = [("before", "after"), *zip(*columns, strict=True)]
    spaced = any(token.startswith(" ") for name in ("before", "after") for token in record[name]["continuation"])
    goes_on = [
        f"{name}: {('' if spaced else ' ').join(record[name]['continuation']).strip()}" for name in ("before", "after")
    ]
    changed = record["interventions"]
    more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    target = record["target"]
    moved = [  # where a model is sure, its probabilities hide what happened
        f"logit of {target['token'].strip()} {_moved(target['logit'])}, "
        f"its lead over the next best {_moved(target['lead'])}",
        *(
            f"  {each['set']} alone: logit {each['logit_change']:+.2f}, lead {each['lead_change']:+.2f}"
            for each in record["alone"]
        ),
    ]
    return [f"changed {', '.join(changed[:NAMED])}{more}", *table_in_words(rows), *moved, "goes on", *goes_on]


def _moved(number: dict[str, float]) -> str:
    before, after = number["before"], number["after"]
    return f"{before:.2f} → {after:.2f} ({after - before:+.2f})"
