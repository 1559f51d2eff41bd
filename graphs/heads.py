"""Through which attention heads a graph's edges came, as it is kept beside the graph: heads.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from graphs.addresses import Place
from graphs.errors import ForeignFolder
from graphs.reading import read
from graphs.records import Record, check_version, read_json, seal, strict

HEADS = "heads.json"
FORMAT = "circuit-assay heads"
VERSION = 1
ADVICE = "Remove it and run circuits heads on the graph again, or restore it from a copy."


@dataclass(frozen=True)
class Heads:
    """The heads that carried most of each edge, for as many edges as were split over heads.

    source, target: the edges that passed a head, by rows of the nodes. [edge]
    carried: for each the heads that carried most of it, largest first: (layer, head, load). The load is signed, in the
        units of the edge's weight. Each layer splits the whole weight anew: loads of different layers do not add up.
    split: how many edges were split, the strongest first; those that passed no head are counted too.
    of: how many could have been: all that come from no bias.
    """

    source: Sequence[int]
    target: Sequence[int]
    carried: Sequence[Sequence[tuple[int, int, float]]]
    split: int
    of: int

    def by_edge(self) -> dict[tuple[int, int], Sequence[tuple[int, int, float]]]:
        """(source, target) -> the heads that carried most of that edge."""
        return dict(zip(zip(self.source, self.target, strict=True), self.carried, strict=True))

    def among(self, rows: Sequence[int]) -> Heads:
        """The same for a part of the graph: its edges alone, by their rows there.

        rows: for each node of the part, its row in the whole.
        """
        there = {whole: part for part, whole in enumerate(rows)}
        kept = [
            (there[source], there[target], carried)
            for (source, target), carried in self.by_edge().items()
            if source in there and target in there
        ]
        source, target, carried = zip(*kept, strict=True) if kept else ((), (), ())
        return Heads(source, target, carried, self.split, self.of)


class _File(TypedDict):
    """heads.json. content: that of the graph it is of. layer, head, load: a list for each edge. seal: see `seal`."""

    content: str
    split: int
    of: int
    source: list[int]
    target: list[int]
    layer: list[list[int]]
    head: list[list[int]]
    load: list[list[float]]
    seal: str


def to_record(heads: Heads, content: str) -> dict[str, Any]:
    """What the file holds. content: the `content` of the graph's record."""
    layer, head, load = ([[each[i] for each in carried] for carried in heads.carried] for i in range(3))
    record = strict(
        {
            "format": FORMAT,
            "version": VERSION,
            "content": content,
            "split": heads.split,
            "of": heads.of,
            "source": heads.source,
            "target": heads.target,
            "layer": layer,
            "head": head,
            "load": load,
        }
    )
    return {**record, "seal": seal(record)}


def read_heads(folder: Place, record: Record) -> Heads | None:
    """The heads kept beside a graph; None where none are.

    record: the graph's own.

    Raises:
        ForeignFolder: the file is damaged, of another graph, or of a later version; the message names it.
    """
    path = folder / HEADS
    if not path.exists():
        return None
    plain = read_json(path)
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise ForeignFolder(f"{path} is damaged: it does not say format {FORMAT!r}. {ADVICE}")
    check_version(path, plain, VERSION)
    try:
        return _checked(plain, record)
    except ForeignFolder as error:
        raise ForeignFolder(f"{path} is damaged: {error} {ADVICE}") from error


def _checked(plain: Mapping[str, Any], record: Record) -> Heads:
    found = read(plain, _File)
    if found["seal"] != seal(plain):
        raise ForeignFolder("its checksum is not the one it states, so it was changed after it was written.")
    if found["content"] != record["content"]:
        raise ForeignFolder("it is of another graph than the one beside it.")
    lengths = {name: len(found[name]) for name in ("source", "target", "layer", "head", "load")}
    if len(set(lengths.values())) > 1:
        raise ForeignFolder(f"its columns should be of one length, found {lengths}.")
    for name in ("source", "target"):
        outside = [row for row in found[name] if not 0 <= row < record["nodes"]]
        if outside:
            raise ForeignFolder(f"{name} should be rows of {record['nodes']} nodes, found {outside[0]}.")
    if not lengths["source"] <= found["split"] <= found["of"] <= record["edges"]:
        counts = f"{lengths['source']}, {found['split']}, {found['of']} of {record['edges']}"
        raise ForeignFolder(f"edges listed, split and in all should be no fewer each time, found {counts}.")
    carried = []
    for layers, heads, loads in zip(found["layer"], found["head"], found["load"], strict=True):
        if not len(layers) == len(heads) == len(loads):
            raise ForeignFolder("layer, head and load of an edge should be as many.")
        if any(each < 0 for each in (*layers, *heads)) or not all(map(math.isfinite, loads)):
            raise ForeignFolder("layers and heads count from 0, and a load is a number; found something else.")
        carried.append(list(zip(layers, heads, loads, strict=True)))
    return Heads(found["source"], found["target"], carried, found["split"], found["of"])
