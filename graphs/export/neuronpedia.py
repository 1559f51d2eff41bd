"""The graph as JSON for Neuronpedia and circuit-tracer's page, and what is saved of groups there."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.folders import content_of
from graphs.graph import AttributionGraph
from graphs.identifiers import cumulative_shares, identify, pair
from graphs.naming import find_nodes
from graphs.nodes import OF_ATTENTION
from graphs.prompts import prompt_of
from graphs.records import seal, strict

if TYPE_CHECKING:
    from graphs.assays import Assay

VERSION = 1  # of what is ours in the file
TYPES = {
    "token": "embedding",
    "feature": "cross layer transcoder",  # per-layer ones are called so too
    "neuron": "cross layer transcoder",
    "attention": "lorsa",
    "error": "mlp reconstruction error",
    "unselected": "mlp reconstruction error",  # its scores know no other word for what is not explained
    "bias": "bias",
    "logit": "logit",
    "direction": "logit",
}
OTHER = "unknown"
WITHOUT_NUMBER = ("mlp reconstruction error", "bias")
UNITS = ("feature", "neuron", "attention")
ASIDE = ("bias",)  # its scores take every row but the last few for what can be an input: biases would be logits


def write_neuronpedia(
    graph: AttributionGraph,
    path: Path,
    *,
    assay: Assay | None = None,
    groups: Mapping[str, Sequence[int | str]] | None = None,
    slug: str | None = None,
    scan: str | None = None,
    source_set: str | None = None,
) -> None:
    """The graph as `to_neuronpedia` has it, in JSON."""
    record = to_neuronpedia(graph, groups=groups, slug=slug, scan=scan, source_set=source_set)
    path.write_text(json.dumps(record, ensure_ascii=False, allow_nan=False), encoding="utf-8")


def to_neuronpedia(
    graph: AttributionGraph,
    *,
    groups: Mapping[str, Sequence[int | str]] | None = None,
    slug: str | None = None,
    scan: str | None = None,
    source_set: str | None = None,
) -> dict[str, Any]:
    """The graph in the layout of `graph-schema.json`: metadata, qParams, nodes, links.

    `influence` is the cumulative share of a node's rank, small for what matters; of a pruned graph, with what was
    pruned counted in the whole. Ids are those of `graphs.identifiers`, which do not collide. Biases would upset the
    page's scores, so they stand aside with their links. All that the layout has no place for stands under
    `circuit_assay`, in every node and at the end: `graphs.importing` makes the same graph of it, to the last bit.

    The page refuses a graph whose units and errors all lie in layer 0: see `opens_there`.

    groups: name -> nodes, as `graphs.group` takes them: its supernodes, with their members pinned.
    slug: the graph's name there; by default words of its prompt, and six digits of a hash.
    scan: the model's name there; by default the one in the provenance.
    source_set: its name for the dictionary, where it has pages of its features.

    Raises:
        BadOption: a group names what is not there.

    Source: FORMATS 5.2.
    """
    ids = identify(graph.nodes)
    origin = _origin(graph)
    kinds = graph.nodes.kind.tolist()
    shares = _cumulative(graph, ids, origin)
    foremost = int(np.argmax(graph.goal)) if len(graph.goal) else -1
    nodes = [_node(graph, row, ids[row], share, row == foremost) for row, share in enumerate(shares)]
    aside = np.isin(graph.nodes.kind, ASIDE)
    links = [
        {"source": ids[source], "target": ids[target], "weight": weight}
        for source, target, weight in zip(
            graph.source.tolist(), graph.target.tolist(), graph.weight.tolist(), strict=True
        )
    ]
    from_aside = aside[graph.source].tolist()
    asked = dict(origin.get("qParams") or {})
    if groups is not None:
        asked |= _pins(graph, ids, groups)
    own = {
        "version": VERSION,
        "token_ids": list(graph.token_ids),
        "tokens": list(graph.tokens),
        "provenance": strict(graph.provenance),
        "kept": strict(graph.kept),
    }
    return {
        "metadata": _metadata(graph, origin, _threshold(graph, shares), slug, scan, source_set),
        "qParams": {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": "", **asked},
        "nodes": [node for node, kind in zip(nodes, kinds, strict=True) if kind not in ASIDE],
        "links": [link for link, away in zip(links, from_aside, strict=True) if not away],
        "circuit_assay": {
            **own,
            "seal": seal(own),
            "nodes": [node for node, kind in zip(nodes, kinds, strict=True) if kind in ASIDE],
            "links": [link for link, away in zip(links, from_aside, strict=True) if away],
        },
    }


def subgraph_of(
    graph: AttributionGraph,
    groups: Mapping[str, Sequence[int | str]],
    *,
    scan: str,
    slug: str,
    name: str = "",
    overwrite: str = "",
) -> dict[str, Any]:
    """What is posted to save groups of a graph that is there: pinned ids, supernodes, and what nodes are called.

    The page looks a label up not by id but by `layer_feature_position`, with the number that `feature` is in the file.

    groups: name -> nodes, as `graphs.group` takes them. scan, slug: the graph's, there.
    name: of the subgraph. overwrite: the id of one to be replaced.

    Raises:
        BadOption: a group names what is not there.

    Source: FORMATS 5.3.
    """
    ids = identify(graph.nodes)
    pins = _pins(graph, ids, groups)
    labels = {ids[row]: [_called(graph, row), _clerp(graph, row)] for row in graph.nodes.where(*UNITS).tolist()}
    return {
        "modelId": scan,
        "slug": slug,
        **({"displayName": name} if name else {}),
        "pinnedIds": pins["pinnedIds"],
        "supernodes": pins["supernodes"],
        "clerps": [labels[id] for id in pins["pinnedIds"] if id in labels and labels[id][1]],
        "pruningThreshold": graph.kept.get("nodes"),
        "densityThreshold": None,
        **({"overwriteId": overwrite} if overwrite else {}),
    }


def opens_there(graph: AttributionGraph) -> bool:
    """Whether the page draws the graph: it takes the highest layer of what is no logit for the depth, and wants one."""
    return bool((graph.nodes.layer[~np.isin(graph.nodes.kind, ("logit", "direction", *ASIDE))] > 0).any())


def default_slug(graph: AttributionGraph) -> str:
    """Letters, digits and `-`: words of the prompt, and six digits of a hash."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt_of(graph).lower()).strip("-")[:60].strip("-")
    return f"{words or 'graph'}-{content_of(graph)[:6]}"


