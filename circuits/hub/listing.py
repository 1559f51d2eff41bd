"""What `circuits models` and `circuits transcoders` share: the list, and `get`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from circuits import flags

if TYPE_CHECKING:
    from circuits.hub.fetching import Fetched
    from circuits.hub.offers import Offer

GET = "get"


def add_arguments(parser: argparse.ArgumentParser, command: str, example: str) -> None:
    """WORD…, or get NAME; --json, --quiet."""
    parser.usage = f"circuits {command} [WORD ...] [--json]\n       circuits {command} get NAME [--json] [-q]"
    parser.add_argument(
        "words", metavar="WORD", nargs="*", help=f"list what has all these words in its line: {example}"
    )
    parser.epilog = (
        "get NAME fetches from the Hugging Face Hub into its cache: NAME is ORG/NAME, and @REVISION for another than "
        "the newest. What is whole in the cache is not fetched again."
    )
    flags.add_json(parser)
    flags.add_quiet(parser)


def is_get(arguments: argparse.Namespace) -> bool:
    """Whether something is to be fetched, by a name that says something.

    Raises:
        BadOption: `get` without one name.
    """
    from circuits.errors import BadOption

    if arguments.words[:1] != [GET]:
        return False
    if len(arguments.words) != 2 or not arguments.words[1].strip():
        raise BadOption(f"get takes one name, ORG/NAME as on the Hub; found {len(arguments.words) - 1}.")
    return True


def get(arguments: argparse.Namespace, fetch: Callable[..., Fetched], here: Sequence[str], then: str) -> int:
    """Fetch what is named. here: names of what need not be. then: what can be done with it.

    Raises:
        NotFetched: the Hub does not give it, or there is no room.
    """
    from circuits.progress import Bars
    from circuits.sizes import size_in_words

    name = arguments.words[1]
    if name in here:
        say(arguments, {"name": name, "new": 0}, f"{name} is here already: nothing is to be fetched")
        return 0
    with Bars(quiet=arguments.quiet) as bars:
        bars.note(f"asking for {name}")
        found = fetch(name, newest=True, progress=bars)
    record = {"name": name, **asdict(found), "folder": str(found.folder)}
    files = f"{found.files} file{'s' if found.files != 1 else ''}, {size_in_words(found.size)}"
    done = f"fetched {size_in_words(found.new)}: " if found.new else "all of it was here: "
    say(arguments, record, f"{done}{files} in {found.folder}", then)
    return 0


def show(
    arguments: argparse.Namespace,
    offers: Sequence[Offer],
    cells: Callable[[Offer], Sequence[str]],
    below: Callable[[Offer], Sequence[str]] = lambda offer: (),
) -> int:
    """Print what can be loaded, a line each, or as JSON: of `offers`, those that have all words in their line.

    below: lines under that of an offer, where it was looked for by words.
    """
    from circuits.sizes import size_in_words
    from graphs.wording import table_in_words

    def row(offer: Offer) -> tuple[str, ...]:
        exact = offer.where in ("shipped", "cache")
        size = "" if offer.size is None else f"{'' if exact else '≈ '}{size_in_words(offer.size)}"
        where = {"hub": "", "cache": "in the cache", "part in the cache": f"{size_in_words(offer.here)} in the cache"}
        return offer.name, *cells(offer), size, where.get(offer.where, offer.where)

    rows = [(offer, row(offer)) for offer in offers]
    words = [word.lower() for word in arguments.words]
    chosen = [(offer, cells) for offer, cells in rows if all(word in " ".join(cells).lower() for word in words)]
    if arguments.json:
        keys = ("name", "where", "size", "here")
        print(json.dumps([{**{key: getattr(each, key) for key in keys}, **each.about} for each, _ in chosen], indent=1))
    elif chosen:
        for line, (offer, _) in zip(table_in_words([cells for _, cells in chosen]), chosen, strict=True):
            print(line, *(below(offer) if words else ()), sep="\n")
    elif not arguments.quiet:
        print(
            f"nothing known has {' and '.join(map(repr, arguments.words))} in its line; without a word, all is listed"
        )
    return 0


def say(arguments: argparse.Namespace, record: dict, *lines: str) -> None:
    """The record where JSON is asked for, else the lines."""
    if arguments.json:
        print(json.dumps(record, indent=1))
    elif not arguments.quiet:
        print(*lines, sep="\n")
