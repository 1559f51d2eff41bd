"""Graphs on disk: one folder each, whole or absent, readable by anything that reads Parquet and JSON."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.assays import Assay
from graphs.errors import BadGraph, CannotWrite, ForeignFolder, UnknownGraph

if TYPE_CHECKING:
    import pyarrow

    from graphs.graph import AttributionGraph

FORMAT = "circuit-assay graph"
VERSION = 1
RECORD = "graph.json"
TABLES = ("nodes.parquet", "edges.parquet")
ASSAY = "assay.json"
ADVICE = "Restore it from a copy, or trace the prompt again."

# What graph.json must hold, and of what type.
RECORDED = {
    "prompt": str,
    "saved": str,
    "tokens": list,
    "token_ids": list,
    "nodes": int,
    "edges": int,
    "provenance": dict,
    "kept": dict,
    "scores": dict,
    "assay": dict | None,
    "files": dict,
}


@dataclass(frozen=True)
class Entry:
    """One line of `Store.list()`.

    id: the graph's name in the store. folder: where it lies. prompt: as text. saved: when, ISO 8601, UTC.
    nodes, edges: how many it has. model: its name, as in the graph's provenance.
    problem: what is wrong with the folder, empty when it can be read; the other fields are then empty or 0.
    """

    id: str
    folder: Path
    prompt: str = ""
    saved: str = ""
    nodes: int = 0
    edges: int = 0
    model: str = ""
    problem: str = ""


class Store:
    """A folder of graphs, each in a folder of its own: nodes.parquet, edges.parquet, graph.json, and what is attached.

    Methods take a graph's id, or the beginning of one where only one begins so. A `pathlib.Path` is taken for the
    folder of a graph, wherever it lies; a string never is, so an id from elsewhere cannot point out of the store.

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
        nothing behind.

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
            "saved": datetime.now(UTC).isoformat(timespec="seconds"),
            "prompt": prompt,
            "tokens": list(graph.tokens),
            "token_ids": list(graph.token_ids),
            "nodes": len(graph.nodes),
            "edges": len(graph.source),
            "provenance": graph.provenance,
            "kept": graph.kept,
            "scores": scores(graph).to_json(),
            "assay": assay.to_json() if assay else None,
            "content": content,
        }
        final = self.folder / id
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".saving-", dir=self.folder, ignore_cleanup_errors=True) as place:
                new, old = Path(place, "new"), Path(place, "old")
                new.mkdir()
                tables = dict(zip(TABLES, (_node_table(graph), _edge_table(graph)), strict=True))
                record["files"] = {table: _write_table(new / table, tables[table]) for table in TABLES}
                _write_bytes(new / RECORD, _to_json(record))
                _sync_folder(new)
                _put_in_place(new, final, old)
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
        """
        if isinstance(graph, Path):
            if not (graph / RECORD).is_file():
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
            ForeignFolder: a file is missing or damaged, or was written by a later version.
        """
        from graphs.graph import AttributionGraph
        from graphs.nodes import Nodes

        folder = self.find(graph)
        record = _read_record(folder)
        nodes, edges = (_read_table(folder, table, record) for table in TABLES)
        try:
            return AttributionGraph(
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
        except (KeyError, TypeError, BadGraph) as error:
            raise ForeignFolder(f"{folder} holds parts that do not fit: {error} Trace the prompt again.") from error

    def record(self, graph: str | Path) -> dict[str, Any]:
        """What graph.json says: prompt, tokens, provenance, kept, scores, assay; see `save`. Raises as `load` does."""
        return _read_record(self.find(graph))

    def assay(self, graph: str | Path) -> Assay | None:
        """The assay of a graph: the one attached later as assay.json, else the one it was saved with, else none."""
        folder = self.find(graph)
        record = _read_record(folder)["assay"]
        if (folder / ASSAY).exists():
            record = _read_json(folder / ASSAY)
        if record is None:
            return None
        # JSON has no nan, so an assay's undefined numbers were stored as null; what was registered may hold real nulls.
        return Assay.from_json({key: each if key == "registration" else _revive(each) for key, each in record.items()})

    def keep_assay(self, graph: str | Path, assay: Assay) -> Path:
        """Put a later assay beside a graph, as assay.json; from now on it is the graph's assay. Raises as `attach`."""
        return self.attach(graph, ASSAY, _to_json(assay.to_json()))

    def list(self) -> list[Entry]:
        """All graphs of the store, latest first, then those that cannot be read. Reads only each graph.json."""
        entries = []
        for id in self._ids():
            folder = self.folder / id
            try:
                record = _read_record(folder)
                entries.append(
                    Entry(
                        id=id,
                        folder=folder,
                        prompt=record["prompt"],
                        saved=record["saved"],
                        nodes=record["nodes"],
                        edges=record["edges"],
                        model=str(record["provenance"].get("model", "")),
                    )
                )
            except ForeignFolder as error:
                entries.append(Entry(id=id, folder=folder, problem=str(error)))
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
        try:
            with tempfile.TemporaryDirectory(prefix=".attaching-", dir=folder, ignore_cleanup_errors=True) as place:
                unfinished = Path(place, name)
                if callable(content):
                    content(unfinished)
                    _sync_file(unfinished)
                else:
                    _write_bytes(unfinished, content)
                os.replace(unfinished, folder / name)
        except CannotWrite:
            raise
        except OSError as error:
            raise CannotWrite(f"{folder / name} could not be written: {error.strerror or error}.") from error
        return folder / name

    def _ids(self) -> list[str]:
        """The graphs' folder names, in order. Names that begin with a dot are saves under way."""
        try:
            found = [each for each in self.folder.iterdir() if not each.name.startswith(".") and each.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(each.name for each in found if any((each / file).exists() for file in (RECORD, *TABLES)))


def prompt_of(graph: AttributionGraph) -> str:
    """The prompt as text: as it was given, where the provenance says so, else its tokens without the special ones."""
    given = graph.provenance.get("prompt")
    if isinstance(given, str):
        return given
    words = [token for token in graph.tokens if not re.fullmatch(r"\s*<[^<>\s]+>\s*", token)]
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


def _node_table(graph: AttributionGraph) -> pyarrow.Table:
    import pyarrow

    columns = {field.name: getattr(graph.nodes, field.name) for field in fields(graph.nodes)}
    texts = {name: pyarrow.array([str(each) for each in columns[name]]) for name in ("kind", "label")}
    return pyarrow.table({**columns, **texts, "goal": graph.goal})


def _edge_table(graph: AttributionGraph) -> pyarrow.Table:
    import pyarrow

    return pyarrow.table({"source": graph.source, "target": graph.target, "weight": graph.weight})


def _write_table(path: Path, table: pyarrow.Table) -> dict[str, Any]:
    """Write a table; returns what `_read_table` checks it against."""
    from pyarrow import parquet

    parquet.write_table(table, path, compression="zstd")
    _sync_file(path)
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _read_table(folder: Path, name: str, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    from pyarrow import ArrowException, parquet

    path = folder / name
    try:
        stated = record["files"][name]
        if path.stat().st_size != stated["bytes"] or _sha256(path) != stated["sha256"]:
            raise ForeignFolder(f"{path} is damaged: its checksum is not the one in {RECORD}. {ADVICE}")
        table = parquet.read_table(path, memory_map=False)
        return {column: table[column].to_numpy() for column in table.column_names}
    except FileNotFoundError as error:
        raise ForeignFolder(f"{path} is missing. {ADVICE}") from error
    except (OSError, ArrowException, KeyError, TypeError) as error:
        raise ForeignFolder(f"{path} cannot be read: {error}. {ADVICE}") from error


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    record = _read_json(path)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ForeignFolder(f"{path} is no record of ours: it does not say format {FORMAT!r}. Give a graph's folder.")
    version = record.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise ForeignFolder(f"{path} has version {version}, this program reads up to {VERSION}: update circuit-assay.")
    damaged = [key for key, kind in RECORDED.items() if not isinstance(record.get(key), kind)]
    if damaged:
        raise ForeignFolder(f"{path} is damaged: {', '.join(damaged)} missing. Trace the prompt again.")
    return record


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ForeignFolder(f"{path} is missing: {path.parent} is no graph's folder, or a damaged one.") from error
    except (OSError, ValueError) as error:
        raise ForeignFolder(f"{path} cannot be read: {error}. {ADVICE}") from error


def _to_json(record: Any) -> bytes:
    return (json.dumps(_strict(record), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _strict(value: Any) -> Any:
    """The same in JSON's own values: null for what is no finite number, plain numbers for numpy's."""
    if isinstance(value, Mapping):
        return {str(key): _strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_strict(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _revive(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _revive(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_revive(each) for each in value]
    return math.nan if value is None else value


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    _sync_file(path)


def _sync_file(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _put_in_place(new: Path, final: Path, old: Path) -> None:
    """Rename `new` to `final`; what was there goes to `old`, and comes back if it does not work out."""
    try:
        if final.exists():
            final.rename(old)
        new.rename(final)
    except BaseException:
        if old.exists() and not final.exists():
            old.rename(final)
        raise


def _sync_folder(folder: Path) -> None:
    """A rename is on disk only when its folder is."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
