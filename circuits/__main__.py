"""The command `circuits`: find the command that is meant, run it, and put what goes wrong into one sentence."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from circuits.commands import COMMANDS

BAD_INPUT, BUG, INTERRUPTED, CLOSED_PIPE = 2, 1, 130, 141  # exit codes; the last two as shells count signals


def main(words: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code: 0, 2 for bad input, 130 for Ctrl-C, 1 for a fault of ours.

    words: the command line without the program's name; the process's own if none are given.

    With CIRCUITS_DEBUG=1 in the environment, errors come with their traceback.
    """
    try:
        arguments = read(sys.argv[1:] if words is None else words)
        code = import_module(f"circuits.commands.{arguments.command}").run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("\ncircuits: interrupted; nothing half-written is left behind", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain on its last flush: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except Exception as error:
        return complain(error)


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
        print(f"circuits: {error}", file=sys.stderr)
        return BAD_INPUT
    if isinstance(error, OSError) and error.filename is not None:
        print(f"circuits: {error.filename}: {error.strerror}", file=sys.stderr)
        return BAD_INPUT
    frames = traceback.extract_tb(error.__traceback__)
    where = [frame for frame in frames if not frame.filename.startswith("<")][-1]  # "<frozen importlib>" helps nobody
    print(
        f"circuits: a fault of this program, not of your input: {type(error).__name__}: {error} "
        f"({os.path.basename(where.filename)}, line {where.lineno}). Run it again with CIRCUITS_DEBUG=1 for the whole "
        "story, and please report that.",
        file=sys.stderr,
    )
    return BUG


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
