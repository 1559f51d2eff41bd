"""The pages that are served: one over the store, one for each graph, of which no more is sent than fits on screen."""

from __future__ import annotations

import gzip
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from html import escape
from importlib.resources import files
from threading import Lock
from typing import Any
from urllib.parse import quote

import numpy as np

from circuits.errors import WrongGraph
from circuits.serving.lab import names_in
from graphs.assays import ALIKE, Assay
from graphs.export.page import to_html
from graphs.export.page.parts import fill, in_every_theme, part, policy_for
from graphs.graph import AttributionGraph
from graphs.heads import Heads
from graphs.paths import edge_influence
from graphs.pruning import prune
from graphs.store import Entry, Store
from graphs.wording import visible

MOST_NODES, MOST_EDGES = 500, 6_000  # of a graph on one page
AROUND = 60  # inputs, and outputs, of a node that is looked at by itself
LINES = 500  # graphs on one page of the store
OTHERS = 60  # graphs named at once to compare one with
COLUMNS = ("prompt", "explains", "by", "size", "model", "assay", "saved, UTC", "id")
PAGES = 16  # kept as they were sent
PACKING = 4  # gzip's level: twice as quick as its usual one, and 3% larger
LONG = 200  # letters of a prompt in a list


class Pages:
    """The store's graphs as pages, the last ones kept for as long as their graphs are the same."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._kept: OrderedDict[tuple[str, int | None, str], bytes] = OrderedDict()
        self._lock = Lock()

    def page(self, id: str, around: int | None = None) -> bytes:
        """A graph's page, or that of what is around one node of it, as gzip: over a network it is megabytes otherwise.

        Nothing of a request stands in it, so its length gives nothing away.

        Raises as `Store.load` does; IndexError: there is no such node.
        """
        key = (id, around, str(self.store.stamp(id)))
        with suppress(KeyError):  # who wants one that is kept does not wait for one that is made
            self._kept.move_to_end(key)
            return self._kept[key]
        with self._lock:
            if key not in self._kept:
                self._kept[key] = gzip.compress(self._make(id, around).encode(), PACKING)
                while len(self._kept) > PAGES:
                    self._kept.popitem(last=False)
            return self._kept[key]

    def _make(self, id: str, around: int | None) -> str:
        graph, assay, heads = self.store.load(id), self.store.assay(id), self.store.heads_or_reason(id)
        small = part_around(graph, around) if around is not None else strongest_part(graph)
        served: dict[str, Any] = {"id": id, "rows": None, "whole": [len(graph.nodes), len(graph.source)]}
        try:
            names_in(graph)
        except WrongGraph as reason:
            served["silent"] = str(reason)
        if small is not graph:
            rows = rows_in(graph, small).tolist()
            served |= {"rows": rows, "around": around}
            heads = heads.among(rows) if isinstance(heads, Heads) else heads
            assay = None if assay is None else _of_part(assay, rows)
        return to_html(small, assay=assay, heads=heads, served=served)

    def find(self, id: str, words: str) -> list[dict[str, Any]]:
        """The nodes of a whole graph whose label has these words, most influential first."""
        nodes = self.store.load(id).nodes
        wanted = words.strip().lower()
        rows = [row for row, label in enumerate(nodes.label) if wanted in str(label).lower()] if wanted else []
        rows.sort(key=lambda row: -np.nan_to_num(nodes.influence[row]))
        return [
            {
                "node": row,
                "label": visible(str(nodes.label[row])),
                "kind": str(nodes.kind[row]),
                "layer": int(nodes.layer[row]),
                "position": int(nodes.position[row]),
                "influence": float(np.nan_to_num(nodes.influence[row])),
            }
            for row in rows[:AROUND]
        ]


def strongest_part(graph: AttributionGraph) -> AttributionGraph:
    """The graph, or of a large one the strongest nodes and edges: pruned, so that the scores count what is left out."""
    small = graph
    if len(small.nodes) > MOST_NODES:
        small = prune(small, nodes=1.0, edges=1.0, most_nodes=MOST_NODES)
    if len(small.source) > MOST_EDGES:
        carried = np.sort(edge_influence(small))[::-1].cumsum()
        share = carried[MOST_EDGES - 1] / carried[-1] if carried[-1] > 0 else 1.0
        small = prune(small, nodes=1.0, edges=float(np.clip(share, 1e-9, 1.0)))
    return small


def part_around(graph: AttributionGraph, row: int) -> AttributionGraph:
    """A node with its strongest inputs and outputs, and the edges among them all.

    Raises:
        IndexError: there is no such node.
    """
    if not 0 <= row < len(graph.nodes):
        raise IndexError(f"the graph has nodes 0 to {len(graph.nodes) - 1}, found {row}")
    size = np.abs(graph.weight)
    near = {row}
    for here, beyond in ((graph.target, graph.source), (graph.source, graph.target)):
        edges = np.flatnonzero(here == row)
        near.update(beyond[edges[np.argsort(-size[edges], kind="stable")][:AROUND]].tolist())
    always = np.flatnonzero((graph.goal != 0) | (graph.nodes.kind == "token"))
    small = graph.select(np.union1d(sorted(near), always))
    if len(small.source) > MOST_EDGES:
        strongest = np.zeros(len(small.source), dtype=bool)
        strongest[np.argsort(-np.abs(small.weight), kind="stable")[:MOST_EDGES]] = True
        small = small.select(np.arange(len(small.nodes)), strongest)
    return small


def rows_in(graph: AttributionGraph, small: AttributionGraph) -> np.ndarray:
    """For each node of a part of a graph, kept in order, its row in the whole. [node]"""
    names = ("kind", "layer", "position", "feature", "label")
    whole, part = (list(zip(*(getattr(each.nodes, n).tolist() for n in names), strict=True)) for each in (graph, small))
    rows, at = [], 0
    for wanted in part:
        while whole[at] != wanted:
            at += 1
        rows.append(at)
        at += 1
    return np.array(rows)


def _of_part(assay: Assay, rows: Sequence[int]) -> Assay:
    """An assay with what it says of single nodes and edges by their rows in a part of the graph; of others nothing.

    rows: for each node of the part, its row in the whole.
    """
    there = {whole: part for part, whole in enumerate(rows)}

    def within(name: str, *ends: str) -> list[Any]:
        found = []
        for record in getattr(assay, name):
            places = zip(*(getattr(record, end) for end in ends), strict=True)
            known = [at for at, each in enumerate(places) if all(row in there for row in each)]
            lists = {column: [getattr(record, column)[at] for at in known] for column in ALIKE[name]}
            lists |= {end: [there[row] for row in lists[end]] for end in ends}
            found += [replace(record, **lists)] if known or name == "groups" else []
        return found

    return replace(
        assay,
        **{
            name: [replace(each, node=there[each.node]) for each in getattr(assay, name) if each.node in there]
            for name in ("ablations", "doses")
        },
        edges=[
            replace(each, source=there[each.source], target=there[each.target])
            if each.source in there and each.target in there
            else replace(each, source=-1, target=-1)
            for each in assay.edges
        ],
        **{name: within(name, "node") for name in ("contributions", "steps", "groups")},
        between=within("between", "source", "target"),
    )


def listing(entries: list[Entry], words: str) -> str:
    """The page over the store: a line for each graph, those with `words` in what the line tells of it."""
    wanted = words.strip()
    found = [each for each in entries if _has(each, wanted)]
    shown = [_line(each) for each in found[:LINES]]
    count = f"{len(entries):,} graph{'s' * (len(entries) != 1)}"
    count = f"{len(found):,} of {count}" if wanted else count
    more = f"; the latest {LINES} are shown, say more of the words" if len(found) > LINES else ""
    script = ""
    none = "none with these words" if wanted else "none yet: circuits trace PROMPT makes one"
    return fill(
        (files("circuits.serving") / "store.html").read_text(encoding="utf-8"),
        {
            "policy": policy_for(script, served=True),
            "palette": in_every_theme([])[1],
            "style": part("page.css"),
            "words": escape(words),
            "count": escape(count + more),
            "columns": "".join(f'<th scope="col">{name}</th>' for name in COLUMNS) if shown else "",
            "lines": "\n".join(shown) or f'<tr><td class="quiet">{none}</td></tr>',
        },
    )


def comparable(entries: list[Entry], id: str, words: str) -> list[dict[str, Any]]:
    """The other graphs of the same model and transcoders, those with `words` in what is told of them, latest first."""
    one = next((each for each in entries if each.id == id), None)
    if one is None or one.problem:  # removed meanwhile, or damaged
        return []
    return [
        {
            "id": each.id,
            "prompt": _short(each.prompt),
            "targets": [visible(target) for target in each.targets],
            "saved": each.saved,
        }
        for each in entries
        if each.id != id
        and not each.problem
        and (each.model, each.transcoders) == (one.model, one.transcoders)
        and _has(each, words.strip())
    ][:OTHERS]


def _short(prompt: str) -> str:
    return prompt and visible(prompt if len(prompt) <= LONG else f"{prompt[:LONG]}…")


def _has(entry: Entry, words: str) -> bool:
    return words.lower() in " ".join((entry.id, entry.prompt, entry.model, entry.method, *entry.targets)).lower()


def _line(entry: Entry) -> str:
    if entry.problem:
        told = f"cannot be read: {entry.problem}"
        return (
            f'<tr><td class="failed">{escape(entry.id)}</td><td colspan="{len(COLUMNS) - 1}">{escape(told)}</td></tr>'
        )
    supported = sum(verdict == "supported" for verdict in entry.verdicts)
    cells = (
        f'<a href="/graphs/{quote(entry.id, safe="")}">{escape(_short(entry.prompt) or entry.id)}</a>',
        escape(", ".join(visible(target) for target in entry.targets)),
        escape(entry.method),
        f"{entry.nodes:,} nodes, {entry.edges:,} edges",
        escape(f"{entry.model} with {entry.transcoders}" if entry.transcoders else entry.model),
        f"{supported} of {len(entry.verdicts)} supported" if entry.verdicts else "no assay",
        escape(entry.saved[:16].replace("T", " ")),
        escape(entry.id),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
