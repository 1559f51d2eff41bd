"""Graphs on disk: one folder each, whole or absent, readable by anything that reads Parquet and JSON."""

from __future__ import annotations

import os
import re
import unicodedata
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from graphs import catalog
from graphs.addresses import Address, Place, each_of, place_of
from graphs.assays import Assay
from graphs.errors import CannotWrite, ForeignFolder, UnknownGraph
from graphs.folders import LINE, content_of, line_of, read_graph, read_line, targets_of
from graphs.heads import HEADS, Heads, read_heads, to_record
from graphs.prompts import prompt_of
from graphs.records import ADVICE, ASSAY, FORMAT, RECORD, TABLES, VERSION, read_sheet, seal, strict, to_json
from graphs.shelves import (
    FILES,
    desk,
    holds,
    ids_in,
    kept_tables,
    land_file,
    land_graph,
    looks,
    names_in,
    read_all,
    stamp_of,
    stamps_in,
    write_bytes,
)
from graphs.staging import ATTACHING, SAVING, recover
from graphs.tables import edge_table, node_table, read_table, sync, write_table

if TYPE_CHECKING:
    import pyarrow

    from graphs.graph import AttributionGraph
    from graphs.index import Index

Found = TypeVar("Found")
TURNS = 20  # how often a graph is read again that another process replaced meanwhile
MANY = 100  # so many graphs are worth remembering: fewer are read at once
LONG = 500_000  # bytes of lines after which they are put into the catalog itself


@dataclass(frozen=True)
class Entry:
    """One line of `Store.list()`.

    id: the graph's name in the store. store: where that lies. prompt: as text. saved: when, ISO 8601, UTC.
    nodes, edges: how many it has. model, transcoders, method: their names, as in the graph's provenance.
    targets: the labels of the logits it explains, foremost first; without one, what was asked for.
    verdicts: those of its current assay, in order.
    problem: what is wrong with the folder, empty when it can be read; the other fields are then empty or 0.
    """

    id: str
    store: Place
    prompt: str = ""
    saved: str = ""
    nodes: int = 0
    edges: int = 0
    model: str = ""
    transcoders: str = ""
    method: str = ""
    targets: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    problem: str = ""

    @property
    def folder(self) -> Place:
        """Where the graph lies. Put together when it is asked for: of many graphs that takes a while."""
        return self.store / self.id


