"""Graphs as JSON for Neuronpedia: what its schema and its page want, and ours to the last bit."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from graphs import export, influence, prune
from graphs.export.neuronpedia import default_scan, default_slug, opens_there, subgraph_of, to_neuronpedia
from graphs.identifiers import cumulative_shares, identify, pair, unpair
from graphs.importing import import_graph
from graphs.nodes import KINDS, OF_ATTENTION
from graphs.records import strict
from graphs.store import content_of
from tests.worlds import graph_of, graphs

SCHEMA = Path(__file__).parents[4] / "shared" / "graphs" / "graph_schema.json"
MADE = {"model": "/home/someone/my model", "transcoders": "/home/someone/my-set", "prompt": "dallas"}

#   token 0 --3--> feature 1 --(-1)--> logit 4 <--1-- error 2, bias 3
GRAPH = graph_of([(0, 1, 3), (1, 4, -1), (2, 4, 1), (3, 4, 1)], "token feature error bias logit", provenance=MADE)


def every_kind():
    """A token and a node of each other kind, an error of attention too, several of some in one place; two logits."""
    kinds = [
        "token",
        *(kind for kind in KINDS if kind not in ("token", "logit")),
        "error",
        "bias",
        "head",
        "logit",
        "logit",
    ]
    edges = [(at, len(kinds) - 2, 1.0 + at) for at in range(len(kinds) - 2)] + [(0, len(kinds) - 1, 1.0)]
    graph = graph_of(edges, kinds)
    units = graph.nodes.feature.copy()
    units[kinds.index("error")] = OF_ATTENTION
    units[-2:] = -1  # targets that are no tokens
    return replace(graph, nodes=graph.nodes.with_columns(feature=units, layer=np.minimum(graph.nodes.layer, 3)))


@pytest.mark.parametrize(
    "graph", [GRAPH, prune(GRAPH, nodes=1, edges=1), every_kind()], ids=["whole", "pruned", "kinds"]
)
def test_it_comes_back_to_the_last_bit(tmp_path, graph):
    found = import_graph(export(graph, tmp_path / "x.json"))

    assert content_of(found) == content_of(graph)
    assert strict(found.provenance) == strict(graph.provenance)
    assert strict(found.kept) == strict(graph.kept)


@given(graphs())
def test_any_graph_comes_back_and_no_two_nodes_share_an_id(tmp_path_factory, graph):
    found = import_graph(export(graph, tmp_path_factory.mktemp("any") / "x.json"))

    assert content_of(found) == content_of(graph)
    assert len(set(identify(graph.nodes))) == len(graph.nodes)


def test_ids_tell_nodes_apart_that_stand_in_one_place():
    graph = every_kind()
    ids = identify(graph.nodes)

    assert len(set(ids)) == len(ids)
    assert [id for id in ids if id.startswith("4_-1_0")] == ["4_-1_0", "4_-1_0-2"]


@pytest.mark.parametrize("graph", [GRAPH, every_kind()], ids=["small", "kinds"])
def test_it_is_what_the_page_reads(graph):
    record = json.loads(json.dumps(to_neuronpedia(graph)))
    nodes = {node["node_id"]: node for node in record["nodes"]}

    assert set(record) == {"metadata", "qParams", "nodes", "links", "circuit_assay"}
    assert re.fullmatch(r"[a-zA-Z0-9_.-]+", record["metadata"]["slug"] + record["metadata"]["scan"])
    for node in nodes.values():
        wanted = {"node_id": str, "layer": str, "ctx_idx": int, "feature_type": str, "jsNodeId": str, "clerp": str}
        assert all(type(node[name]) is kind for name, kind in wanted.items())
        assert node["feature"] is None or type(node["feature"]) is int
        assert 0 <= node["ctx_idx"] < len(record["metadata"]["prompt_tokens"])
        if node["feature_type"] == "logit":
            assert re.fullmatch(r'Output "[^"]*" \(p=[0-9.]+\)', node["clerp"])
            assert node["influence"] is None
        elif node["feature_type"] != "bias":
            assert 0 <= node["influence"] <= 1
    assert all({link["source"], link["target"]} <= nodes.keys() for link in record["links"])
    assert not any(node["feature_type"] == "bias" for node in nodes.values())
    assert len(record["links"]) + len(record["circuit_assay"]["links"]) == len(graph.source)


@pytest.mark.skipif(not SCHEMA.exists(), reason="the schema is not beside the checkout")
@pytest.mark.parametrize(
    "graph", [GRAPH, prune(GRAPH, nodes=1, edges=1), every_kind()], ids=["whole", "pruned", "kinds"]
)
def test_it_fits_the_schema(graph):
    schema = json.loads(SCHEMA.read_bytes())
    record = json.loads(json.dumps(to_neuronpedia(graph, groups={"x": [1]})))

    assert misfits(record, schema) == []
    assert misfits({**record, "links": [{}]}, schema) == ["/links/0: source", "/links/0: target", "/links/0: weight"]
    assert misfits({**record, "nodes": [{**record["nodes"][0], "layer": None}]}, schema) == ["/nodes/0/layer: type"]


TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


def misfits(value, schema, place=""):
    """Where a value is not what a JSON schema wants; of draft 07 as much as that schema uses."""
    kinds = schema.get("type", list(TYPES))
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if isinstance(value, bool) or not isinstance(value, tuple(t for kind in kinds for t in np.atleast_1d(TYPES[kind]))):
        return [f"{place}: type"]
    found = []
    if isinstance(value, dict):
        found += [f"{place}: {name}" for name in schema.get("required", ()) if name not in value]
        for name, each in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
            found += misfits(each, inner, f"{place}/{name}") if inner else []
    if isinstance(value, list):
        for number, each in enumerate(value):
            found += misfits(each, schema["items"], f"{place}/{number}") if "items" in schema else []
    return found


def test_influence_is_the_share_of_all_that_are_at_least_as_strong():
    #   token 0 --3--> feature 1 --3--> logit 3 <--1-- error 2
    whole = graph_of([(0, 1, 3), (1, 3, 3), (2, 3, 1)], "token feature error logit")
    share = {node["feature_type"]: node["influence"] for node in to_neuronpedia(whole)["nodes"]}

    carried = influence(whole)
    assert carried.tolist() == [0.75, 0.75, 0.25, 0.0]
    assert share["mlp reconstruction error"] == 1.0
    assert sorted([share["embedding"], share["cross layer transcoder"]]) == pytest.approx([0.75 / 1.75, 1.5 / 1.75])

    # What was pruned is in the whole: the error's share is not given to the others.
    small = prune(whole, nodes=0.8, edges=1)
    assert "error" not in small.nodes.kind
    kept = [node["influence"] for node in to_neuronpedia(small)["nodes"] if node["influence"] is not None]
    assert sorted(kept) == pytest.approx([0.75 / 1.75, 1.5 / 1.75])


def test_cumulative_shares_leave_out_what_has_none():
    assert np.allclose(cumulative_shares([1.0, float("nan"), 3.0, 0.0], 8.0), [0.5, np.nan, 0.375, 0.5], equal_nan=True)
    assert cumulative_shares([0.0], 0.0) == [1.0]


@pytest.mark.parametrize(("layer", "unit"), [(0, 0), (0, 9), (25, 98_303), (3, 2**31), (47, 10**9), (2**40, 2**40)])
def test_a_pair_of_numbers_is_one_number_and_back(layer, unit):
    assert unpair(pair(layer, unit)) == (layer, unit)


def test_the_number_of_a_unit_survives_where_floats_do_not(tmp_path):
    graph = replace(GRAPH, nodes=GRAPH.nodes.with_columns(feature=np.array([7, 2**40 + 1, -1, -1, 3])))
    record = json.loads(export(graph, tmp_path / "x.json").read_bytes())
    node = next(each for each in record["nodes"] if each["feature_type"] == "cross layer transcoder")
    assert node["feature"] > 2**53 and float(node["feature"]) != node["feature"]

    for each in record["nodes"]:  # as a program of floats writes it, without what is ours
        each["feature"] = int(float(each["feature"]))
        del each["circuit_assay"]
    del record["circuit_assay"]
    (tmp_path / "y.json").write_text(json.dumps(record))
    assert 2**40 + 1 in import_graph(tmp_path / "y.json").nodes.feature


def test_groups_are_supernodes_with_their_members_pinned(tmp_path):
    groups = {"texas": ["L1/1@0"], "both": [1, 2]}
    asked = json.loads(export(GRAPH, tmp_path / "x.json", groups=groups).read_bytes())["qParams"]

    assert asked["supernodes"] == [["texas", "1_1_0"], ["both", "1_1_0", "2_-1_0"]]
    assert asked["pinnedIds"] == ["1_1_0", "2_-1_0"]
    assert subgraph_of(GRAPH, groups, scan="m", slug="s", name="mine", overwrite="id") == {
        "modelId": "m",
        "slug": "s",
        "displayName": "mine",
        "pinnedIds": ["1_1_0", "2_-1_0"],
        "supernodes": [["texas", "1_1_0"], ["both", "1_1_0", "2_-1_0"]],
        "clerps": [["1_1_0", "feature 1"]],
        "pruningThreshold": None,
        "densityThreshold": None,
        "overwriteId": "id",
    }
    assert subgraph_of(prune(GRAPH, nodes=0.9), {}, scan="m", slug="s")["pruningThreshold"] == 0.9


def test_a_quotation_mark_in_a_token_does_not_end_it():
    quoting = replace(
        GRAPH, nodes=GRAPH.nodes.with_columns(label=np.array(["a", "b", "c", "d", 'say "x"'], dtype=object))
    )

    assert to_neuronpedia(quoting)["nodes"][-1]["clerp"] == 'Output "say ”x”" (p=1.000)'


def test_where_files_lie_is_told_to_nobody():
    record = to_neuronpedia(GRAPH)
    del record["circuit_assay"]

    assert default_scan(GRAPH) == record["metadata"]["scan"] == "my-model"
    assert record["metadata"]["info"]["transcoder_set"] == "my-set"
    assert "someone" not in json.dumps(record)
    assert record["metadata"]["slug"] == default_slug(GRAPH) == f"dallas-{content_of(GRAPH)[:6]}"
    named = to_neuronpedia(GRAPH, slug="s", scan="gemma-2-2b", source_set="set")["metadata"]
    assert (named["slug"], named["scan"]) == ("s", "gemma-2-2b")
    assert named["feature_details"] == {"neuronpedia_source_set": "set"}


def test_the_page_opens_no_graph_of_one_layer():
    flat = graph_of([(0, 1, 1), (1, 2, 1)], "token feature logit")

    assert opens_there(GRAPH)
    assert not opens_there(replace(flat, nodes=flat.nodes.with_columns(layer=np.array([-1, 0, 1], dtype=np.int32))))
