"""The command `circuits`: find the command that is meant, run it, and put what goes wrong into one sentence."""

from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module

from circuits.commands import COMMANDS

UNWRITABLE = (errno.ENOSPC, errno.EBADF, errno.EIO, errno.EFBIG, errno.EDQUOT)

# Exit codes; the last three as shells count signals.
BAD_INPUT, BUG, INTERRUPTED, CLOSED_PIPE, TERMINATED = 2, 1, 130, 141, 143


class Terminated(KeyboardInterrupt):
    """SIGTERM: what Ctrl-C is, from another program."""


def main(words: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code: 0, 2 for bad input, 130 for Ctrl-C, 143 for SIGTERM, 1 for our fault.

    words: the command line without the program's name; the process's own if none are given.

    With CIRCUITS_DEBUG=1 in the environment, errors come with their traceback.
    """
    open_streams()
    with stopping_cleanly():
        try:
            try:
                arguments = read(sys.argv[1:] if words is None else words)
                return import_module(f"circuits.commands.{arguments.command}").run(arguments)
            finally:
                sys.stdout.flush()  # --help leaves by SystemExit, and may not get its words out either
        except KeyboardInterrupt as stop:
            tell("\ncircuits: interrupted; nothing half-written is left behind")
            return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
        except BrokenPipeError:
            discard_output()  # the reader (head, less) has seen enough
            return CLOSED_PIPE
        except Exception as error:
            return complain(error)


def open_streams() -> None:
    """Let every stream be there and take every letter: what a terminal cannot show becomes a question mark.

    Where standard output is closed, writing to it fails as it would on a full disk: no file that is opened later may
    come to stand in its place.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextmanager
def stopping_cleanly() -> Iterator[None]:
    """SIGTERM raises `Terminated` meanwhile, so that whatever is half-written is cleared away."""

    def stop(*_: object) -> None:
        raise Terminated

    here = threading.current_thread() is threading.main_thread()  # no other may ask for signals
    before = signal.signal(signal.SIGTERM, stop) if here else None
    try:
        yield
    finally:
        if here:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def read(words: Sequence[str]) -> argparse.Namespace:
    """Parse the command line. Only the module of the command that is named is imported."""
    parser = argparse.ArgumentParser(
        prog="circuits",
        description="Causal graphs of language models: traced, drawn, and checked by ablation.",
        epilog="circuits COMMAND --help says what a command takes.",
    )
    parser.add_argument("--version", action=Version, help="print the version and stop")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    named = next((word for word in words if not word.startswith("-")), None)
    if named is not None and named not in COMMANDS:
        from circuits.spelling import did_you_mean

        parser.error(
            f"there is no command {named!r}: circuits --help lists those there are.{did_you_mean(named, COMMANDS)}"
        )
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == named:
            import_module(f"circuits.commands.{name}").add_arguments(command)
    return parser.parse_args(words)


def complain(error: Exception) -> int:
    """Say what went wrong on stderr; returns the exit code."""
    from circuits.errors import CircuitError
    from graphs.errors import GraphError

    if os.environ.get("CIRCUITS_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, GraphError | CircuitError):
        tell(f"circuits: {error}")
        return BAD_INPUT
    if isinstance(error, OSError) and error.filename is not None:
        tell(f"circuits: {error.filename}: {error.strerror}")
        return BAD_INPUT
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        discard_output()
        tell(f"circuits: what was to be printed could not be written: {error.strerror}. Give it another place.")
        return BAD_INPUT
    frames = traceback.extract_tb(error.__traceback__)
    where = [frame for frame in frames if not frame.filename.startswith("<")][-1]  # "<frozen importlib>" helps nobody
    tell(
        f"circuits: a fault of this program, not of your input: {type(error).__name__}: {error} "
        f"({os.path.basename(where.filename)}, line {where.lineno}). Run it again with CIRCUITS_DEBUG=1 for the whole "
        "story, and please report that."
    )
    return BUG


def tell(words: str) -> None:
    """Say something on stderr, if that takes it; the exit code says the rest."""
    with suppress(OSError):
        print(words, file=sys.stderr, flush=True)


def discard_output() -> None:
    """Let what is still to be printed go nowhere: Python would complain on its last flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Version(argparse.Action):
    """--version, looked up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None):
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"circuit-assay {version('circuit-assay')}")
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
