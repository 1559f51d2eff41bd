"""`circuits train`: transcoders for a model that has none, from a file of text or from what it says itself; `labels`:
what is known of the features of a set that is there."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits import flags

if TYPE_CHECKING:
    from circuits.transcoders.running import Outcome
    from circuits.transcoders.settings import Settings

WIDER = 16  # times as many features as the model is wide, unless asked otherwise
TYPICAL = {"activation": "jumprelu", "active": 16.0, "batch": 32, "seed": 0}
STEPS = 5000
FLAGS = ("kind", "data", "activation", "features", "active", "steps", "minutes", "batch", "seed")
LABELS = "labels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        choices=("transcoders", LABELS),
        help="transcoders: train a set, and note what its features fire on; labels: note that of a set that is there",
    )
    parser.add_argument("model", metavar="MODEL", type=flags.filled, help="shipped name, folder, or Hub id")
    parser.add_argument(
        "--kind",
        choices=("plt", "clt", "skip"),
        help="plt: a feature writes its own layer; clt: its own and all later; skip: plt, and a linear path beside it. "
        "To be given, except with --resume",
    )
    parser.add_argument(
        "--data",
        metavar="FILE",
        type=flags.filled,
        help="text in UTF-8: blank lines part the texts, without any each line is one; or x.jsonl, each line "
        '{"text": "…"}; or "self", what the model says itself',
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FOLDER",
        type=flags.filled,
        help="where the set is put, and while it is trained its log and checkpoints (default: MODEL-KIND)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with what was begun in that folder")
    noted = parser.add_argument_group(
        "labels of a set that is there, from --data", "-o FILE: labels.json or another, plain or .gz"
    )
    noted.add_argument(
        "-t", "--transcoders", metavar="SET", type=flags.filled, help="a folder, shipped name, or Hub id of a set"
    )
    noted.add_argument(
        "--tokens",
        metavar="N",
        type=flags.count,
        help="counted over, from beginning to end of the data (default: 65,536)",
    )
    sizes = parser.add_argument_group("how large, how sparse, how long")
    sizes.add_argument(
        "--features", metavar="N", type=flags.count, help=f"of each layer (default: {WIDER} times the model's width)"
    )
    sizes.add_argument(
        "--active",
        metavar="N",
        type=positive,
        help=f"features active at a token, on average; with TopK always (default: {TYPICAL['active']:g})",
    )
    sizes.add_argument("--activation", choices=("jumprelu", "topk"), help="(default: jumprelu)")
    length = sizes.add_mutually_exclusive_group()
    length.add_argument("--steps", metavar="N", type=flags.count, help=f"(default: {STEPS:,})")
    length.add_argument("--minutes", metavar="M", type=positive, help="instead of steps, so long in all")
    sizes.add_argument(
        "--batch",
        metavar="N",
        type=flags.count,
        help=f"texts at a step, each of up to 128 tokens (default: {TYPICAL['batch']})",
    )
    flags.add_seed(parser, "of the beginning, the order of the texts, and texts of the model's own")
    parser.add_argument(
        "--device", type=flags.filled, default="auto", help="where to compute: auto, cpu, cuda (default: auto)"
    )
    flags.add_json(parser)
    flags.add_quiet(parser)


def positive(text: str) -> float:
    """A number above zero."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"a number above 0 is wanted, found {text!r}")
    return number


def run(arguments: argparse.Namespace) -> int:
    _check_fits_what(arguments)
    return _label(arguments) if arguments.what == LABELS else _train(arguments)


def _check_fits_what(arguments: argparse.Namespace) -> None:
    """Options of the one thing are no options of the other."""
    from circuits.errors import BadOption

    only = (
        ("transcoders", "tokens")
        if arguments.what != LABELS
        else tuple(each for each in FLAGS if each not in ("data", "seed"))
    )
    given = [name for name in only if getattr(arguments, name) is not None]
    given += ["resume"] if arguments.what == LABELS and arguments.resume else []
    if given:
        names = ", ".join("-t" if name == "transcoders" else f"--{name}" for name in given)
        other = LABELS if arguments.what != LABELS else "transcoders"
        raise BadOption(f"{names}: of circuits train {other}, not of {arguments.what}. Leave it out.")


def _train(arguments: argparse.Namespace) -> int:
    folder = _folder(arguments)
    _check_early(arguments, folder)

    from circuits.model import load_model
    from circuits.progress import Bars
    from circuits.transcoders.running import LOG, run_training, settings_of
    from circuits.transcoders.settings import SELF, data_of

    found = settings_of(folder) if arguments.resume else None
    data = SELF if arguments.data is None else arguments.data
    hashed = data_of(data) if arguments.data is not None else None
    with Bars(quiet=arguments.quiet) as bars, Line(quiet=arguments.quiet) as line:
        bars.note(f"loading {arguments.model}")
        model = load_model(arguments.model, device=arguments.device)
        asked = {name: getattr(arguments, name) for name in FLAGS} | {"data": hashed, "model": model.content_hash}
        settings = _new(asked, model.d_model) if found is None else _same(found, asked, folder)
        bars.note("")
        try:
            outcome = run_training(model, settings, folder, data=data, report=line, progress=bars)
        except KeyboardInterrupt:
            if (folder / LOG).exists() or settings_of(folder) is not None:
                line.close()
                print(f"stopped; go on with: {_again(arguments, folder)}", file=sys.stderr)
            raise
    if arguments.json:
        print(json.dumps(outcome.to_json(), indent=1))
    elif not arguments.quiet:
        print(*_in_words(outcome, settings, arguments.model), sep="\n")
    return 0


