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
from graphs.folders import content_of
from graphs.identifiers import cumulative_shares, identify, pair, unpair
from graphs.importing import import_graph
from graphs.nodes import KINDS, OF_ATTENTION
from graphs.records import strict
from tests.graphs.foreign import page_graph, written
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
        "clerps": [["1_4_0", "feature 1"]],  # as the page looks them up: layer, the number in `feature`, position
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


def test_what_a_token_says_is_not_taken_for_its_probability():
    labels = np.array(["a", "b", "c", "d", "x (p=7) y"], dtype=object)
    clerp = to_neuronpedia(replace(GRAPH, nodes=GRAPH.nodes.with_columns(label=labels)))["nodes"][-1]["clerp"]

    assert clerp.split("(p=")[1].split(")")[0] == "1.000"  # as the page reads it


def test_the_page_tells_every_node_but_errors_apart_by_layer_number_and_position():
    # It labels and lights nodes by that; heads and MLPs of a layer, and targets that are no tokens, were one to it.
    record = to_neuronpedia(every_kind())
    named = [
        (node["layer"], node["feature"], node["ctx_idx"])
        for node in record["nodes"]
        if "error" not in node["feature_type"]
    ]

    assert len(set(named)) == len(named)
    codes = {node["node_id"]: node["feature"] for node in record["nodes"]}
    assert codes["3_head_7_0"] == pair(3, 7)


def test_every_node_that_pruning_kept_is_shown_at_first():
    # Pruning keeps the node that goes across the share that is asked for; the page shows what is at most the share.
    #   token 0 --3--> feature 1 --3--> logit 5 <--2-- feature 2, <--1-- feature 3, <--0.1-- error 4
    edges = [(0, 1, 3), (0, 2, 1), (0, 3, 1), (1, 5, 3), (2, 5, 2), (3, 5, 1), (4, 5, 0.1)]
    small = prune(graph_of(edges, "token feature feature feature error logit"), nodes=0.85, edges=1)
    record = to_neuronpedia(small)
    shares = [node["influence"] for node in record["nodes"] if node["feature_type"] == "cross layer transcoder"]

    assert max(shares) > 0.85
    assert record["metadata"]["node_threshold"] == max(shares)
    assert record["metadata"]["pruning_settings"]["node_threshold"] == 0.85


def test_what_others_left_null_or_numbered_otherwise_is_written_as_the_schema_wants(tmp_path):
    theirs = page_graph()
    theirs["metadata"] |= {"node_threshold": None, "schema_version": 0, "title_prefix": None}
    theirs["nodes"][1]["feature"] = 100_007  # of before: digits of the layer, then five of the unit
    theirs["nodes"][1]["node_id"] = "somebody"
    for link in theirs["links"]:
        link.update({end: "somebody" for end in ("source", "target") if link[end] == "1_7_1"})
    meta = to_neuronpedia(import_graph(written(tmp_path / "x.json", theirs)))["metadata"]

    assert meta["schema_version"] == 1  # what is written are Cantor's numbers
    assert "node_threshold" not in meta and "title_prefix" not in meta
    assert meta["info"] == theirs["metadata"]["info"] and meta["slug"] == "a-b"  # the rest is what it was


def test_what_a_server_gives_back_without_our_words_is_read_by_its_ids(tmp_path):
    record = json.loads(json.dumps(to_neuronpedia(every_kind())))
    del record["circuit_assay"]
    record["links"] = [link for link in record["links"] if link["source"] != "3_direction_10_0"]  # is a logit to it
    for node in record["nodes"]:
        del node["circuit_assay"]
    found = import_graph(written(tmp_path / "x.json", record))

    assert {"3_head_7_0", "3_mlp_8_0", "3_supernode_9_0", "3_head_13_0"} <= set(identify(found.nodes))
    assert found.nodes.feature[found.nodes.where("logit")].tolist() == [10, -1, -1]
    assert len(found.nodes) == len(record["nodes"])


def test_what_nobody_knows_is_a_source_that_explains_nothing(tmp_path):
    theirs = page_graph()
    theirs["nodes"][2] |= {"feature_type": "unknown", "feature": None, "node_id": "1_unknown_blocks_1_x_0"}
    theirs["links"] = [link for link in theirs["links"] if "1_90_0" not in link.values()]
    theirs["links"].append({"source": "1_unknown_blocks_1_x_0", "target": "3_11_1", "weight": 1.0})
    theirs["nodes"][6]["clerp"] = 'Logit " x" (p=0.600)'  # as another program of that server writes it
    found = import_graph(written(tmp_path / "x.json", theirs))

    assert len(found.nodes.where("unselected")) == 1
    assert " x" in found.nodes.label


def test_a_node_says_which_layer_position_and_activation_it_has():
    #   token 0 --1--> feature 1 --1--> logit 3 (p=0.6) and logit 4 (p=0.3);  error 2
    plain = graph_of([(0, 1, 1), (1, 3, 1), (1, 4, 1)], "token feature error logit logit", goal=[0, 0, 0, 0.3, 0.6])
    labels = np.array(["a", "L1/1", "error L2", "x", "y"], dtype=object)
    layers, activations = np.array([-1, 1, 2, 3, 3]), np.array([1, 2.5, 1, 0.3, 0.6])
    graph = replace(plain, nodes=plain.nodes.with_columns(label=labels, layer=layers, activation=activations))
    nodes = to_neuronpedia(graph, groups={"none": []})["nodes"]

    assert [node["layer"] for node in nodes] == ["E", "1", "2", "4", "4"]  # logits stand above an empty row
    assert [node["activation"] for node in nodes] == [None, 2.5, None, None, None]
    assert [node["token_prob"] for node in nodes] == [0, 0, 0, 0.3, 0.6]
    assert [node["is_target_logit"] for node in nodes] == [False, False, False, False, True]
    assert [node["clerp"] for node in nodes[:3]] == ["", "", ""]  # the page has words of its own
    assert to_neuronpedia(graph, groups={"none": []})["qParams"]["supernodes"] == []


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
    assert named["info"]["neuronpedia_source_set"] == "set" and named["info"]["generator"]["name"] == "circuit-assay"


def test_a_source_set_is_told_whatever_a_file_said_of_its_origin():
    said = {"format": "neuronpedia", "metadata": {"info": "by hand"}, "influence": {}}
    graph = replace(GRAPH, provenance={**GRAPH.provenance, "imported": said})

    assert to_neuronpedia(graph, source_set="set")["metadata"]["info"] == {"neuronpedia_source_set": "set"}


def test_the_page_opens_no_graph_of_one_layer():
    flat = graph_of([(0, 1, 1), (1, 2, 1)], "token feature logit")

    assert opens_there(GRAPH)
    assert not opens_there(replace(flat, nodes=flat.nodes.with_columns(layer=np.array([-1, 0, 1], dtype=np.int32))))
