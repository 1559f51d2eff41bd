"""The folder of one graph, read: the graph, or what a listing tells of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.addresses import Place
from graphs.errors import ForeignFolder
from graphs.prompts import prompt_of
from graphs.records import ADVICE, RECORD, TABLES, Record, read_sheet, strict
from graphs.tables import as_arrays, check_size, read_table

if TYPE_CHECKING:
    from graphs.assays import Assay
    from graphs.graph import AttributionGraph

# What a listing, and a query of `graphs` and `verdicts`, want to know of a graph.
LINE = (
    *("prompt", "saved", "nodes", "edges", "model", "transcoders", "method"),
    *("targets", "kept", "scores", "verdicts", "claims", "files"),
)


def read_graph(folder: Place) -> AttributionGraph:
    """The graph in a folder.

    Raises:
        ForeignFolder: a file is missing or damaged, or does not belong to the others.
    """
    from graphs.graph import AttributionGraph
    from graphs.nodes import Nodes

    record = read_sheet(folder).record
    nodes, edges = (as_arrays(read_table(folder / table, record["files"][table])) for table in TABLES)
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


def read_line(folder: Place) -> dict[str, Any]:
    """What LINE names. Of the tables only looks at the size.

    Raises:
        ForeignFolder: as `read_graph`.
    """
    sheet = read_sheet(folder)
    for table in TABLES:
        check_size(folder / table, sheet.record["files"][table])
    return line_of(sheet.record, sheet.assay)


def line_of(record: Mapping[str, Any], assay: Assay | None) -> dict[str, Any]:
    """What LINE names, in its order, as plain JSON.

    verdicts: one word each. claims: all that is said of them, as JSON, each [claim, verdict, number, threshold,
    control]; text, for of many graphs it is seldom asked for. kept: the share of influence that pruning kept, None
    where nothing was pruned. targets: as they were asked for where no logit is among them. files: size and checksum of
    each table.
    """
    made, verdicts = record["provenance"], assay.verdicts if assay else ()
    return {
        **{name: record[name] for name in ("prompt", "saved", "nodes", "edges")},
        **{name: made.get(name, "") for name in ("model", "transcoders", "method")},
        "targets": list(record.get("targets", ())) or _asked_for(made),
        "kept": strict(record["kept"].get("influence")),
        "scores": strict(record["scores"]),
        "verdicts": [each.verdict for each in verdicts],
        "claims": json.dumps([strict([v.claim, v.verdict, v.number, v.threshold, v.control]) for v in verdicts]),
        "files": {table: dict(record["files"][table]) for table in TABLES},
    }


def _asked_for(made: Mapping[str, Any]) -> list[str]:
    """The targets that a trace was given as text, such as `L2/error@last`."""
    options = made.get("options")
    targets = options.get("targets") if isinstance(options, dict) else None
    return [each for each in targets if isinstance(each, str)] if isinstance(targets, list) else []


def _check_belongs(graph: AttributionGraph, record: Record, path: Place) -> None:
    """What is said of the graph in its record must be what is in its tables.

    Once, blanks were taken off targets, and a prompt of special tokens only was empty.
    """
    against, targets = record["provenance"].get("against"), targets_of(graph)
    pairs = {
        "tokens, token_ids or content": (record["content"], content_of(graph)),
        "prompt": (record["prompt"] or None, prompt_of(graph)),
        "nodes": (record["nodes"], len(graph.nodes)),
        "edges": (record["edges"], len(graph.source)),
        "targets": (_stripped(record.get("targets", targets)), _stripped(targets)),
        "provenance.against": (None if against is None else len(against) >= len(graph.nodes.where("logit")), True),
    }
    wrong = [name for name, (said, is_so) in pairs.items() if said is not None and said != is_so]
    if wrong:
        raise ForeignFolder(
            f"{path} does not belong to the tables beside it: {'; '.join(wrong)} changed after it was written. {ADVICE}"
        )


def _stripped(texts: Sequence[str]) -> list[str]:
    return [text.strip() for text in texts]


def content_of(graph: AttributionGraph) -> str:
    """A hash of everything that makes the graph this graph; not of how or when it was made."""
    digest = hashlib.sha256()
    digest.update(json.dumps([graph.tokens, graph.token_ids, graph.nodes.label.tolist()]).encode())
    columns = [getattr(graph.nodes, field.name) for field in fields(graph.nodes) if field.name != "label"]
    for column in (*columns, graph.source, graph.target, graph.weight, graph.goal):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def targets_of(graph: AttributionGraph) -> list[str]:
    """The labels of what the graph explains, foremost first."""
    rows = graph.nodes.where("logit")
    return [str(graph.nodes.label[row]) for row in rows[np.argsort(-graph.goal[rows], kind="stable")]]
