"""SQL over all graphs of a store at once, with DuckDB, which may read their tables and nothing else.

Four tables:

    graphs    one row a graph: id, prompt, model, transcoders, method, saved, nodes and edges (how many), targets, kept,
              and its scores, of which those of completeness, replacement and the like are shares
    verdicts  one row a claim of a graph's current assay: graph, claim, verdict, number, threshold, control
    nodes     one row a node: graph, node (its row, from 0), kind, layer, position, feature, label, activation, value,
              gross, influence, goal; see `graphs.Nodes`
    edges     one row an edge: graph, source and target (rows of the nodes), weight

`graphs` and `verdicts` come from the records, `edges` from each graph's own file, `nodes` from the store's index of
the same columns, see `graphs.index`. Graphs that cannot be read are in none of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from graphs.addresses import Address, Place
from graphs.errors import BadQuery
from graphs.index import INDEX
from graphs.records import TABLES
from graphs.tables import joined, table_of

if TYPE_CHECKING:
    import duckdb
    import pyarrow

    from graphs.index import Index
    from graphs.store import Store

Answer = TypeVar("Answer")
EDGES = TABLES[1]
NAMES = ("graphs", "verdicts", "nodes", "edges")
BATCH = 100_000  # rows that are taken from DuckDB at once

SCORES = (
    *("replacement", "completeness", "completeness_inputs", "error"),
    *("unselected", "pruned", "bias", "path_length"),
)
GRAPH_COLUMNS = {
    **dict.fromkeys(("id", "prompt", "model", "transcoders", "method", "saved"), "string"),
    **{"nodes": "int64", "edges": "int64", "targets": "strings"},
    **dict.fromkeys(("kept", *SCORES), "float64"),
}
VERDICT_COLUMNS = {
    **dict.fromkeys(("graph", "claim", "verdict"), "string"),
    **{"number": "float64", "threshold": "string", "control": "string"},
}
NODE_COLUMNS = {
    **{"graph": "string", "node": "int64", "kind": "string", "layer": "int32", "position": "int32", "feature": "int64"},
    **dict.fromkeys(("activation", "value", "gross", "influence"), "float64"),
    **{"label": "string", "goal": "float64"},
}
EDGE_COLUMNS = {"graph": "string", "source": "int64", "target": "int64", "weight": "float64"}


class Base:
    """The tables of a store, open for questions. Made by `opened`.

    problems: graph -> what is wrong with it. It is in none of the tables.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, problems: Mapping[str, str], memory: float):
        self._connection, self.problems, self._memory = connection, problems, memory

    def ask(self, sql: str, *, most: int | None = None) -> pyarrow.Table:
        """The answer to one SELECT. Interrupted as soon as Ctrl-C is pressed.

        most: no more than so many rows, the first ones.

        Raises:
            BadQuery: it is no single question, does not fit the tables, or needs more memory.
        """
        import duckdb

        try:
            kinds = [statement.type for statement in duckdb.extract_statements(sql)]
            if kinds not in ([duckdb.StatementType.SELECT], [duckdb.StatementType.EXPLAIN]):
                raise BadQuery(
                    f"a single question is wanted, SELECT … or EXPLAIN SELECT …, found {_spelled(kinds)}: graphs are "
                    "never changed by SQL."
                )
            return _in_turn(self._connection, lambda: self._fetch(sql, most))
        except duckdb.OutOfMemoryException as error:
            raise BadQuery(
                f"this takes more than the {self._memory / 1e9:.3g} GB of memory that it may: give it more, or ask for "
                f"fewer columns or rows. {_first(error)}"
            ) from error
        except duckdb.PermissionException as error:
            raise BadQuery(f"{_first(error)}. Only {', '.join(NAMES)} can be read, no files.") from error
        except duckdb.Error as error:
            if f"/{INDEX}/" in str(error):
                raise BadQuery(
                    f"{_first(error)}. The index is damaged: remove the folder {INDEX} in the store, it is made again."
                ) from error
            raise BadQuery(f"{error}\n{self._tables_in_words()}") from error

    def keep(self, name: str, table: pyarrow.Table) -> None:
        """Let later questions ask of an answer too, under this name."""
        self._connection.register(name, table)

    def _fetch(self, sql: str, most: int | None) -> pyarrow.Table:
        reader = self._connection.sql(sql).to_arrow_reader(BATCH)
        batches, rows, size = [], 0, 0
        for batch in reader:
            batches.append(batch if most is None else batch.slice(0, most - rows))
            rows, size = rows + len(batches[-1]), size + batch.nbytes
            if size > self._memory:
                raise BadQuery(
                    f"the answer has more than {rows:,} rows, larger than the {self._memory / 1e9:.3g} GB that it may: "
                    "give it more memory, or put LIMIT behind the question."
                )
            if most is not None and rows >= most:
                break
        return joined(batches, reader.schema)

    def _tables_in_words(self) -> str:
        lines = []
        for name in NAMES:
            rows = self._connection.execute(f"select column_name from (describe {name})").fetchall()
            lines.append(f"{name}({', '.join(column for (column,) in rows)})")
        return f"Tables: {'; '.join(lines)}."


