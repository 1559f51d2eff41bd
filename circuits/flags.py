"""The flags that several commands share, so that they mean the same everywhere. Imports nothing heavy."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphs.addresses import Place
    from graphs.store import Store

STORE = "circuits-store"
MODEL = "world"
MOST = 10  # candidates listed where a name is short of one graph


def add_store(parser: argparse.ArgumentParser) -> None:
    """--store FOLDER."""
    parser.add_argument(
        "--store",
        metavar="FOLDER",
        type=filled,
        default=STORE,
        help=f"where graphs are kept: a folder, or an address such as s3://bucket/circuits (default: {STORE}/)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """--quiet."""
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")


def add_graphs(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """GRAPH, or GRAPH… with nargs="+": as `find_graph` takes them."""
    parser.add_argument(
        "graph", metavar="GRAPH", nargs=nargs, help="an id, its beginning or the digits it ends in, or a graph's folder"
    )


def add_model(parser: argparse.ArgumentParser, default: str | None = MODEL, *, transcoders: bool = True) -> None:
    """-m, -t, --device, --dtype and --force. A default of None: what the graph was made with.

    transcoders: whether the command takes a set; without, neither -t nor --force.
    """
    made = "what the graph was made with" if default is None else default
    parser.add_argument(
        "-m",
        "--model",
        metavar="MODEL",
        type=filled,
        default=default,
        help=f"shipped name, folder, or Hub id (default: {made})",
    )
    if transcoders:
        own = made if default is None else "those shipped with the model, else neurons"
        parser.add_argument(
            "-t",
            "--transcoders",
            metavar="SET",
            type=filled,
            help="shipped name, folder, Hub id, or 'neurons': each MLP neuron a feature; SET+neurons: neurons in the "
            f"layers that the set has not, SET@L0-2: of the set these layers (default: {own})",
        )
    parser.add_argument(
        "--device",
        type=filled,
        default="auto",
        help="where to compute: auto, cpu, cuda, cuda:1, or balanced: on all GPUs (default: auto)",
    )
    dtype = None if default is None else "float32"
    parser.add_argument("--dtype", type=filled, default=dtype, help=f"float32 or float64 (default: {dtype or made})")
    if transcoders:
        parser.add_argument("--force", action="store_true", help="use the set even if it does not fit the model")


def add_seed(parser: argparse.ArgumentParser, what: str) -> None:
    """--seed; None where it is not given, which counts as 0."""
    parser.add_argument("--seed", metavar="N", type=seed, help=f"{what} (default: 0)")


def add_paraphrase(parser: argparse.ArgumentParser) -> None:
    """--paraphrase; read by `paraphrases_in`."""
    parser.add_argument(
        "--paraphrase",
        metavar="FILE",
        type=filled,
        help="the same question in other words, one a line: what of the graph is in theirs too",
    )


def paraphrases_in(file: str | None) -> list[str]:
    """The lines of such a file, without empty ones.

    Raises:
        BadOption: it can't be read as text, or holds nothing.
    """
    from circuits.errors import BadOption

    if file is None:
        return []
    try:
        lines = [line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as reason:
        said = getattr(reason, "strerror", None) or "it is not text in UTF-8"
        raise BadOption(f"--paraphrase {file}: a text file with a prompt a line is wanted: {said}.") from None
    found = [line for line in lines if line]
    if not found:
        raise BadOption(f"--paraphrase {file}: a text file with a prompt a line is wanted, found no words in it.")
    return found


def filled(text: str) -> str:
    """A name that says something."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a name is wanted, found an empty one")
    return text


def seed(text: str) -> int:
    """A seed that every generator takes."""
    if not text.strip().isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"a whole number from 0 to 2**63 - 1 is wanted, found {text!r}")
    return int(text)


def count(text: str) -> int:
    """One or more."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is wanted, found {text!r}")
    return int(text)


def size(text: str) -> int:
    """Bytes: `500MB`, `4 GB`, `1.5gb`; a thousand to the next, as disks are sold."""
    units = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
    number = text.strip().rstrip("bBkKmMgGtT")
    unit = text.strip()[len(number) :].lower()
    with suppress(ValueError, KeyError, OverflowError):
        found = float(number) * units[unit]
        if 1 <= found < float("inf"):
            return int(found)
    raise argparse.ArgumentTypeError(f"a size like 500MB or 4GB is wanted, found {text!r}")


def transcoders_for(arguments: argparse.Namespace) -> str:
    """The set that was asked for; by default the one that is shipped with the model, else its own neurons."""
    from circuits.hub.published import shipped_transcoders

    if arguments.transcoders:
        return arguments.transcoders
    return arguments.model if arguments.model in shipped_transcoders() else "neurons"


def find_graph(store: Store, text: str) -> Place:
    """The folder of the graph that a person means: an id in the store, how one begins or the digits it ends in, a path.

    An id comes first: a folder of the same name in the current one does not hide it.

    Raises:
        UnknownGraph: nothing of that name, or several.
    """
    from graphs.errors import UnknownGraph
    from graphs.wording import visible

    try:
        return store.find(text)
    except UnknownGraph:
        if text and Path(text).is_dir():
            return store.find(Path(text))
        known = store.list()
        ending = [each.id for each in known if text and each.id.endswith(f"-{text}")]
        found = [each for each in known if each.id.startswith(text)]
        if len(ending) == 1 and not found:
            return store.find(ending[0])
        several = [
            f"  {each.id}  {each.saved[:16].replace('T', ' ')}  {', '.join(map(visible, each.targets))}".rstrip()
            for each in found
        ]
        if text and len(several) > 1:
            more = [f"  and {len(several) - MOST} more"] if len(several) > MOST else []
            listed = "\n".join([*several[:MOST], *more])
            raise UnknownGraph(
                f"{len(several)} graphs begin with {text!r}, newest first; give the whole id of one, or what it "
                f"ends in:\n{listed}"
            ) from None
        raise
