"""Graphs on disk: one folder each, whole or absent, readable by anything that reads Parquet and JSON."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from graphs.assays import Assay
from graphs.catalog import recall, remember, stamp
from graphs.errors import CannotWrite, ForeignFolder, UnknownGraph, UnknownStore
from graphs.records import (
    ADVICE,
    ASSAY,
    FORMAT,
    RECORD,
    TABLES,
    VERSION,
    File,
    Record,
    read_sheet,
    seal,
    strict,
    to_json,
)
from graphs.staging import ATTACHING, SAVING, is_staged, land, recover, staging

if TYPE_CHECKING:
    import pyarrow

    from graphs.graph import AttributionGraph

Found = TypeVar("Found")
TURNS = 20  # how often a graph is read again that another process replaced meanwhile
MANY = 100  # so many graphs are worth remembering: fewer are read at once
LOOKS = 5  # how often a store is looked through while others save there


@dataclass(frozen=True)
class Entry:
    """One line of `Store.list()`.

    id: the graph's name in the store. folder: where it lies. prompt: as text. saved: when, ISO 8601, UTC.
    nodes, edges: how many it has. model, transcoders: their names, as in the graph's provenance.
    targets: the labels of what it explains, foremost first. verdicts: those of its current assay, in order.
    problem: what is wrong with the folder, empty when it can be read; the other fields are then empty or 0.
    """

    id: str
    folder: Path
    prompt: str = ""
    saved: str = ""
    nodes: int = 0
    edges: int = 0
    model: str = ""
    transcoders: str = ""
    targets: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    problem: str = ""


class Store:
    """A folder of graphs, each in a folder of its own: nodes.parquet, edges.parquet, graph.json, and what is attached.

    Methods take a graph's id, or the beginning of one where only one begins so. A `pathlib.Path` is taken for the
    folder of a graph, wherever it lies; a string never is, so an id from elsewhere cannot point out of the store.

    Several processes may use one store. Of two that save the same graph, whichever is done last stays, and who reads
    meanwhile sees the one or the other, whole.

    folder: made when the first graph is saved.
    """

    def __init__(self, folder: str | Path = "circuits-store"):
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r})"

    def save(self, graph: AttributionGraph, assay: Assay | None = None, name: str | None = None) -> str:
        """Store a graph, with its scores; returns its id: words of the name or prompt, and six digits of a hash.

        The hash is of the graph itself (nodes, edges, goal, tokens), so the same graph under the same name has the same
        id, and takes the place of the one that was there with all that was attached to it.

        Everything is written into a folder beside the final one and renamed at the end: an interrupted save leaves
        nothing behind, and what a killed one leaves is put right when the store is used next.

        Raises:
            CannotWrite: no permission, no space, or the store's folder is none.
        """
        from graphs.scores import scores

        content = content_of(graph)
        prompt = prompt_of(graph)
        id = f"{_slug(name or prompt) or 'graph'}-{content[:6]}"
        record = {
            "format": FORMAT,
            "version": VERSION,
            "id": id,
            "saved": datetime.now(UTC).isoformat(timespec="microseconds"),
            "prompt": prompt,
            "tokens": list(graph.tokens),
            "token_ids": list(graph.token_ids),
            "nodes": len(graph.nodes),
            "edges": len(graph.source),
            "targets": _targets(graph),
            "provenance": graph.provenance,
            "kept": graph.kept,
            "scores": scores(graph).to_json(),
            "assay": assay.to_json() if assay else None,
            "content": content,
        }
        final = self.folder / id
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            recover(self.folder)
            with staging(self.folder, SAVING) as place:
                new = place / "new"
                new.mkdir()
                tables = dict(zip(TABLES, (_node_table(graph), _edge_table(graph)), strict=True))
                record["files"] = {table: _write_table(new / table, tables[table]) for table in TABLES}
                _write_bytes(new / RECORD, to_json({**record, "seal": seal(strict(record))}))
                _sync_folder(new)
                land(new, final)
                _sync_folder(self.folder)
        except OSError as error:
            raise CannotWrite(
                f"the graph could not be stored in {self.folder}: {error.strerror or error}. "
                "Choose another folder with --store, or free some space."
            ) from error
        return id

    def find(self, graph: str | Path) -> Path:
        """The folder of a graph.

        graph: an id, the beginning of one, or the path of a graph's folder.

        Raises:
            UnknownGraph: there is none of that name, or more than one begins so.
            UnknownStore: the store is a file, or may not be read.
        """
        if isinstance(graph, Path):
            record = graph / RECORD
            if not record.is_file() and not any(record.is_file() for _ in _looks(graph.parent)):
                raise UnknownGraph(f"{graph} is no graph's folder: there is no {RECORD} in it.")
            return graph
        known = self._ids()
        if graph in known:
            return self.folder / graph
        found = [id for id in known if graph and id.startswith(graph)]
        if len(found) == 1:
            return self.folder / found[0]
        if found:
            raise UnknownGraph(f"{len(found)} graphs begin with {graph!r}: {', '.join(found)}. Give more of the id.")
        if not known:
            raise UnknownGraph(f"no graph {graph!r}: the store {self.folder} is empty. Trace a prompt first.")
        some = ", ".join(known[:5]) + (", …" if len(known) > 5 else "")
        raise UnknownGraph(f"no graph in {self.folder} begins with {graph!r}. There are: {some}")

    def load(self, graph: str | Path) -> AttributionGraph:
        """The graph as it was saved, to the last bit.

        Raises:
            UnknownGraph: see `find`.
            ForeignFolder: a file is missing or damaged, does not belong to the others, or is of a later version.
        """
        return self._read(graph, _read_graph)

    def record(self, graph: str | Path) -> dict[str, Any]:
        """What graph.json says: prompt, tokens, provenance, kept, scores; see `save`. And the assay that is current.

        Raises as `load` does.
        """
        return strict(self._read(graph, read_sheet).plain)

    def assay(self, graph: str | Path) -> Assay | None:
        """The assay of a graph: the one attached later as assay.json, else the one it was saved with, else none."""
        return self._read(graph, read_sheet).assay

    def keep_assay(self, graph: str | Path, assay: Assay) -> Path:
        """Put a later assay beside a graph, as assay.json; from now on it is the graph's assay. Raises as `attach`."""
        return self.attach(graph, ASSAY, to_json(assay.to_json()))

    def list(self) -> list[Entry]:
        """All graphs of the store, latest first, then those that cannot be read. Of the tables only looks at the size.

        What it reads of many graphs it remembers in a file of the store, and reads again only of those that changed.

        Raises:
            UnknownStore: the store is a file, or may not be read.
        """
        columns = [field.name for field in fields(Entry) if field.name not in ("id", "folder", "problem")]
        known = recall(self.folder, columns)
        entries, marks, anew = [], {}, 0
        for id in self._ids():
            folder = self.folder / id
            marks[id] = stamp(folder, (RECORD, ASSAY, *TABLES))
            mark, said = known.get(id, (None, []))
            if mark == marks[id]:
                values: list[Any] = [tuple(each) if isinstance(each, list) else each for each in said]
                entries.append(Entry(id, folder, *values))
                continue
            anew += 1
            with suppress(UnknownGraph):  # removed meanwhile
                entries.append(self._entry(id, folder))
        if anew >= MANY:
            rows = {e.id: (marks[e.id], [getattr(e, name) for name in columns]) for e in entries if not e.problem}
            remember(self.folder, columns, rows)
        return sorted(entries, key=lambda entry: entry.saved, reverse=True)

    def attach(self, graph: str | Path, name: str, content: bytes | Callable[[Path], Any]) -> Path:
        """Put a file beside a graph: a picture, a page, an assay. Whole or absent; replaces one of that name.

        name: a plain file name, not one of the graph's own.
        content: the bytes, or a function that writes them to a path with the same suffix.

        Raises:
            UnknownGraph: see `find`.
            CannotWrite: the name is not plain, or the disk refuses.
        """
        folder = self.find(graph)
        if not name or Path(name).name != name or name.startswith(".") or name in (RECORD, *TABLES) or "\\" in name:
            raise CannotWrite(f"a file beside a graph needs a plain name of its own, found {name!r}.")
        # Beside the graph's folder, not in it: another process may put a new one in its place while we write.
        beside = folder.resolve().parent
        home = beside if os.access(beside, os.W_OK | os.X_OK) else folder
        try:
            recover(folder)
            with staging(home, ATTACHING) as place:
                unfinished = place / name
                if callable(content):
                    content(unfinished)
                    _sync_file(unfinished)
                else:
                    _write_bytes(unfinished, content)
                self._read(folder, lambda folder: os.replace(unfinished, folder / name))
        except CannotWrite:
            raise
        except OSError as error:
            raise CannotWrite(f"{folder / name} could not be written: {error.strerror or error}.") from error
        return folder / name

    def _read(self, graph: str | Path, read: Callable[[Path], Found]) -> Found:
        """What `read` makes of a graph's folder; once more when another process replaced the folder meanwhile."""
        for _ in range(TURNS):
            folder = self.find(graph)
            before = _identity(folder)
            try:
                return read(folder)
            except (ForeignFolder, FileNotFoundError):
                if before is not None and before == _identity(folder):
                    raise
        return read(folder)

    def _entry(self, id: str, folder: Path) -> Entry:
        try:
            return self._read(folder, _read_entry)
        except UnknownGraph:
            if not folder.exists():
                raise
            return Entry(id=id, folder=folder, problem=f"{folder / RECORD} is missing. {ADVICE}")
        except ForeignFolder as error:
            return Entry(id=id, folder=folder, problem=str(error))

    def _ids(self) -> list[str]:
        """The graphs' folder names, in order. Names that begin with a dot are saves under way."""
        found: set[str] = set()
        for names in _looks(self.folder):
            found |= {name for name in names if not name.startswith(".") and _is_graph(f"{self.folder}/{name}")}
        return sorted(found)