@contextmanager
def opened(store: Store, *, memory: float = 2e9) -> Iterator[Base]:
    """The tables of a store as it is now.

    memory: bytes that a question may take.

    Raises:
        UnknownStore: the store is a file, or may not be read.
    """
    import duckdb

    lines, problems = store.lines()
    connection = duckdb.connect(
        config={
            "memory_limit": f"{int(memory)}B",
            "temp_directory": "",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
        }
    )
    try:
        if isinstance(store.folder, Address):
            connection.register_filesystem(store.folder.disk)
        nodes = store.index(lines)
        problems = {**problems, **nodes.problems}
        lines = {id: line for id, line in lines.items() if id not in problems}
        paths = [*_show_nodes(connection, nodes), *_show_edges(connection, store.folder, list(lines))]
        _show_records(connection, lines)
        connection.execute(f"set allowed_paths = {_list(paths)}")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        yield Base(connection, problems, memory)
    finally:
        connection.close()


def _show_nodes(connection: duckdb.DuckDBPyConnection, nodes: Index) -> list[str]:
    """The table `nodes`; returns the files that it reads."""
    paths = [_address(part.path) for part in nodes.parts]
    whole = [path for path, part in zip(paths, nodes.parts, strict=True) if len(part.counts) == len(part.holds)]
    pieces = [f"select * from read_parquet({_list(whole)})"] if whole else []
    for path, part in zip(paths, nodes.parts, strict=True):
        if path not in whole:
            stale = sorted(part.holds.keys() - part.counts)
            pieces.append(f"select * from read_parquet({_list([path])}) where graph not in {_tuple(stale)}")
    if nodes.loose is not None or not pieces:
        connection.register("loose_nodes", nodes.loose if nodes.loose is not None else table_of(NODE_COLUMNS, []))
        pieces.append("select * from loose_nodes")
    connection.execute(f"create view nodes as {' union all by name '.join(pieces)}")
    return paths


def _show_edges(connection: duckdb.DuckDBPyConnection, folder: Place, ids: list[str]) -> list[str]:
    """The table `edges`; returns the files that it reads."""
    paths = [_address(folder / id / EDGES) for id in ids]
    if not paths:
        connection.register("no_edges", table_of(EDGE_COLUMNS, []))
        connection.execute("create view edges as select * from no_edges")
        return []
    # The name of a file says whose it is, so a question about some graphs opens those only.
    connection.execute(
        f"create view edges as select parse_path(filename)[-2] as graph, source, target, weight "
        f"from read_parquet({_list(paths)}, filename = true)"
    )
    return paths


def _show_records(connection: duckdb.DuckDBPyConnection, lines: Mapping[str, Mapping[str, Any]]) -> None:
    """The tables `graphs` and `verdicts`."""
    graphs = [{"id": id, **line, **line["scores"]} for id, line in lines.items()]
    names = list(VERDICT_COLUMNS)
    verdicts = [
        dict(zip(names, (id, *verdict), strict=True)) for id, line in lines.items() for verdict in line["verdicts"]
    ]
    connection.register("graphs", table_of(GRAPH_COLUMNS, graphs))
    connection.register("verdicts", table_of(VERDICT_COLUMNS, verdicts))


def _in_turn(connection: duckdb.DuckDBPyConnection, work: Callable[[], Answer]) -> Answer:
    """Do the work in a thread of its own: while DuckDB computes, no signal is heard in its own."""
    done: list[Answer] = []
    failed: list[BaseException] = []
    over = threading.Event()  # a thread that was joined when a signal came says that it is over, and is not

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)
        finally:
            over.set()

    threading.Thread(target=run, daemon=True).start()
    try:
        while not over.wait(0.1):
            pass
    except BaseException:
        while not over.is_set():
            with suppress(KeyboardInterrupt):  # pressed twice
                connection.interrupt()
                over.wait(0.1)
        raise
    if failed:
        raise failed[0]
    return done[0]


def _address(place: Place) -> str:
    """A file as DuckDB names it."""
    return place.disk.unstrip_protocol(place.path) if isinstance(place, Address) else str(place.absolute())


def text_in_sql(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _list(texts: Sequence[str]) -> str:
    return f"[{', '.join(text_in_sql(text) for text in texts)}]"


def _tuple(texts: Sequence[str]) -> str:
    return f"({', '.join(text_in_sql(text) for text in texts)})"


def _spelled(kinds: Sequence[Any]) -> str:
    return ", ".join(kind.name for kind in kinds) or "nothing"


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0].strip().removesuffix(".")