def default_scan(graph: AttributionGraph) -> str:
    """The model's name, in the characters that are allowed there."""
    return re.sub(r"[^a-zA-Z0-9_.-]+", "-", _short(graph.provenance.get("model") or "")).strip("-") or "unknown"


def _short(name: Any) -> str:
    """A name; of a folder only the last part, for where it lies is nobody's business."""
    path = Path(str(name))
    return path.name if path.is_absolute() or str(name).startswith((".", "~")) else str(name)


def _origin(graph: AttributionGraph) -> Mapping[str, Any]:
    """What the file said that the graph was imported from, if it was one of these."""
    said = graph.provenance.get("imported")
    return said if isinstance(said, Mapping) and said.get("format") == "neuronpedia" else {}


def _threshold(graph: AttributionGraph, shares: Sequence[float]) -> float | None:
    """Up to which share the page shows nodes at first: what was asked of pruning, and the node that went across it."""
    if "nodes" not in graph.kept:
        return None
    hidden = np.array(shares)[~np.isin(graph.nodes.kind, ("token", "logit", "direction", *ASIDE))]
    return max([float(graph.kept["nodes"]), *hidden[hidden == hidden].tolist()])


def _metadata(
    graph: AttributionGraph,
    origin: Mapping[str, Any],
    threshold: float | None,
    slug: str | None,
    scan: str | None,
    source_set: str | None,
) -> dict[str, Any]:
    made = graph.provenance
    found: dict[str, Any] = {
        "slug": default_slug(graph),
        "scan": default_scan(graph),
        "transcoder_list": [],
        "prompt_tokens": list(graph.tokens),
        "prompt": prompt_of(graph),
        "schema_version": 1,
    }
    if origin:
        # What is null there would not pass the schema; and the numbers of units are Cantor's, whatever they were.
        known = {name: each for name, each in (origin.get("metadata") or {}).items() if each is not None}
        found |= {**known, "schema_version": 1}
    else:
        versions = made.get("versions")
        ours = versions.get("circuit-assay") if isinstance(versions, Mapping) else None
        dictionary = {"transcoder_set": _short(made["transcoders"])} if made.get("transcoders") else {}
        found["info"] = {
            "generator": {"name": "circuit-assay", **({"version": str(ours)} if ours else {})},
            **dictionary,
        }
    if "nodes" in graph.kept:
        pruned = {"node_threshold": graph.kept["nodes"], "edge_threshold": graph.kept["edges"]}
        found |= {"node_threshold": threshold, "pruning_settings": pruned}
    if source_set:  # once for the page, once for the server's list of graphs
        found["feature_details"] = {"neuronpedia_source_set": source_set}
        told = found.get("info")  # of a file of others it may be anything
        found["info"] = {**(told if isinstance(told, Mapping) else {}), "neuronpedia_source_set": source_set}
    found |= {name: each for name, each in (("slug", slug), ("scan", scan)) if each}
    return strict(found)