def _label(arguments: argparse.Namespace) -> int:
    from circuits.errors import BadOption
    from circuits.keeping import check_output

    for name, given, wanted in (
        ("-t", arguments.transcoders, "the set whose features are to be labelled"),
        ("--data", arguments.data, "a file of text, or self"),
    ):
        if given is None:
            raise BadOption(f"{name} is wanted: {wanted}.")

    from circuits.model import load_model
    from circuits.progress import Bars
    from circuits.transcoders.labelling import place_of_labels, write_labels
    from circuits.transcoders.settings import data_of

    path = place_of_labels(arguments.transcoders, arguments.output)
    check_output(path)
    data_of(arguments.data)
    with Bars(quiet=arguments.quiet) as bars:
        bars.note(f"loading {arguments.model}")
        model = load_model(arguments.model, device=arguments.device)
        found = write_labels(
            model,
            arguments.transcoders,
            path,
            data=arguments.data,
            tokens=arguments.tokens,
            seed=arguments.seed or 0,
            progress=bars,
        )
    if arguments.json:
        print(json.dumps({**found, "file": str(path)}, indent=1))
    elif not arguments.quiet:
        print(
            f"counted over {found['tokens']:,} tokens of {found['texts']:,} texts: of {found['features']:,} features "
            f"{found['silent']:,} were never active",
            f"wrote {path}: graphs that are traced with the set it lies with show it on each feature's card",
            sep="\n",
        )
    return 0


class Line:
    """One line on the terminal that says how far a training is; where there is no terminal, one for each tenth."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet, self._live = quiet, sys.stderr.isatty()
        self._tenth = 0
        self._shown = False

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Go on below it."""
        if self._shown:
            print(file=sys.stderr)
        self._shown = False

    def __call__(self, share: float, numbers: dict[str, float]) -> None:
        tenth = int(share * 10)
        if self._quiet or not (self._live or tenth > self._tenth):
            return
        self._tenth = tenth
        kl = numbers["kl"]
        words = (
            f"{share:4.0%}  step {numbers['step']:,.0f}  FVU {numbers['fvu']:.3f}  L0 {numbers['l0']:.1f}  "
            f"dead {numbers['dead']:.1%}  KL {'-' if kl != kl else f'{kl:.3f}'}"
        )
        if self._live:
            print(f"\r{words}\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = True
        else:
            print(words, file=sys.stderr, flush=True)


def _folder(arguments: argparse.Namespace) -> Path:
    from circuits.errors import BadOption

    if arguments.output is not None:
        return Path(arguments.output)
    if arguments.kind is None:
        raise BadOption("--kind is wanted: plt, clt or skip. To go on with a training, give its folder: -o FOLDER.")
    return Path(f"{Path(arguments.model).name}-{arguments.kind}")


def _check_early(arguments: argparse.Namespace, folder: Path) -> None:
    """What can be known to fail before seconds go into loading a model."""
    from circuits.errors import BadOption
    from circuits.keeping import check_writable

    if not arguments.resume:
        for name, wanted in (("kind", "plt, clt or skip"), ("data", "a file of text, or self")):
            if getattr(arguments, name) is None:
                raise BadOption(f"--{name} is wanted: {wanted}.")
    check_writable(folder)

    from circuits.transcoders.running import check_folder

    check_folder(folder, resume=arguments.resume)


def _new(asked: dict[str, Any], width: int) -> Settings:
    from circuits.transcoders.settings import Settings

    typical = {**TYPICAL, "features": WIDER * width}
    if asked["minutes"] is None:
        typical["steps"] = STEPS
    settings: dict[str, Any] = {name: typical.get(name) if value is None else value for name, value in asked.items()}
    return Settings(**settings)


def _same(found: Settings, asked: dict[str, Any], folder: Path) -> Settings:
    """The settings of the training in a folder, if those that are given are its own."""
    from circuits.errors import BadRun

    differ = [name for name, value in asked.items() if value is not None and value != getattr(found, name)]
    if differ:
        told = {"model": "another model, or other weights of it", "data": "other texts"}
        said = [told.get(name, f"--{name} {asked[name]}, not {getattr(found, name)}") for name in differ]
        raise BadRun(
            f"{folder} holds a training of other settings; these were given: {'; '.join(said)}. Leave them out to go "
            "on with it, or give another folder."
        )
    return found


def _again(arguments: argparse.Namespace, folder: Path) -> str:
    return f"circuits train transcoders {shlex.quote(arguments.model)} -o {shlex.quote(str(folder))} --resume"


def _in_words(outcome: Outcome, settings: Settings, model: str) -> list[str]:
    def spread(values: list[float], form: str) -> str:
        mean = sum(values) / len(values)
        return f"{mean:{form}} ({min(values):{form}} to {max(values):{form}} by layer)"

    layers = len(outcome.fvu)
    lines = [
        f"trained {layers} layers of {settings.features:,} features ({settings.kind}, {settings.activation}), "
        f"on {outcome.tokens:,} tokens in {outcome.steps:,} steps: {outcome.seconds / 60:.1f} min",
        f"on {outcome.tested:,} tokens of texts kept apart: FVU {spread(outcome.fvu, '.3f')}, "
        f"L0 {spread(outcome.l0, '.1f')}, {outcome.dead:.1%} dead; KL {outcome.kl:.3f} nats with every MLP replaced",
    ]
    if not outcome.fits:
        lines.append("this explains too little: the set will be refused unless forced. Train longer, or on more text.")
    lines.append(f'wrote {outcome.folder}: use it with circuits trace "…" -m {model} -t {outcome.folder}')
    lines.append(
        "what each feature fires on and promotes is in labels.json.gz there, and on its card in a graph's page"
    )
    return lines
