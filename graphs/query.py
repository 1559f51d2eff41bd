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

import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from graphs.addresses import Address, Place, each_of
from graphs.errors import BadQuery, ForeignFolder
from graphs.index import INDEX
from graphs.records import TABLES, read_sheet
from graphs.tables import checksum, joined, read_table, table_of

if TYPE_CHECKING:
    import duckdb
    import pyarrow

    from graphs.index import Index
    from graphs.store import Store

Answer = TypeVar("Answer")
EDGES = TABLES[1]
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
TABLES_OF = {"graphs": GRAPH_COLUMNS, "verdicts": VERDICT_COLUMNS, "nodes": NODE_COLUMNS, "edges": EDGE_COLUMNS}


class Base:
    """The tables of a store, open for questions. Made by `opened`.

    problems: graph -> what is wrong with it. It is in none of the tables.
    """

    def __init__(
        self, folder: Place, lines: Mapping[str, Any], nodes: Index, problems: Mapping[str, str], memory: float
    ):
        self._folder, self._nodes, self._memory, self.problems = folder, nodes, memory, dict(problems)
        self._held: set[str] = set()  # graphs whose edges were held to their checksum
        self._lines = {id: line for id, line in lines.items() if id not in problems}
        self._kept: dict[str, pyarrow.Table] = {}

    def ask(self, sql: str, *, most: int | None = None, among: Sequence[str] | None = None) -> pyarrow.Table:
        """The answer to one SELECT. Interrupted as soon as Ctrl-C is pressed.

        most: no more than so many rows, the first ones. among: graphs of which `edges` has the edges; by default all.

        Raises:
            BadQuery: it is no single question, does not fit the tables, or needs more memory.
        """
        import duckdb

        try:
            f"{sql} {_address(self._folder)}".encode()
        except UnicodeEncodeError as error:
            raise BadQuery(
                f"DuckDB reads UTF-8 alone, and the question or the store's path is none: {error.object[:200]!a}. "
                "Rename the folder, or name it by a link."
            ) from error
        connection = duckdb.connect(
            config={
                "memory_limit": f"{int(self._memory)}B",
                "temp_directory": "",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "python_enable_replacements": "false",
            }
        )
        fetched = ExitStack()
        try:
            kinds = [statement.type for statement in duckdb.extract_statements(sql)]
            if kinds not in ([duckdb.StatementType.SELECT], [duckdb.StatementType.EXPLAIN]):
                raise BadQuery(
                    f"a single question is wanted, SELECT … or EXPLAIN SELECT …, found {_spelled(kinds)}: graphs are "
                    "never changed by SQL."
                )
            self._prepare(connection, sql, list(self._lines) if among is None else among, fetched)
            return _in_turn(connection, lambda: self._fetch(connection, sql, most))
        except duckdb.OutOfMemoryException as error:
            raise BadQuery(
                f"this takes more than the {self._memory / 1e9:.3g} GB of memory that it may: give it more, or ask for "
                f"fewer columns or rows. {_first(error)}"
            ) from error
        except duckdb.PermissionException as error:
            raise BadQuery(f"{_first(error)}. Only {', '.join(TABLES_OF)} can be read, no files.") from error
        except duckdb.Error as error:
            if f"/{INDEX}/" in str(error):
                raise BadQuery(
                    f"{_first(error)}. The index is damaged: remove the folder {INDEX} in the store, it is made again."
                ) from error
            tables = "; ".join(f"{name}({', '.join(columns)})" for name, columns in TABLES_OF.items())
            raise BadQuery(f"{error}\nTables: {tables}.") from error
        finally:
            connection.close()
            fetched.close()

    def keep(self, name: str, table: pyarrow.Table) -> None:
        """Let later questions ask of an answer too, under this name."""
        self._kept[name] = table

    def _prepare(
        self, connection: duckdb.DuckDBPyConnection, sql: str, among: Sequence[str], fetched: ExitStack
    ) -> None:
        """The tables that a question names (all, where it names none), and leave to read nothing else.

        fetched: holds what is brought here for this question.
        """
        named = [name for name in TABLES_OF if name in sql.lower()] or list(TABLES_OF)
        paths = []
        if isinstance(self._folder, Address):
            connection.register_filesystem(self._folder.disk)
        if "edges" in named:
            folder = self._folder
            if isinstance(folder, Address):
                near = Path(fetched.enter_context(tempfile.TemporaryDirectory()))
                among, folder = _fetch_edges(folder, among, near), near
            paths += _show_edges(connection, folder, self._whole(folder, among))
        if "nodes" in named:
            paths += _show_nodes(connection, self._nodes, sorted(self.problems))
        if "graphs" in named:
            connection.register("graphs", _graphs(self._lines))
        if "verdicts" in named:
            connection.register("verdicts", _verdicts(self._lines))
        for name, table in self._kept.items():
            connection.register(name, table)
        # A pattern that stands for one path must be allowed as well as the path.
        connection.execute(f"set allowed_paths = {_list([*dict.fromkeys([*paths, *map(_pattern, paths)])])}")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")

    def _whole(self, folder: Path, ids: Sequence[str]) -> list[str]:
        """Those graphs whose edges are what their records say: a damaged file of the right size has other weights, and
        DuckDB does not notice. The others are in no table from now on.

        folder: where the edges lie, here.
        """
        for id in ids:
            if id in self._held:
                continue
            stated = self._lines[id]["files"][EDGES]
            try:
                if checksum(folder / id / EDGES) != stated["sha256"]:  # or another writer replaced the graph meanwhile
                    read_table(self._folder / id / EDGES, read_sheet(self._folder / id).record["files"][EDGES])
                self._held.add(id)
            except (ForeignFolder, OSError) as error:
                self.problems[id] = str(error)
        self._lines = {id: line for id, line in self._lines.items() if id not in self.problems}
        return [id for id in ids if id in self._lines]

    def _fetch(self, connection: duckdb.DuckDBPyConnection, sql: str, most: int | None) -> pyarrow.Table:
        reader = connection.sql(sql).to_arrow_reader(BATCH)
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