def _cumulative(graph: AttributionGraph, ids: Sequence[str], origin: Mapping[str, Any]) -> list[float]:
    """The cumulative share of each node, nan for logits and biases: as the file said it came from, else as known."""
    said = origin.get("influence")
    if isinstance(said, Mapping):
        return [float(said[id]) if said.get(id) is not None else math.nan for id in ids]
    known = graph.nodes.influence
    if not np.nan_to_num(known).any():
        from graphs.paths import influence

        known = influence(graph)
    whole = float(np.nansum(known)) / (float(graph.kept.get("influence", 1.0)) or 1.0)
    counts = ~np.isin(graph.nodes.kind, ("logit", "direction", *ASIDE))
    return cumulative_shares(np.where(counts, known, np.nan).tolist(), whole)


def _node(graph: AttributionGraph, row: int, id: str, share: float, foremost: bool) -> dict[str, Any]:
    nodes = graph.nodes
    kind, layer, unit, position = (
        getattr(nodes, name)[row].item() for name in ("kind", "layer", "feature", "position")
    )
    is_unit, is_logit = kind in UNITS, TYPES.get(kind) == "logit"
    scripts = {"token": f"E_{unit}-{position}", "error": f"{layer}_{position}-0"}
    script = f"L_{unit}-{position}" if is_logit else f"{layer}_{unit}-0" if is_unit else scripts.get(kind, id)
    attention_error = kind == "error" and unit == OF_ATTENTION
    return strict(
        {
            "node_id": id,
            "feature": _number(graph, row),
            "layer": "E" if layer < 0 else str(layer + is_logit),
            "ctx_idx": max(position, 0),  # what stands nowhere is shown at the first token
            "feature_type": "lorsa error" if attention_error else TYPES.get(kind, OTHER),
            "token_prob": float(graph.goal[row]) if is_logit else 0.0,
            "is_target_logit": is_logit and foremost,
            "run_idx": 0,
            "reverse_ctx_idx": 0,
            "jsNodeId": script,
            "clerp": _clerp(graph, row),
            "influence": share,
            "activation": nodes.activation[row] if is_unit else None,
            "circuit_assay": {
                "row": row,
                "kind": kind,
                "layer": layer,
                "position": position,
                "feature": unit,
                "activation": nodes.activation[row],
                "value": nodes.value[row],
                "gross": nodes.gross[row],
                "influence": nodes.influence[row],
                "goal": graph.goal[row],
                "label": str(nodes.label[row]),
            },
        }
    )


def _number(graph: AttributionGraph, row: int) -> int:
    """`feature`: with layer and position, what the page tells nodes apart by where it labels and lights them."""
    kind, layer, unit = graph.nodes.kind[row], int(graph.nodes.layer[row]), int(graph.nodes.feature[row])
    if kind == "token":
        return int(graph.nodes.position[row])
    if TYPES.get(kind) == "logit":
        return unit if unit >= 0 else -1 - row  # several targets that are no tokens
    return pair(layer, unit) if TYPES.get(kind, OTHER) not in WITHOUT_NUMBER and min(layer, unit) >= 0 else -1


def _called(graph: AttributionGraph, row: int) -> str:
    """What the page calls a unit where labels are kept."""
    return f"{graph.nodes.layer[row]}_{_number(graph, row)}_{max(int(graph.nodes.position[row]), 0)}"


def _clerp(graph: AttributionGraph, row: int) -> str:
    """What the page shows a node as. Of a logit it reads the probability, and stops at a quotation mark."""
    label, kind = str(graph.nodes.label[row]), graph.nodes.kind[row]
    if TYPES.get(kind) == "logit":
        quoted = label.replace('"', "\u201d").replace("(p=", "(p\u2009=")  # it reads what follows the first of them
        return f'Output "{quoted}" (p={graph.nodes.activation[row]:.3f})'
    if kind in ("token", "error") or (kind in UNITS and label == f"L{graph.nodes.unit(row)}"):
        return ""
    return label


def _pins(
    graph: AttributionGraph, ids: Sequence[str], groups: Mapping[str, Sequence[int | str]]
) -> dict[str, list[Any]]:
    chosen = {name: [ids[row] for row in find_nodes(graph, nodes)] for name, nodes in groups.items()}
    return {
        "pinnedIds": sorted({id for members in chosen.values() for id in members}),
        "supernodes": [[name, *members] for name, members in chosen.items() if members],
    }