def prompt_of(graph: AttributionGraph) -> str:
    """The prompt as text: as it was given, where the provenance says so, else its tokens without the special ones.

    A prompt of special tokens only is told by them.
    """
    given = graph.provenance.get("prompt")
    if isinstance(given, str):
        return given
    words = [token for token in graph.tokens if not re.fullmatch(r"\s*<[^<>\s]+>\s*", token)] or graph.tokens
    spaced = any(token[:1].isspace() for token in words)
    return ("" if spaced else " ").join(words).strip()


def _slug(text: str) -> str:
    """The first words of a text, in letters that any file system takes."""
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", text).strip("-")
    return words if len(words) <= 60 else words[:61].rpartition("-")[0] or words[:60]


def content_of(graph: AttributionGraph) -> str:
    """A hash of everything that makes the graph this graph; not of how or when it was made."""
    digest = hashlib.sha256()
    digest.update(json.dumps([graph.tokens, graph.token_ids, graph.nodes.label.tolist()]).encode())
    columns = [getattr(graph.nodes, field.name) for field in fields(graph.nodes) if field.name != "label"]
    for column in (*columns, graph.source, graph.target, graph.weight, graph.goal):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _targets(graph: AttributionGraph) -> list[str]:
    """The labels of what the graph explains, foremost first."""
    rows = graph.nodes.where("logit")
    return [str(graph.nodes.label[row]) for row in rows[np.argsort(-graph.goal[rows], kind="stable")]]