class Store:
    """A folder of graphs, each in a folder of its own: nodes.parquet, edges.parquet, graph.json, and what is attached.

    Methods take a graph's id, or the beginning of one where only one begins so. A `pathlib.Path` or `Address` is taken
    for the folder of a graph, wherever it lies; a string never is, so an id from elsewhere cannot point out of the
    store.

    Several processes may use one store. Of two that save the same graph, whichever is done last stays, and who reads
    meanwhile sees the one or the other, whole.

    folder: on this machine, or an address that fsspec knows: `s3://bucket/circuits`. Made when the first graph is
        saved.

    Raises:
        UnknownStore: nothing here knows such addresses.
    """

    def __init__(self, folder: str | Place = "circuits-store"):
        self.folder = place_of(folder)

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r})"

    def save(self, graph: AttributionGraph, assay: Assay | None = None, name: str | None = None) -> str:
        """Store a graph, with its scores; returns its id: words of the name or prompt, and six digits of a hash.

        The hash is of the graph itself (nodes, edges, goal, tokens), so the same graph under the same name has the same
        id, and takes the place of the one that was there with all that was attached to it.

        Everything is written into a folder beside the final one and renamed at the end: an interrupted save leaves
        nothing behind, and what a killed one leaves is put right when the store is used next. At an address the record
        is sent last, and what it is not with is no graph.

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
            "targets": targets_of(graph),
            "provenance": graph.provenance,
            "kept": graph.kept,
            "scores": scores(graph).to_json(),
            "assay": assay.to_json() if assay else None,
            "content": content,
        }
        try:
            if isinstance(self.folder, Path):
                self.folder.mkdir(parents=True, exist_ok=True)
                recover(self.folder)
            with desk(self.folder, SAVING) as place:
                new = place / "new"
                new.mkdir()
                files = kept_tables(self.folder / id, content)
                if files is None:
                    tables = dict(zip(TABLES, (node_table(graph), edge_table(graph)), strict=True))
                    files = {table: write_table(new / table, tables[table]) for table in TABLES}
                record = strict({**record, "files": files})
                write_bytes(new / RECORD, to_json({**record, "seal": seal(record)}))
                mark = stamp_of(new)  # renaming a folder changes none of its files
                land_graph(new, self.folder / id)
        except OSError as error:
            raise CannotWrite(
                f"the graph could not be stored in {self.folder}: {error.strerror or error}. "
                "Choose another folder with --store, or free some space."
            ) from error
        self._note(id, mark, line_of(record, assay))
        return id

    def find(self, graph: str | Place) -> Place:
        """The folder of a graph.

        graph: an id, the beginning of one, or the path of a graph's folder.

        Raises:
            UnknownGraph: there is none of that name, or more than one begins so.
            UnknownStore: the store is a file, or may not be read.
        """
        if not isinstance(graph, str):
            record = graph / RECORD
            if not record.is_file() and not any(record.is_file() for _ in looks(graph.parent)):
                raise UnknownGraph(f"{graph} is no graph's folder: there is no {RECORD} in it.")
            return graph
        if holds(self.folder, graph):
            return self.folder / graph
        known = ids_in(self.folder)
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

    def load(self, graph: str | Place) -> AttributionGraph:
        """The graph as it was saved, to the last bit.

        Raises:
            UnknownGraph: see `find`.
            ForeignFolder: a file is missing or damaged, does not belong to the others, or is of a later version.
        """
        return self._read(graph, read_graph)

    def record(self, graph: str | Place) -> dict[str, Any]:
        """What graph.json says: prompt, tokens, provenance, kept, scores; see `save`. And the assay that is current.

        Raises as `load` does.
        """
        return strict(self._read(graph, read_sheet).plain)

    def assay(self, graph: str | Place) -> Assay | None:
        """The assay of a graph: the one attached later as assay.json, else the one it was saved with, else none."""
        return self._read(graph, read_sheet).assay

    def keep_assay(self, graph: str | Place, assay: Assay) -> Place:
        """Put a later assay beside a graph, as assay.json; from now on it is the graph's assay. Raises as `attach`."""
        return self.attach(graph, ASSAY, to_json(assay.to_json()))

    def heads(self, graph: str | Place) -> Heads | None:
        """Through which attention heads a graph's edges came, where that was kept with it. Raises as `load` does."""
        return self._read(graph, lambda folder: read_heads(folder, read_sheet(folder).record))

    def heads_or_reason(self, graph: str | Place) -> Heads | str | None:
        """The same for a page, which is one without them too: where the file cannot be read, why.

        A page is sent to others, so the reason names no folder of this machine. Raises as `load` does, of graph.json.
        """
        folder = self.find(graph)
        record = self._read(folder, read_sheet).record
        try:
            return self._read(folder, lambda folder: read_heads(folder, record))
        except ForeignFolder as error:
            return str(error).replace(str(folder / HEADS), HEADS)

    def keep_heads(self, graph: str | Place, heads: Heads) -> Place:
        """Put that beside a graph, as heads.json. Raises as `attach` and `load` do."""
        folder = self.find(graph)
        content = self._read(folder, read_sheet).record["content"]
        return self.attach(folder, HEADS, to_json(to_record(heads, content)))

    def list(self) -> list[Entry]:
        """All graphs of the store, latest first, then those that cannot be read. Of the tables only looks at the size.

        What it reads of many graphs it remembers in a file of the store, and reads again only of those that changed.

        Raises:
            UnknownStore: the store is a file, or may not be read.
        """
        lines, problems = self.lines()
        entries = [
            Entry(
                id,
                self.folder,
                **{
                    name: line[name] for name in ("prompt", "saved", "nodes", "edges", "model", "transcoders", "method")
                },
                targets=tuple(line["targets"]),
                verdicts=tuple(line["verdicts"]),
            )
            for id, line in lines.items()
        ]
        entries += [Entry(id, self.folder, problem=problem) for id, problem in problems.items()]
        return sorted(entries, key=lambda entry: entry.saved, reverse=True)

    def lines(self) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        """id -> what LINE names (see `folders.read_line`); and id -> what is wrong, of graphs that cannot be read.

        Raises as `list` does.
        """
        known, since = catalog.recall(self.folder, LINE)
        marks = stamps_in(self.folder)
        lines, problems, read = {}, {}, 0
        for id, mark in marks.items():
            remembered, said = known.get(id, (None, []))
            if remembered == mark:
                lines[id] = dict(zip(LINE, said, strict=True))
        changed = [id for id in marks if id not in lines]
        for id, found in zip(changed, each_of(self.folder, self._line, changed), strict=True):
            if isinstance(found, str):
                problems[id] = found
            elif found is not None:
                lines[id], read = found, read + 1
        if changed:
            lines = {id: lines[id] for id in marks if id in lines}
        # From an address the record of even one graph takes a while.
        if read >= (1 if isinstance(self.folder, Address) else MANY) or since >= LONG:
            rows = {id: (marks[id], list(line.values())) for id, line in lines.items()}
            catalog.remember(self.folder, LINE, rows, since)
        return lines, problems

    def _line(self, id: str) -> dict[str, Any] | str | None:
        """What LINE names, or what is wrong with the graph; None where it is gone by now."""
        try:
            return self._read(self.folder / id, read_line)
        except UnknownGraph:
            if not any(holds(self.folder, id) for _ in looks(self.folder)):
                return None
            return f"{self.folder / id / RECORD} is missing. {ADVICE}"
        except ForeignFolder as error:
            return str(error)

    def query(self, sql: str, *, memory: float = 2e9) -> pyarrow.Table:
        """What SQL says of all graphs at once, with DuckDB: see `graphs.query` for the tables there are.

        memory: bytes that it may take.

        Raises:
            BadQuery: it is no single question, does not fit the tables, or needs more memory.
            UnknownStore: see `list`.
        """
        from graphs.query import opened

        with opened(self, memory=memory) as base:
            return base.ask(sql)

    def index(self, lines: Mapping[str, Mapping[str, Any]]) -> Index:
        """The nodes of the graphs that these lines are of, sorted by unit: see `graphs.index`."""
        from graphs.index import refresh

        stated = {id: line["files"][TABLES[0]] for id, line in lines.items()}
        marks = {id: file["sha256"] for id, file in stated.items()}
        return refresh(self.folder, marks, lambda id: read_table(self.folder / id / TABLES[0], stated[id]))

    def attach(self, graph: str | Place, name: str, content: bytes | Callable[[Path], Any]) -> Place:
        """Put a file beside a graph: a picture, a page, an assay. Whole or absent; replaces one of that name.

        name: a plain file name, not one of the graph's own.
        content: the bytes, or a function that writes them to a path with the same suffix.

        Raises:
            UnknownGraph: see `find`.
            CannotWrite: the name is not plain, or the disk refuses.
        """
        if not name or Path(name).name != name or name.startswith(".") or name in (RECORD, *TABLES) or "\\" in name:
            raise CannotWrite(f"a file beside a graph needs a plain name of its own, found {name!r}.")
        return self._put(self.find(graph), name, content)

    def add(self, graph: str | Place, kind: str, content: bytes, *, most: int) -> Place:
        """Put one more of a kind beside a graph, as a file of its own in the folder `kind`, named by the time.

        So of several who do it at once none takes the place of what another puts there.

        kind: a plain name. most: so many are kept, the latest. Raises as `attach`.
        """
        folder = self.find(graph)
        place = self._put(folder, f"{kind}/{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{uuid.uuid4().hex[:6]}.json", content)
        with suppress(OSError):
            for name in names_in(folder / kind)[:-most]:
                (folder / kind / name).unlink(missing_ok=True)
        return place

    def added(self, graph: str | Place, kind: str) -> list[bytes]:
        """What `add` put beside a graph, first to last.

        Raises:
            UnknownGraph: see `find`.
        """
        folder = self.find(graph) / kind
        return read_all(folder, names_in(folder))

    def stamp(self, graph: str | Place) -> catalog.Stamp:
        """What is another as soon as the graph, its assay or its heads are others. Raises as `find`."""
        return stamp_of(self.find(graph), (*FILES, HEADS))

    def _put(self, folder: Place, name: str, content: bytes | Callable[[Path], Any]) -> Place:
        """Write a file and land it beside a graph, or in a folder there."""
        home = folder
        if isinstance(folder, Path):
            # Beside the graph's folder, not in it: another process may put a new one in its place while we write.
            beside = folder.resolve().parent
            home = beside if os.access(beside, os.W_OK | os.X_OK) else folder
        try:
            if isinstance(folder, Path):
                recover(folder)
            with desk(home, ATTACHING) as place:
                unfinished = place / Path(name).name
                if callable(content):
                    content(unfinished)
                    sync(unfinished)
                else:
                    write_bytes(unfinished, content)
                self._read(folder, lambda folder: land_file(unfinished, folder / name, within=folder))
        except OSError as error:
            # A picture's writer tells of the file that it was given, which nobody knows.
            reason = error.__cause__ if isinstance(error, CannotWrite) else error
            if not isinstance(reason, OSError):
                raise
            raise CannotWrite(
                f"{folder / name} could not be written: {reason.strerror or reason}. "
                "The graph itself is stored, as it was. Free some space, or change the permissions."
            ) from error
        return folder / name

    def _read(self, graph: str | Place, read: Callable[[Place], Found]) -> Found:
        """What `read` makes of a graph's folder; once more when another process replaced the folder meanwhile."""
        for _ in range(TURNS):
            folder = self.find(graph)
            before = stamp_of(folder)
            try:
                return read(folder)
            except (ForeignFolder, FileNotFoundError):
                if any(before) and before == stamp_of(folder):
                    raise
        return read(folder)

    def _note(self, id: str, mark: catalog.Stamp, line: dict[str, Any]) -> None:
        """Let listings and queries know of a graph that was just saved, where there are many. It only helps them."""
        with suppress(OSError):
            if not isinstance(self.folder, Path) or len(os.listdir(self.folder)) < MANY:
                return
            if catalog.add(self.folder, LINE, id, mark, list(line.values())) >= LONG:
                self.index(self.lines()[0])


def _slug(text: str) -> str:
    """The first words of a text, in letters that any file system takes."""
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", text).strip("-")
    return words if len(words) <= 60 else words[:61].rpartition("-")[0] or words[:60]
