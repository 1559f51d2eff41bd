"""`circuits query`: one question to all graphs of a store, in SQL or ready made."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuits import flags

if TYPE_CHECKING:
    import pyarrow

    from graphs.query import Base

ENDINGS = (".csv", ".parquet")
ROWS = 100  # printed in a terminal
WIDE = 40  # letters of a cell in a terminal
IDS = ("id", "graph")  # columns that are never cut, for they are copied

TABLES = """\
tables:
  graphs    id, prompt, model, transcoders, method, saved, nodes, edges, targets, kept, and the scores
  verdicts  graph, claim, verdict, number, threshold, control
  nodes     graph, node, kind, layer, position, feature, label, activation, value, gross, influence, goal
  edges     graph, source, target, weight; source and target are `node` of nodes

example: circuits query "select id, completeness from graphs order by completeness desc"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = TABLES
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument(
        "sql", metavar="SELECT", nargs="?", type=flags.filled, help="a question in SQL, as DuckDB reads it"
    )
    asked.add_argument("--feature", metavar="UNIT", type=flags.filled, help="the graphs that contain it: L2/544")
    asked.add_argument(
        "--shared",
        metavar="GRAPH",
        nargs="*",
        help="the features that all these graphs contain; without a name, those that most graphs of the store do",
    )
    asked.add_argument(
        "--edge",
        metavar=("SOURCE", "TARGET"),
        nargs=2,
        type=flags.filled,
        help="the mean weight of an edge over prompts; units, L2/544, or labels",
    )
    asked.add_argument("--label", metavar="WORDS", type=flags.filled, help="where a label occurs")
    parser.add_argument("-o", "--output", metavar="FILE", help="write all rows into x.csv or x.parquet")
    parser.add_argument(
        "--rows", metavar="N", type=flags.count, help=f"at most N rows (default: {ROWS} in a terminal, else all)"
    )
    parser.add_argument(
        "--memory", metavar="SIZE", type=flags.size, default=2 * 10**9, help="what it may take (default: 2GB)"
    )
    flags.add_store(parser)
    flags.add_json(parser)
    flags.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from graphs.query import opened
    from graphs.store import Store

    store = Store(arguments.store)
    path = place(arguments.output)
    printed = path is None and not arguments.json
    most = arguments.rows or (ROWS if printed else None)
    shared = [flags.find_graph(store, text).name for text in arguments.shared or ()]
    with opened(store, memory=arguments.memory) as base:
        found = answer(base, arguments, shared, most + 1 if printed and most else most)
        warn(base, arguments)
    if path is not None:
        from graphs.tables import write_answer

        write_answer(found, path)
    if arguments.json:
        from graphs.records import strict
        from graphs.tables import rows_of

        print(json.dumps(strict(rows_of(found)), indent=1, default=str))
    elif path is not None and not arguments.quiet:
        print(f"wrote {path}: {len(found):,} rows, {path.stat().st_size / 1000:,.0f} kB")
    elif printed and not arguments.quiet:
        show(found, most or ROWS)
    return 0


def answer(base: Base, arguments: argparse.Namespace, graphs: list[str], most: int | None) -> pyarrow.Table:
    """What was asked for. graphs: the ids after --shared."""
    from graphs import questions

    if arguments.feature is not None:
        return questions.holding(base, arguments.feature, most=most)
    if arguments.shared is not None:
        return questions.shared(base, graphs, most=most)
    if arguments.edge is not None:
        return questions.between(base, *arguments.edge)
    if arguments.label is not None:
        return questions.labelled(base, arguments.label, most=most)
    return base.ask(arguments.sql, most=most)


def place(output: str | None) -> Path | None:
    """Where the answer is written.

    Raises:
        CannotWrite: the file's ending says neither CSV nor Parquet, or its folder takes no files.
    """
    from circuits.keeping import check_output
    from graphs.errors import CannotWrite

    if output is None:
        return None
    path = Path(output)
    if path.suffix.lower() not in ENDINGS:
        raise CannotWrite(f"-o wants a file that ends in {' or '.join(ENDINGS)}, found {output!r}.")
    check_output(path)
    return path


def warn(base: Base, arguments: argparse.Namespace) -> None:
    """Say on stderr which graphs the answer leaves out."""
    import sys

    if base.problems and not arguments.quiet:
        count = len(base.problems)
        many = "1 graph is" if count == 1 else f"{count:,} graphs are"
        print(f"circuits: {many} left out, which cannot be read:", file=sys.stderr)
        for id, problem in list(base.problems.items())[:3]:
            print(f"  {id}: {problem}", file=sys.stderr)
        if count > 3:
            print(f"  and {count - 3:,} more: circuits list names them", file=sys.stderr)


def show(found: pyarrow.Table, most: int) -> None:
    """The answer as lines, names first; what is wide is cut."""
    from graphs.tables import rows_of
    from graphs.wording import table_in_words

    rows = rows_of(found.slice(0, most))
    cells = [found.column_names, *([cell(value, name in IDS) for name, value in row.items()] for row in rows)]
    for line in table_in_words(cells):
        print(line)
    if len(found) > most:
        print(f"… and more: these are the first {most:,} rows; --rows N prints more, -o x.csv writes all")
    elif not rows:
        print("no rows")


def cell(value: Any, whole: bool) -> str:
    """A value in few letters, or as many as it has, on one line."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        value = ", ".join(str(each).strip() for each in value)
    text = "".join(letter if letter.isprintable() else " " for letter in str(value)).strip()
    return text if whole or len(text) <= WIDE else f"{text[: WIDE - 1]}…"
