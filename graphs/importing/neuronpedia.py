"""Neuronpedia's and circuit-tracer's graphs in JSON, read as ours."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from graphs.errors import ForeignFile, ForeignFolder
from graphs.graph import AttributionGraph
from graphs.identifiers import identify, unpair
from graphs.importing.assembling import assemble, table_of
from graphs.importing.json_files import check_plain, load_json
from graphs.importing.saved_groups import as_lists
from graphs.nodes import OF_ATTENTION
from graphs.reading import read
from graphs.records import OF_A_METHOD, Kept, Provenance, seal, strict

OWN = "circuit_assay"
KINDS = {
    "embedding": "token",
    "cross layer transcoder": "feature",
    "unexplored node": "feature",
    "lorsa": "attention",
    "mlp reconstruction error": "error",
    "lorsa error": "error",
    "bias": "bias",
    "logit": "logit",
    "unknown": "unselected",  # a source that nobody explains; or a kind that only we have, and then its id says which
}
_OF_OURS = re.compile(r"(?:-1|[0-9]{1,9})_(head|mlp|supernode)_(-1|[0-9]{1,18})_(-1|[0-9]{1,9})(?:-[0-9]+)?")
_DIGITS = 5  # of a feature's number in graphs from before there was a schema_version, after those of its layer


class _Described(TypedDict):
    """`metadata`."""

    slug: str
    scan: str
    prompt_tokens: list[str]
    prompt: str


class _Metadata(_Described, total=False):
    """More of it that is looked at."""

    schema_version: int | None
    node_threshold: float | None


class _Ours(TypedDict):
    """What `graphs.export` says of a node besides."""

    row: int
    kind: str
    layer: int
    position: int
    feature: int
    activation: float
    value: float
    gross: float
    influence: float
    goal: float
    label: str


class _Named(TypedDict):
    """A node as any program must write it, for us to know which it is."""

    node_id: str
    layer: str | int
    ctx_idx: int
    feature_type: str


class _Node(_Named, total=False):
    """A node as it may be written."""

    feature: int | None
    clerp: str | None
    influence: float | None
    activation: float | None
    token_prob: float | None
    circuit_assay: _Ours


class _Own(TypedDict):
    """What `graphs.export` says at the end of the file."""

    version: int
    token_ids: list[int]
    tokens: list[str]
    provenance: Provenance
    kept: Mapping[str, Any]
    nodes: list[_Node]
    links: list[Any]


class _File(TypedDict):
    """The whole file."""

    metadata: _Metadata
    nodes: list[_Node]
    links: list[Any]


class _Graph(_File, total=False):
    """What may stand beside that."""

    qParams: Mapping[str, Any]
    circuit_assay: _Own


def read_neuronpedia(path: Path) -> AttributionGraph:
    """The graph of such a file. One that was written by `graphs.export` is what it was, to the last bit.

    Nodes are told apart by `feature_type`, units by `node_id`, and where that says nothing by `feature`. The goal is
    `token_prob`. What the file says of its origin, of pinned nodes and of each node's influence (the cumulative share,
    by id) is kept in `provenance["imported"]`, from where `graphs.export` writes it again.

    Raises:
        ForeignFile: it is no graph: the message says where and why.

    Source: FORMATS 5.2.
    """
    record = load_json(path)
    try:
        found: _Graph = read(record, _Graph)
        meta, own, asked = found["metadata"], found.get(OWN), as_lists(found.get("qParams") or {})
        check_plain({"metadata": meta, "qParams": asked, OWN: own and own["provenance"]})
        nodes = [*found["nodes"], *(own["nodes"] if own else ())]
        links = _links(nodes, [*found["links"], *(own["links"] if own else ())])
        if own is not None and all(OWN in node for node in nodes):
            return _restore(path, record[OWN], own, nodes, links)
        return _adopt(path, meta, asked, nodes, links)
    except ForeignFolder as error:
        raise ForeignFile(f"{path} is no graph of Neuronpedia's: {error}") from error


def _links(nodes: Sequence[_Node], links: Sequence[Any]) -> tuple[list[int], list[int], list[float]]:
    """Sources and targets as places among the nodes, and weights."""
    places, doubtful = _places(nodes)
    source, target, weight = [], [], []
    for number, link in enumerate(links):
        try:
            begin, end, size = link["source"], link["target"], link["weight"]
            source.append(places[begin])
            target.append(places[end])
        except (KeyError, TypeError):
            raise _misfit(number, link, places) from None
        if type(size) not in (int, float) or (type(size) is int and abs(size) > 2**1000):
            raise ForeignFolder(f"links[{number}].weight should be a number, found {size!r:.40}.")
        weight.append(size)
        if begin in doubtful or end in doubtful:
            raise ForeignFolder(
                f"links[{number}] joins {begin!r} and {end!r}, but two nodes are called "
                f"{begin if begin in doubtful else end!r}, an error and a unit of layer 0, as older writers have it: "
                "which is meant cannot be told. Make the file anew with a circuit-tracer of today."
            )
    return source, target, weight


def _misfit(number: int, link: Any, places: Mapping[str, int]) -> ForeignFolder:
    if not isinstance(link, Mapping):
        return ForeignFolder(f"links[{number}] should be an object, found {link!r:.40}.")
    for end in ("source", "target", "weight"):
        if end not in link:
            return ForeignFolder(f"links[{number}].{end} is missing.")
    end = next(e for e in ("source", "target") if not isinstance(link[e], str) or link[e] not in places)
    return ForeignFolder(f"links[{number}].{end} should be the id of a node, found {link[end]!r:.60}: there is none.")


def _places(nodes: Sequence[_Node]) -> tuple[dict[str, int], set[str]]:
    """Where each id stands; and those that an error and a unit share, which no link can use."""
    places: dict[str, int] = {}
    doubtful: set[str] = set()
    for place, node in enumerate(nodes):
        id = node["node_id"]
        if id in places:
            errors = [KINDS.get(nodes[each]["feature_type"]) == "error" for each in (places[id], place)]
            if errors[0] == errors[1] or id in doubtful:
                raise ForeignFolder(f"two nodes have the id {id!r:.60}.")
            doubtful.add(id)
        places[id] = place
    return places, doubtful


def _restore(
    path: Path, said: Mapping[str, Any], own: _Own, nodes: Sequence[_Node], links: tuple[list, list, list]
) -> AttributionGraph:
    """A graph that we wrote."""
    if said.get("seal") != seal({name: said[name] for name in said if name not in ("nodes", "links")}):
        raise ForeignFolder(
            f"{OWN}.seal is not the checksum of what {OWN} says, so it was changed after it was written."
        )
    made, kept = own["provenance"], own["kept"]
    missing = [name for name in OF_A_METHOD if name not in made] if "method" in made else []
    if missing:
        raise ForeignFolder(f"{OWN}.provenance.{missing[0]} is missing.")
    ours = [node["circuit_assay"] for node in nodes if "circuit_assay" in node]
    names = [name for name in _Ours.__annotations__ if name not in ("row", "goal")]
    return assemble(
        path,
        [node["node_id"] for node in nodes],
        {name: [each[name] for each in ours] for name in names},
        [each["goal"] for each in ours],
        links,
        order=sorted(range(len(ours)), key=lambda place: ours[place]["row"]),
        token_ids=tuple(own["token_ids"]),
        tokens=tuple(own["tokens"]),
        provenance=made,
        kept=read(kept, Kept, f"{OWN}.kept") if kept else {},
    )


def _adopt(
    path: Path, meta: _Metadata, asked: Mapping[str, Any], nodes: Sequence[_Node], links: tuple[list, list, list]
) -> AttributionGraph:
    """A graph that others wrote."""
    kinds = [_kind(number, node) for number, node in enumerate(nodes)]
    inner = [_layer(number, node) for number, node in enumerate(nodes) if kinds[number] not in ("token", "logit")]
    said = [_layer(number, node) for number, node in enumerate(nodes) if kinds[number] == "logit"]
    layers = max([max(inner, default=-1) + 1, *(layer - 1 for layer in said)])
    tokens, ids = meta["prompt_tokens"], [-1] * len(meta["prompt_tokens"])
    columns: dict[str, list[Any]] = {
        name: [] for name in ("kind", "layer", "position", "feature", "activation", "label")
    }
    goal = []
    for number, (node, kind) in enumerate(zip(nodes, kinds, strict=True)):
        position = node["ctx_idx"]
        if not 0 <= position < len(tokens):
            raise ForeignFolder(
                f"nodes[{number}].ctx_idx should be a place in the prompt of {len(tokens)} tokens, found {position}."
            )
        layer = {"token": -1, "logit": layers}.get(kind)
        layer = _layer(number, node) if layer is None else layer
        told = _told_by_id(node)
        unit = int(told[2]) if told else _unit(number, node, kind, layer, meta.get("schema_version"))
        chance = _chance(node) if kind == "logit" else 0.0
        if kind == "token":
            ids[position] = unit
        of_unit = node.get("activation") if kind in ("feature", "attention") else None
        columns["kind"].append(kind)
        columns["layer"].append(layer)
        columns["position"].append(-1 if told and told[3] == "-1" else position)
        columns["feature"].append(unit)
        columns["activation"].append(chance if kind == "logit" else 1.0 if of_unit is None else of_unit)
        columns["label"].append(_label(node, kind, layer, unit, tokens[position]))
        goal.append(chance)
    names = identify(table_of(columns))
    renamed = {node["node_id"]: name for node, name in zip(nodes, names, strict=True)}
    imported = {
        "format": "neuronpedia",
        "file": path.name,
        "metadata": strict(meta),
        "qParams": _rename(strict(asked), renamed),
        "influence": {
            name: share for name, node in zip(names, nodes, strict=True) if (share := node.get("influence")) is not None
        },
    }
    return assemble(
        path,
        [node["node_id"] for node in nodes],
        columns,
        goal,
        links,
        token_ids=tuple(ids),
        tokens=tuple(tokens),
        provenance={"model": meta["scan"], **_dictionary(meta), "imported": imported},
    )


def _kind(number: int, node: _Node) -> str:
    kind = KINDS.get(node["feature_type"])
    if kind is None:
        raise ForeignFolder(
            f"nodes[{number}].feature_type should be one of {', '.join(KINDS)}, found {node['feature_type']!r:.60}."
        )
    told = _told_by_id(node)
    return told[1] if told else kind


def _told_by_id(node: _Node) -> re.Match[str] | None:
    """Kind, unit and position of a node of ours that the page knows no type for."""
    return _OF_OURS.fullmatch(node["node_id"]) if node["feature_type"] == "unknown" else None


def _layer(number: int, node: _Node) -> int:
    layer = node["layer"]
    if layer == "E":
        return -1
    if isinstance(layer, str) and re.fullmatch(r"-1|[0-9]{1,9}", layer):
        return int(layer)
    if isinstance(layer, int) and -1 <= layer < 10**9:
        return layer
    raise ForeignFolder(f"nodes[{number}].layer should be a number or E, found {layer!r:.40}.")


def _unit(number: int, node: _Node, kind: str, layer: int, version: int | None) -> int:
    """Which unit of the model a node is: as its id says, for `feature` may have gone through a program of floats."""
    if kind in ("error", "bias", "unselected"):
        return OF_ATTENTION if node["feature_type"] == "lorsa error" else -1
    said, coded = re.split(r"_(?:lor_|cro_)?", node["node_id"]), node.get("feature")
    if len(said) == 3 and all(re.fullmatch(r"[0-9]{1,18}", each) for each in said[1:]):
        if said[2] == str(node["ctx_idx"]) and (kind in ("token", "logit") or said[0] == str(layer)):
            return int(said[1])
    if kind == "token" or (kind == "logit" and (coded is None or coded < 0)):  # a target may be no token
        return -1
    if coded is None or not 0 <= coded < 2**63:
        raise ForeignFolder(
            f"nodes[{number}] does not say which unit it is: {node['node_id']!r:.60} with {coded!r:.40}."
        )
    if kind == "logit":
        return coded
    if not version:
        return coded % 10**_DIGITS
    if unpair(coded)[0] != layer:
        raise ForeignFolder(
            f"nodes[{number}].feature should be a unit of layer {layer}, found {coded}, of layer {unpair(coded)[0]}."
        )
    return unpair(coded)[1]


def _chance(node: _Node) -> float:
    """The probability of a logit, from the text where it is nowhere else."""
    chance = node.get("token_prob")
    told = re.search(r"\(p=([0-9.]{1,20})\)", node.get("clerp") or "")
    try:
        chance = float(told[1]) if not chance and told else chance or 0.0
    except ValueError:
        chance = 0.0
    return 0.0 if math.isnan(chance) else chance


def _label(node: _Node, kind: str, layer: int, unit: int, token: str) -> str:
    said = node.get("clerp") or ""
    if kind == "token":
        return token
    if kind == "error":
        return f"{'attention ' if unit == OF_ATTENTION else ''}error L{layer}"
    if kind == "logit":
        quoted = re.fullmatch(r'(?:Output|Logit) "(.*)" \(p=.*\)', said, re.DOTALL)
        return quoted[1] if quoted else said or str(unit)
    return said or f"L{layer}/{'attn/' if kind == 'attention' else ''}{unit}"


def _dictionary(meta: Mapping[str, Any]) -> dict[str, str]:
    """What the file calls the dictionary."""
    for name, field in (("feature_details", "neuronpedia_source_set"), ("info", "transcoder_set")):
        said = meta.get(name)
        found = said.get(field) if isinstance(said, Mapping) else None
        if isinstance(found, str) and found:
            return {"transcoders": found}
    return {}


def _rename(value: Any, names: Mapping[str, str]) -> Any:
    """The same with ids as we have them."""
    if isinstance(value, list):
        return [_rename(each, names) for each in value]
    if isinstance(value, Mapping):
        return {key: _rename(each, names) for key, each in value.items()}
    return names.get(value, value) if isinstance(value, str) else value