def _is_graph(folder: str) -> bool:
    """Whether a folder is a graph's, a damaged one's too."""
    return any(os.path.exists(f"{folder}/{file}") for file in (RECORD, *TABLES))


def _looks(folder: Path) -> Iterator[list[str]]:
    """The names in a store, again and again while somebody saves there: a graph being replaced is away for a moment."""
    for _ in range(LOOKS):
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise UnknownStore(
                f"{folder} is no store: {error.strerror}. It should be a folder of graphs: name one with --store."
            ) from error
        yield names
        if not any(is_staged(name) for name in names):
            return
        recover(folder)


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another that takes its place; None when there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns


def _read_entry(folder: Path) -> Entry:
    sheet = read_sheet(folder)
    for table in TABLES:
        _check_size(folder / table, sheet.record["files"][table])
    record, made = sheet.record, sheet.record["provenance"]
    return Entry(
        id=folder.name,
        folder=folder,
        prompt=record["prompt"],
        saved=record["saved"],
        nodes=record["nodes"],
        edges=record["edges"],
        model=made.get("model", ""),
        transcoders=made.get("transcoders", ""),
        targets=tuple(record.get("targets", ())),
        verdicts=tuple(each.verdict for each in sheet.assay.verdicts) if sheet.assay else (),
    )