@contextmanager
def opened(store: Store, *, memory: float = 2e9) -> Iterator[Base]:
    """The tables of a store as it is now.

    memory: bytes that a question may take.

    Raises:
        UnknownStore: the store is a file, or may not be read.
    """
    lines, problems = store.lines()
    nodes = store.index(lines)
    yield Base(store.folder, lines, nodes, {**problems, **nodes.problems}, memory)


def _show_nodes(connection: duckdb.DuckDBPyConnection, nodes: Index, without: Sequence[str]) -> list[str]:
    """The table `nodes`, without those of some graphs; returns the files that it reads."""
    if not nodes.parts and nodes.loose is None:
        connection.register("nodes", table_of(NODE_COLUMNS, {}))
        return []
    paths = [_address(part.path) for part in nodes.parts]
    whole = [path for path, part in zip(paths, nodes.parts, strict=True) if len(part.counts) == len(part.holds)]
    pieces = [f"select * from {_tables_in(whole)}"] if whole else []
    for path, part in zip(paths, nodes.parts, strict=True):
        if path not in whole:
            stale = sorted(part.holds.keys() - part.counts)
            pieces.append(f"select * from {_tables_in([path])} where graph not in {_tuple(stale)}")
    if nodes.loose is not None:
        connection.register("loose_nodes", nodes.loose)
        pieces.append("select * from loose_nodes")
    union = " union all by name ".join(pieces)
    connection.execute(
        f"create view nodes as {f'select * from ({union}) where graph not in {_tuple(without)}' if without else union}"
    )
    return paths


def _fetch_edges(folder: Address, ids: Sequence[str], near: Path) -> list[str]:
    """Bring the edges of some graphs here, for DuckDB would ask a server many things about each file, one by one.

    Returns those that are still there.
    """

    def fetch(id: str) -> str | None:
        with suppress(FileNotFoundError):
            content = (folder / id / EDGES).read_bytes()
            (near / id).mkdir()
            (near / id / EDGES).write_bytes(content)
            return id
        return None

    return [id for id in each_of(folder, fetch, ids) if id is not None]


def _show_edges(connection: duckdb.DuckDBPyConnection, folder: Path, ids: Sequence[str]) -> list[str]:
    """The table `edges`; returns the files that it reads."""
    paths = [str(folder.absolute() / id / EDGES) for id in ids]
    if not paths:
        connection.register("edges", table_of(EDGE_COLUMNS, {}))
        return []
    # The name of a file says whose it is, so a question about some graphs opens those only.
    connection.execute(
        f"create view edges as select parse_path(filename)[-2] as graph, source, target, weight "
        f"from {_tables_in(paths, 'filename = true')}"
    )
    return paths


def _graphs(lines: Mapping[str, Mapping[str, Any]]) -> pyarrow.Table:
    graphs = {name: [line["scores"][name] for line in lines.values()] for name in SCORES}
    graphs |= {name: [line[name] for line in lines.values()] for name in GRAPH_COLUMNS if name not in {"id", *SCORES}}
    return table_of(GRAPH_COLUMNS, {**graphs, "id": list(lines)})


def _verdicts(lines: Mapping[str, Mapping[str, Any]]) -> pyarrow.Table:
    claims = [[id, *claim] for id, line in lines.items() for claim in json.loads(line["claims"])]
    return table_of(
        VERDICT_COLUMNS, {name: [row[place] for row in claims] for place, name in enumerate(VERDICT_COLUMNS)}
    )


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


def _tables_in(paths: Sequence[str], *options: str) -> str:
    """These files as SQL reads them: no folder above is a column, as `layer=5/` would be, or a pattern."""
    return f"read_parquet({', '.join([_list([*map(_pattern, paths)]), 'hive_partitioning = false', *options])})"


def _pattern(path: str) -> str:
    """The pattern that only this path fits."""
    return re.sub(r"[*?[]", r"[\g<0>]", path)


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
