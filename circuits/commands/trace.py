"""`circuits trace`: one prompt in; its causal graph out, stored, drawn, and checked by ablation."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from circuits import flags

if TYPE_CHECKING:
    from circuits.model import Model
    from circuits.targets import Target
    from graphs.graph import AttributionGraph

SHOWN = 5  # logits and paths on the terminal
MOST = 8192  # features traced unless asked otherwise: 100 tokens of a small model have ten times as many neurons


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", help="the text, or with --ids the token ids, spaces between")
    reading = parser.add_mutually_exclusive_group()
    reading.add_argument("--ids", action="store_true", help="the prompt is token ids")
    reading.add_argument(
        "--chat",
        action="store_true",
        help="the prompt is what a user says to a chat model, put into its template; or turns, "
        'as JSON: [{"role": "system", "content": "…"}, …]',
    )
    flags.add_model(parser)
    goal = parser.add_argument_group("what to explain (default: the likeliest next tokens)")
    goal.add_argument(
        "--target",
        metavar="TARGET",
        action="append",
        default=[],
        help="this next token, a feature (L2/544@last, L2/544@3) or an error (L2/error@3); may be repeated",
    )
    goal.add_argument(
        "--contrast",
        metavar=("RIGHT", "WRONG"),
        nargs=2,
        action="append",
        default=[],
        help="why RIGHT rather than WRONG; may be repeated",
    )
    goal.add_argument(
        "--span",
        metavar="FIRST:STOP",
        action="append",
        default=[],
        help="the prompt's own tokens at these positions, STOP left out, as next tokens; may be repeated",
    )
    goal.add_argument("--max-logits", metavar="N", type=flags.count, help="at most N likely tokens (default: 10)")
    goal.add_argument("--logit-mass", metavar="P", type=float, help="as many as reach this probability (default: 0.95)")
    size = parser.add_argument_group("how much of it")
    size.add_argument(
        "--max-features",
        metavar="N",
        type=flags.count,
        help=f"trace the inputs of the N most influential features (default: {MOST:,})",
    )
    size.add_argument(
        "--min-influence",
        metavar="SHARE",
        type=float,
        help="instead, trace the inputs of every feature that carries at least this share of the goal",
    )
    size.add_argument(
        "--nodes", metavar="SHARE", type=float, default=0.8, help="share of node influence kept (default: 0.8)"
    )
    size.add_argument(
        "--edges", metavar="SHARE", type=float, default=0.98, help="share of edge influence kept (default: 0.98)"
    )
    parser.add_argument("--no-assay", action="store_true", help="do not test the graph by ablation")
    flags.add_seed(parser, "of the assay's random sets")
    flags.add_paraphrase(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=flags.filled,
        help="one more picture or export: x.svg, x.pdf, x.graphml, … as in `draw`",
    )
    flags.add_store(parser)
    flags.add_json(parser)
    flags.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    prompt, targets = _read_prompt(arguments), _read_targets(arguments)
    paraphrases = flags.paraphrases_in(arguments.paraphrase)
    _check_early(arguments)

    from circuits.assaying import assay
    from circuits.attention import find_heads
    from circuits.attributing import attribute
    from circuits.keeping import keep_pictures
    from circuits.model import load_model
    from circuits.progress import Bars
    from circuits.tracing import trace
    from circuits.transcoders.loading import load_transcoders
    from graphs import wording
    from graphs.export import export
    from graphs.heads import HEADS
    from graphs.paths import strongest_paths
    from graphs.pruning import prune
    from graphs.records import RECORD, TABLES
    from graphs.scores import scores
    from graphs.store import Store

    with Bars(quiet=arguments.quiet) as bars:

        def say(*lines: str) -> None:
            if not (arguments.quiet or arguments.json):
                bars.note("")
                print(*lines, sep="\n", flush=True)

        bars.note(f"loading {arguments.model}")
        model = load_model(arguments.model, device=arguments.device, dtype=arguments.dtype, progress=bars)
        if arguments.chat:
            prompt = model.chat(_turns(arguments.prompt))
        likeliest = _likeliest(model, prompt)  # a bad prompt is told before anything else is loaded
        bars.note("loading transcoders")
        transcoders = load_transcoders(flags.transcoders_for(arguments), model, force=arguments.force, progress=bars)
        bars.note("tracing")
        began = time.perf_counter()
        chosen = {"max_logits": arguments.max_logits, "logit_mass": arguments.logit_mass}
        whole = attribute(
            model,
            transcoders,
            prompt,
            targets,
            **{name: value for name, value in chosen.items() if value is not None},
            max_features=arguments.max_features or (None if arguments.min_influence is not None else MOST),
            min_influence=arguments.min_influence,
            progress=lambda done, total: bars("tracing targets", done, total),
        )
        bars.note("pruning")
        graph = prune(whole, nodes=arguments.nodes, edges=arguments.edges)
        seconds = time.perf_counter() - began
        paths = strongest_paths(graph, SHOWN)
        asked = wording.logits_in_words(graph)
        say(
            f"traced {len(graph.tokens)} tokens in {model.layers} layers of {model.name} with {transcoders.name}: "
            f"{whole.provenance['active']:,} features active, {seconds:.1f} s",
            "likeliest next tokens:",
            *(f"  {wording.token_in_words(*each)}" for each in likeliest),
            *(("asked about:", *(f"  {line}" for line in asked)) if targets else ()),
            *wording.expansion_in_words(graph),
            wording.kept_in_words(graph),
            *wording.scores_in_words(scores(graph).to_json(), graph.kept),
            *wording.paths_in_words(graph, paths),
        )
        result = None
        if not arguments.no_assay:
            bars.note("testing the graph in the real model")
            seed = arguments.seed or 0
            result = assay(model, transcoders, graph, seed=seed, paraphrases=paraphrases, progress=bars)
            say(assay_of(graph), *(f"  {line}" for line in wording.assay_in_words(result)))
        # Once, and with its assay: an interrupted run must not take the place of a graph that was tested before.
        bars.note("storing the graph")
        store = Store(arguments.store)
        id = store.save(graph, assay=result)
        bars.note("splitting edges over heads")
        heads = find_heads(trace(model, transcoders, list(graph.token_ids)), transcoders, graph)
        if heads is not None:
            store.keep_heads(id, heads)
        written, missing = keep_pictures(store, id, graph, result, bars.note, heads)
        written = [*TABLES, *([HEADS] if heads is not None else []), *written]
        say(*missing, f"wrote {store.find(id)}: {RECORD}, {', '.join(written)}")
        if arguments.output:
            bars.note(f"drawing {arguments.output}")
            Path(arguments.output).parent.mkdir(parents=True, exist_ok=True)
            shown = {"heads": heads} if Path(arguments.output).suffix.lower() == ".html" else {}
            say(f"wrote {export(graph, arguments.output, assay=result, **shown)}")
    if missing and (arguments.quiet or arguments.json):
        print(*missing, sep="\n", file=sys.stderr)
    if arguments.json:
        extra = {"likeliest": [{"token": text, "probability": p} for text, p in likeliest], "missing": missing}
        print(json.dumps({"folder": str(store.find(id)), **store.record(id), **extra}, indent=1))
    return 0


def _likeliest(model: Model, prompt: str | list[int]) -> list[tuple[str, float]]:
    """The tokens that the model itself would say next, with their probability; but the first, none that rounds to 0."""
    logits, _ = model.run(model.tokenize(prompt)[None])
    best = model.probabilities(logits[0, -1]).topk(min(SHOWN, model.vocabulary))
    found = list(zip(model.texts(best.indices.tolist()), best.values.tolist(), strict=True))
    return [each for i, each in enumerate(found) if i == 0 or each[1] >= 0.0005]


def assay_of(graph: AttributionGraph) -> str:
    """The line above the assay: of several targets, the one that it is about."""
    from circuits.assaying.metric import find_foremost
    from graphs.wording import name_node

    rows, count = find_foremost(graph)
    if count < 2 or not len(rows):
        return "assay, in the real model:"
    name = name_node(graph, int(rows[0])) if len(rows) == 1 else "the span"
    return f"assay, in the real model, of {name} only, the foremost of {count} targets:"


def _read_prompt(arguments: argparse.Namespace) -> str | list[int]:
    from circuits.errors import BadPrompt

    if not arguments.prompt.strip():
        raise BadPrompt("the prompt is empty: give at least one word, in quotes.")
    if not arguments.ids:
        return arguments.prompt
    try:
        return [int(word) for word in arguments.prompt.replace(",", " ").split()]
    except ValueError:
        raise BadPrompt(f"with --ids the prompt is whole numbers, found {arguments.prompt!r}.") from None


def _turns(text: str) -> str | list[dict[str, str]]:
    """The turns of a chat, where the text is JSON of them, else the text itself."""
    try:
        turns = json.loads(text)
    except ValueError:
        return text
    told = isinstance(turns, list) and turns and all(isinstance(turn, dict) for turn in turns)
    return turns if told else text


def _read_targets(arguments: argparse.Namespace) -> list[Target] | None:
    from circuits.targets import parse_span, parse_target

    chosen: list[Target] = [parse_target(text) for text in arguments.target]
    chosen += [(right, wrong) for right, wrong in arguments.contrast]
    return [*chosen, *(parse_span(text) for text in arguments.span)] or None


def _check_early(arguments: argparse.Namespace) -> None:
    """What can be known to fail before seconds go into loading a model."""
    from circuits.errors import BadOption
    from circuits.keeping import check_export, check_writable
    from graphs.addresses import place_of

    shares = {"--nodes": arguments.nodes, "--edges": arguments.edges, "--logit-mass": arguments.logit_mass}
    for name, share in shares.items():
        if share is not None and not 0 < share <= 1:
            raise BadOption(f"{name} must be a share above 0 and at most 1, found {share}.")
    asked = arguments.target or arguments.contrast or arguments.span
    for name, value in {"--max-logits": arguments.max_logits, "--logit-mass": arguments.logit_mass}.items():
        if asked and value is not None:
            raise BadOption(f"{name} chooses among likely tokens: leave it out, or --target, --contrast and --span.")
    if arguments.no_assay and arguments.seed is not None:
        raise BadOption("--seed is the assay's: leave it out, or --no-assay.")
    if arguments.no_assay and arguments.paraphrase is not None:
        raise BadOption("--paraphrase is the assay's: leave it out, or --no-assay.")
    if isinstance(place := place_of(arguments.store), Path):
        check_writable(place)
    if arguments.output:
        check_export(Path(arguments.output))