def _read_graph(folder: Path) -> AttributionGraph:
    from graphs.graph import AttributionGraph
    from graphs.nodes import Nodes

    record = read_sheet(folder).record
    nodes, edges = (_read_table(folder / table, record["files"][table]) for table in TABLES)
    try:
        graph = AttributionGraph(
            nodes=Nodes(**{field.name: nodes[field.name] for field in fields(Nodes)}),
            source=edges["source"],
            target=edges["target"],
            weight=edges["weight"],
            goal=nodes["goal"],
            token_ids=tuple(record["token_ids"]),
            tokens=tuple(record["tokens"]),
            provenance=record["provenance"],
            kept=record["kept"],
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ForeignFolder(f"{folder / RECORD} and the tables beside it do not fit: {error} {ADVICE}") from error
    _check_belongs(graph, record, folder / RECORD)
    return graph


def _check_belongs(graph: AttributionGraph, record: Record, path: Path) -> None:
    """What is said of the graph in its record must be what is in its tables."""
    against = record["provenance"].get("against")
    pairs = {
        "tokens, token_ids or content": (record["content"], content_of(graph)),
        "prompt": (record["prompt"], prompt_of(graph)),
        "nodes": (record["nodes"], len(graph.nodes)),
        "edges": (record["edges"], len(graph.source)),
        "targets": (record.get("targets", _targets(graph)), _targets(graph)),
        "provenance.against": (None if against is None else len(against) >= len(graph.nodes.where("logit")), True),
    }
    wrong = [name for name, (said, is_so) in pairs.items() if said is not None and said != is_so]
    if wrong:
        raise ForeignFolder(
            f"{path} does not belong to the tables beside it: {'; '.join(wrong)} changed after it was written. {ADVICE}"
        )


def _node_table(graph: AttributionGraph) -> pyarrow.Table:
    import pyarrow

    columns = {field.name: getattr(graph.nodes, field.name) for field in fields(graph.nodes)}
    texts = {name: pyarrow.array([str(each) for each in columns[name]]) for name in ("kind", "label")}
    return pyarrow.table({**columns, **texts, "goal": graph.goal})


def _edge_table(graph: AttributionGraph) -> pyarrow.Table:
    import pyarrow

    return pyarrow.table({"source": graph.source, "target": graph.target, "weight": graph.weight})


def _write_table(path: Path, table: pyarrow.Table) -> File:
    """Write a table; returns what `_read_table` checks it against."""
    from pyarrow import parquet

    parquet.write_table(table, path, compression="zstd")
    _sync_file(path)
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _read_table(path: Path, stated: File) -> dict[str, np.ndarray]:
    from pyarrow import ArrowException, parquet

    _check_size(path, stated)
    try:
        if _sha256(path) != stated["sha256"]:
            raise ForeignFolder(f"{path} is damaged: its checksum is not the one in {RECORD}. {ADVICE}")
        table = parquet.read_table(path, memory_map=False)
        return {column: table[column].to_numpy() for column in table.column_names}
    except (OSError, ArrowException) as error:
        raise ForeignFolder(f"{path} cannot be read: {error}. {ADVICE}") from error


def _check_size(path: Path, stated: File) -> None:
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise ForeignFolder(f"{path} is missing. {ADVICE}") from error
    except OSError as error:
        raise ForeignFolder(f"{path} cannot be read: {error.strerror}. {ADVICE}") from error
    if size != stated["bytes"]:
        raise ForeignFolder(f"{path} is damaged: it has {size:,} bytes, {RECORD} says {stated['bytes']:,}. {ADVICE}")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    _sync_file(path)


def _sync_file(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """A rename is on disk only when its folder is."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
