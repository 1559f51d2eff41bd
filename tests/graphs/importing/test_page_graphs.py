"""Graphs of Neuronpedia's page as ours: what is what, round trips, and files that are none."""

from __future__ import annotations

import codecs
import gzip
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies

from graphs import Store, export, group, prune
from graphs.errors import ForeignFile, GraphError
from graphs.export.neuronpedia import subgraph_of
from graphs.folders import content_of
from graphs.graph import AttributionGraph
from graphs.grouping import find_groups
from graphs.importing import import_graph, json_files, neuronpedia
from graphs.importing.saved_groups import read_groups_saved_there, read_groups_within
from graphs.naming import name_of
from graphs.nodes import OF_ATTENTION
from tests.graphs.foreign import changed, page_graph, written

SHARED = Path(__file__).parents[4] / "shared" / "graphs"
REAL = sorted(SHARED.glob("*-2025*.json"))


@pytest.fixture
def graph(tmp_path):
    return import_graph(written(tmp_path / "x.json", page_graph()))


def test_every_node_and_link_is_where_it_was(graph):
    assert [name_of(graph, row) for row in range(8)] == [
        *("L-1/5@0", "L-1/6@1", "L0/1@1", "L1/90@0", "L1/-1@0", "L1/7@1", "L2/11@1", "L2/12@1")
    ]
    assert graph.nodes.kind.tolist() == [*["token"] * 2, "feature", "feature", "error", "feature", *["logit"] * 2]
    assert graph.nodes.label.tolist() == ["a", " b", "L0/1", "L1/90", "error L1", "sevens", " x", "y"]
    assert graph.goal.tolist() == [0, 0, 0, 0, 0, 0, 0.6, 0.3]
    assert graph.nodes.activation.tolist() == [1, 1, 2.5, 0.5, 1, 1.5, 0.6, 0.3]
    assert graph.to_dense()[5].tolist() == [0, -1, 3, 0, 0, 0, 0, 0]
    assert graph.nodes.gross.tolist() == [0, 0, 2, 0.125, 0, 4, 0.8125, 2]
    assert np.isnan(graph.nodes.value).all()
    assert (graph.tokens, graph.token_ids) == (("a", " b"), (5, 6))
    assert (graph.provenance["model"], graph.provenance["transcoders"]) == ("toy-2l", "some/set")


def test_what_comes_back_is_what_was_there_but_for_the_names_of_errors(graph, tmp_path):
    before, after = page_graph(), json.loads(export(graph, tmp_path / "y.json").read_bytes())

    renamed = {"0_1_0": "1_-1_0"}
    for node in before["nodes"]:
        node["node_id"] = renamed.get(node["node_id"], node["node_id"])
    found = {node.pop("node_id"): {**node, "circuit_assay": None} for node in after["nodes"]}
    assert found == {node.pop("node_id"): {**node, "circuit_assay": None} for node in before["nodes"]}
    ends = [(renamed.get(each["source"], each["source"]), each["target"], each["weight"]) for each in before["links"]]
    assert sorted(ends) == sorted((each["source"], each["target"], each["weight"]) for each in after["links"])
    assert after["metadata"] == before["metadata"]
    assert after["qParams"]["supernodes"] == [["seven", "1_7_1"], ["unknown", "1_-1_0"]]


def test_an_imported_graph_is_stored_pruned_and_written_again(graph, tmp_path):
    store = Store(tmp_path / "store")
    stored = store.load(store.save(graph))
    assert content_of(stored) == content_of(graph)

    small = prune(stored, nodes=0.5, edges=1)
    again = import_graph(export(small, tmp_path / "small.json"))
    assert content_of(again) == content_of(small)
    assert again.kept == small.kept
    written_again = json.loads((tmp_path / "small.json").read_bytes())["metadata"]
    assert written_again["node_threshold"] == 0.5
    assert written_again["info"] == {"creator_name": "someone", "transcoder_set": "some/set"}


def test_groups_saved_there_are_groups_here(graph, tmp_path):
    saved = written(
        tmp_path / "saved.json",
        {"pinnedIds": [], "supernodes": [["two", "0_1_1"], ["two", "1_7_1", "1_90_0"], ["e", "0_1_0"]]},
    )
    found = read_groups_saved_there(saved, graph)

    assert found == {"two": ["L0/1@1"], "two (2)": ["L1/7@1", "L1/90@0"], "e": ["L1/-1@0"]}
    assert "two (2)" in group(graph, {"two (2)": found["two (2)"]}).nodes.label
    assert read_groups_saved_there(written(tmp_path / "x.json", page_graph()), graph)["seven"] == ["L1/7@1"]
    saved_again = subgraph_of(graph, found, scan="toy-2l", slug="a-b")
    assert saved_again["supernodes"] == [["two", "0_1_1"], ["two (2)", "1_90_0", "1_7_1"], ["e", "1_-1_0"]]
    assert saved_again["clerps"] == [["1_43_1", "sevens"]]  # as the page looks them up: by the number in `feature`

    with pytest.raises(ForeignFile, match="no node 'nobody'"):
        read_groups_saved_there(written(saved, {"pinnedIds": [], "supernodes": [["a", "nobody"]]}), graph)
    with pytest.raises(ForeignFile, match="found nothing"):
        read_groups_saved_there(written(saved, {"pinnedIds": [], "supernodes": [[]]}), graph)
    with pytest.raises(ForeignFile, match="supernodes is missing"):
        read_groups_saved_there(written(saved, {"pinnedIds": []}), graph)


def test_of_the_groups_within_a_file_what_the_graph_has_not_is_left_out(graph, tmp_path):
    groups = [["some", "nobody", "1_7_1"], ["none", "nobody"], ["nameless"], [], ["e", "0_1_0"]]
    path = written(tmp_path / "x.json", {**page_graph(), "qParams": {"supernodes": groups}})

    assert read_groups_within(path, graph) == {"some": ["L1/7@1"], "e": ["L1/-1@0"]}
    assert read_groups_within(tmp_path / "x.pt", graph) == {}
    assert read_groups_within(written(path, {**page_graph(), "qParams": {}}), graph) == {}


def test_groups_are_read_as_circuit_tracers_page_saves_them(graph, tmp_path):
    # What its address says is put into the graph's file: texts in place of lists.
    told = {"pinnedIds": "1_7_1,0_1_0", "supernodes": '[["seven","1_7_1"],["e","0_1_0"]]', "clerps": "[]"}
    path = written(tmp_path / "x.json", {**page_graph(), "qParams": told})

    assert read_groups_saved_there(path, graph) == {"seven": ["L1/7@1"], "e": ["L1/-1@0"]}
    found = json.loads(export(import_graph(path), tmp_path / "y.json").read_bytes())["qParams"]
    assert found["pinnedIds"] == ["1_7_1", "1_-1_0"]
    assert found["supernodes"] == [["seven", "1_7_1"], ["e", "1_-1_0"]]
    for broken in ("[[", '{"a": 1}', "[" * 100_000):
        written(path, {**page_graph(), "qParams": {"supernodes": broken}})
        with pytest.raises(ForeignFile, match="supernodes should be a list"):
            read_groups_saved_there(path, graph)


def test_a_unit_is_read_from_its_number_where_its_name_says_nothing(tmp_path):
    record = changed("nodes", 1, "node_id", to="somebody")
    for link in record["links"]:
        link.update({end: "somebody" for end in ("source", "target") if link[end] == "1_7_1"})
    assert "L1/7@1" in names(import_graph(written(tmp_path / "x.json", record)))

    del record["metadata"]["schema_version"]  # of before: digits of the layer, then five of the unit
    record["nodes"][1]["feature"] = 100_007
    assert "L1/7@1" in names(import_graph(written(tmp_path / "x.json", record)))


def names(graph: AttributionGraph) -> list[str]:
    return [name_of(graph, row) for row in range(len(graph.nodes))]


def test_an_id_that_says_otherwise_than_layer_and_position_is_a_name_only(tmp_path):
    for name in ("9_8_1", "1_8_0"):  # of another layer, of another position: the unit is told by its number
        record = changed("nodes", 1, "node_id", to=name)
        for link in record["links"]:
            link.update({end: name for end in ("source", "target") if link[end] == "1_7_1"})
        assert "L1/7@1" in names(import_graph(written(tmp_path / "x.json", record)))

    record["nodes"][1]["feature"] = 42  # of layer 2, unit 6
    with pytest.raises(ForeignFile, match="a unit of layer 1, found 42, of layer 2"):
        import_graph(written(tmp_path / "x.json", record))


def test_logits_stand_above_the_last_layer_where_their_own_says_less(tmp_path):
    for said in ("2", "3", 3):  # the number of layers, or one above it
        record = page_graph()
        for node in record["nodes"][-2:]:
            node["layer"] = said
        found = import_graph(written(tmp_path / "x.json", record))
        assert found.nodes.layer[found.nodes.where("logit")].tolist() == [2, 2]


def test_an_activation_of_nothing_is_nothing_and_one_that_is_missing_is_one(tmp_path):
    record = changed("nodes", 0, "activation", to=0.0)
    record["nodes"][1]["activation"] = None
    found = import_graph(written(tmp_path / "x.json", record)).nodes

    assert found.activation[found.where("feature")].tolist() == [0.0, 0.5, 1.0]  # 0_1_1, 1_90_0, 1_7_1


def test_what_others_say_of_themselves_is_told(tmp_path):
    record = page_graph()
    record["metadata"]["feature_details"] = {"neuronpedia_source_set": "16k"}
    found = import_graph(written(tmp_path / "x.json", record)).provenance
    assert found["transcoders"] == "16k"
    assert found["imported"]["influence"]["1_-1_0"] == 0.8
    record["metadata"] |= {"feature_details": {"neuronpedia_source_set": 7}, "info": "none"}
    assert "transcoders" not in import_graph(written(tmp_path / "x.json", record)).provenance


def test_errors_of_attention_are_told_from_those_of_the_mlp(tmp_path):
    record = changed("nodes", 3, "feature_type", to="lorsa error")
    found = import_graph(written(tmp_path / "x.json", record)).nodes

    (row,) = found.where("error")
    assert found.feature[row] == OF_ATTENTION and found.label[row] == "attention error L1"
    assert list(found.kind).index("error") < list(found.layer).index(1) + 2  # before what replaces the MLP


def test_an_older_id_is_the_units_where_a_unit_has_it(tmp_path):
    record = {**page_graph(), "nodes": [*page_graph()["nodes"], COLLIDING]}
    record["links"] = [link for link in record["links"] if "0_1_0" not in link.values()]
    graph = import_graph(written(tmp_path / "x.json", record))
    saved = written(tmp_path / "saved.json", {"supernodes": [["unit", "0_1_0"]]})

    assert read_groups_saved_there(saved, graph) == {"unit": ["L0/1@0"]}


def test_a_probability_is_read_from_the_text_where_it_is_nowhere_else(tmp_path):
    record = changed("nodes", 6, "token_prob", to=0.0)

    assert import_graph(written(tmp_path / "x.json", record)).goal.max() == 0.6


def link(source, target):
    return {"source": source, "target": target, "weight": 1}


COLLIDING = {**page_graph()["nodes"][0], "node_id": "0_1_0", "feature": 2, "ctx_idx": 0, "jsNodeId": "0_1-0"}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({}, "links, metadata, nodes are missing"),
        (changed("nodes", to=[]), r"links\[0\]\.source should be the id of a node"),
        ({**page_graph(), "nodes": [], "links": []}, "it has no nodes"),
        (changed("nodes", to={}), "nodes should be a list"),
        (changed("nodes", 0, to=7), r"nodes\[0\] should be an object"),
        (changed("nodes", 0, "layer", to="one"), r"nodes\[0\]\.layer should be a number or E"),
        (changed("nodes", 0, "layer", to=True), r"nodes\[0\]\.layer should be a whole number"),
        (changed("nodes", 0, "ctx_idx", to=9), "a place in the prompt of 2 tokens, found 9"),
        (changed("nodes", 0, "ctx_idx", to=-1), "a place in the prompt of 2 tokens, found -1"),
        (changed("nodes", 0, "feature_type", to="thought"), "found 'thought'"),
        (changed("nodes", 0, "node_id", to="1_7_1"), "two nodes have the id '1_7_1'"),
        (changed("nodes", 0, "activation", to=math.inf), "Infinity is no number"),
        (changed("nodes", 0, "activation", to="1"), r"nodes\[0\]\.activation should be"),
        (changed("nodes", 0, "circuit_assay", to={}), r"nodes\[0\]\.circuit_assay\.activation"),
        (changed("links", 0, "weight", to=math.nan), "NaN is no number"),
        (changed("links", 0, "weight", to="heavy"), r"links\[0\]\.weight should be a number, found 'heavy'"),
        (changed("links", 0, "weight", to=None), r"links\[0\]\.weight should be a number"),
        (changed("links", 0, "weight", to=10**400), r"links\[0\]\.weight should be a number"),
        (changed("links", 0, "source", to="nobody"), r"links\[0\]\.source .* found 'nobody'"),
        (changed("links", 0, "source", to=["E_5_0"]), r"links\[0\]\.source .* there is none"),
        (changed("links", 0, to=[]), r"links\[0\] should be an object"),
        (changed("links", 0, to={"source": "E_5_0"}), r"links\[0\]\.target is missing"),
        (changed("links", 1, to=link("E_5_0", "0_1_1")), "'E_5_0' -> '0_1_1' is there twice"),
        (changed("links", 0, to=link("1_7_1", "0_1_1")), "a layer that is not above: a cycle"),
        (changed("links", 0, to=link("0_1_1", "0_1_1")), "a layer that is not above: a cycle"),
        (changed("links", 0, to=link("3_11_1", "E_5_0")), "a layer that is not above: a cycle"),
        (changed("links", 0, to=link("E_5_0", "0_1_0")), "from token 'E_5_0' to error '0_1_0': tokens, errors"),
        (changed("links", 0, to=link("3_11_1", "3_12_1")), "from logit '3_11_1' to logit '3_12_1'"),
        ({**page_graph(), "nodes": [*page_graph()["nodes"], COLLIDING]}, "two nodes are called '0_1_0', an error"),
        (
            {**page_graph(), "nodes": [*page_graph()["nodes"], COLLIDING], "links": [link("E_5_0", "0_1_0")]},
            "joins 'E_5_0' and '0_1_0', but two nodes are called '0_1_0'",
        ),
        ({**page_graph(), "nodes": [*page_graph()["nodes"], COLLIDING, COLLIDING]}, "two nodes have the id '0_1_0'"),
        (changed("metadata", "prompt_tokens", to="a b"), "prompt_tokens should be a list"),
        (changed("metadata", "prompt_tokens", to=["\ud800", "b"]), "prompt_tokens"),
        (changed("metadata", "info", to={"name": "\udfff"}), "half of a character"),
        (changed("metadata", "schema_version", to="2"), "schema_version should be"),
        (changed("qParams", to=[]), "qParams should be an object"),
        ([1, 2], "JSON with metadata, nodes and links is wanted"),
    ],
)  # fmt: skip
def test_what_is_no_graph_is_refused_by_file_and_place(tmp_path, record, said):
    path = written(tmp_path / "broken.json", record)

    with pytest.raises(ForeignFile, match=said) as refusal:
        import_graph(path)

    assert str(path) in str(refusal.value)
    assert len(str(refusal.value)) < 700


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe{}",
        b"{",
        b'{"metadata": \xff}',
        b"{" * 100_000,
        b'{"a":' + b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"metadata": {"a": ' + b'{"a": ' * 200 + b"1" + b"}" * 200 + b"}}",
    ],
)
def test_junk_is_refused(tmp_path, content):
    (tmp_path / "junk.json").write_bytes(content)

    with pytest.raises(ForeignFile, match=r"junk\.json"):
        import_graph(tmp_path / "junk.json")


@pytest.mark.parametrize("name", ["x.json", "x.json.gz", "x.JSON.GZ"])
def test_a_file_as_it_lies_on_the_server_or_with_a_mark_is_read(graph, tmp_path, name):
    content = json.dumps(page_graph()).encode()
    for as_it_lies in (gzip.compress(content), codecs.BOM_UTF8 + content):
        (tmp_path / name).write_bytes(as_it_lies)
        assert content_of(import_graph(tmp_path / name)) == content_of(graph)


@pytest.mark.parametrize("name", ["x.json", "x.json.gz", "x.JSON.GZ"])
def test_groups_are_read_of_a_compressed_file_too(graph, tmp_path, name):
    record = page_graph()
    record["qParams"] = {**record["qParams"], "supernodes": [["seven", "1_7_1"]]}
    content = json.dumps(record).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.lower().endswith("gz") else content)

    (row,) = find_groups(graph, read_groups_within(tmp_path / name, graph))["seven"]

    assert graph.nodes.unit(row) == "1/7" and graph.nodes.position[row] == 1


def test_a_compressed_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "MOST_BYTES", 2**20)
    for content, said in (
        (gzip.compress(b"{" + b" " * 2**24), "more than 1 MiB"),
        (gzip.compress(json.dumps(page_graph()).encode())[:-9], "no end"),
        (b"\x1f\x8b junk", "damaged"),
        (gzip.compress(b"[]"), "metadata, nodes and links is wanted"),
    ):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(ForeignFile, match=said):
            import_graph(tmp_path / "x.json")


def test_what_a_file_says_of_itself_is_not_endlessly_deep(tmp_path):
    deep: object = 1
    for _ in range(60):
        deep = [deep]

    with pytest.raises(ForeignFile, match="more than 40 levels"):
        import_graph(written(tmp_path / "x.json", changed("metadata", "info", to={"deep": deep})))


def test_a_file_of_200_megabytes_is_not_even_read(tmp_path, monkeypatch):
    path = tmp_path / "large.json"
    with open(path, "wb") as file:
        file.truncate(200 * 2**20)  # takes no room on the disk
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("it is read"))

    with pytest.raises(ForeignFile, match="has 200 MiB, 100 MiB are the most"):
        import_graph(path)


def test_what_would_swell_in_memory_is_not_taken_apart(tmp_path, monkeypatch):
    (tmp_path / "x.json").write_bytes(b'{"a": [' + b"{}," * 300_000 + b"{}]}")
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("it is taken apart"))

    with pytest.raises(ForeignFile, match="it has 600,003 values in 900,011 bytes"):
        import_graph(tmp_path / "x.json")


def test_a_suffix_that_nobody_reads_and_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ForeignFile, match=r"'x\.txt' ends in '\.txt'; graphs are read from \.json, \.json\.gz, \.pt"):
        import_graph(tmp_path / "x.txt")
    with pytest.raises(ForeignFile, match="No such file"):
        import_graph(tmp_path / "x.json")
    (tmp_path / "y.json").mkdir()
    with pytest.raises(ForeignFile, match="Is a directory"):
        import_graph(tmp_path / "y.json")


@pytest.mark.skipif(os.name != "posix", reason="there are no such files")
@pytest.mark.parametrize("name", ["x.json", "x.json.gz", "x.pt"])
def test_what_has_no_end_is_not_waited_for(tmp_path, name):
    (tmp_path / name).symlink_to(os.devnull)  # as it is with those, it has no size, and is no file

    with pytest.raises(ForeignFile, match="is a pipe or a device"):
        import_graph(tmp_path / name)


def test_what_we_say_besides_is_believed_only_with_its_checksum(graph, tmp_path):
    record = json.loads(export(graph, tmp_path / "y.json").read_bytes())
    record["circuit_assay"]["provenance"]["model"] = "another"

    with pytest.raises(ForeignFile, match="changed after it was written"):
        import_graph(written(tmp_path / "y.json", record))


def test_a_node_added_by_another_program_makes_the_file_a_strangers(graph, tmp_path):
    record = json.loads(export(graph, tmp_path / "y.json").read_bytes())
    del record["nodes"][-1]["circuit_assay"]
    found = import_graph(written(tmp_path / "y.json", record))

    assert names(found) == names(graph)
    assert "imported" in found.provenance


JSON = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | strategies.sampled_from(["E", "1", "0_1_1", "1_7_1", "", "\ud800", "-1", "logit", "embedding", "lorsa", "bias"])
    | strategies.text(max_size=5),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(max_size=5), inner),
    max_leaves=6,
)


def all_places(value, at=()):
    """The way to every value in a record."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from all_places(each, (*at, key))


PLACES = [at for at in all_places(page_graph()) if at]


@given(strategies.lists(strategies.tuples(strategies.sampled_from(PLACES), JSON), min_size=1, max_size=3))
@settings(max_examples=100)
@example([(("nodes", 0, "layer"), 2**40)])
@example([(("nodes", 0, "feature"), 2**70), (("nodes", 0, "node_id"), "x")])
@example([(("metadata", "prompt_tokens"), [])])
@example([(("nodes", 4, "node_id"), "E_999999999999999999_0"), (("links",), [])])
def test_whatever_is_changed_it_is_refused_by_name_or_a_graph_that_can_be_stored(tmp_path_factory, changes):
    record = page_graph()
    for place, value in changes:
        inner = record
        try:
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
        except (TypeError, KeyError, IndexError):
            continue
    folder = tmp_path_factory.mktemp("fuzz")
    path = written(folder / "x.json", record)
    try:
        found = import_graph(path)
    except ForeignFile as error:
        assert str(path) in str(error)
        return
    store = Store(folder / "store")
    assert content_of(store.load(store.save(found))) == content_of(found)
    assert content_of(import_graph(export(found, folder / "again.json"))) == content_of(found)


@given(strategies.binary(max_size=200) | strategies.text(max_size=100).map(lambda text: ("{" + text).encode()))
def test_no_bytes_are_more_than_a_refusal(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "x.json"
    path.write_bytes(content)

    with pytest.raises(GraphError):
        import_graph(path)


@pytest.mark.skipif(not REAL, reason="no real graphs beside the checkout")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem[:16])
def test_a_real_graph_survives_and_is_pruned_as_its_writer_prunes(path, tmp_path):
    graph = import_graph(path)
    record = json.loads(path.read_bytes())
    again = json.loads(export(graph, tmp_path / "again.json").read_bytes())
    theirs = {
        neuronpedia.KINDS[node["feature_type"]] + f" {node['layer']} {node['ctx_idx']} {node['feature']}": node
        for node in record["nodes"]
    }
    ours = {
        neuronpedia.KINDS[node["feature_type"]] + f" {node['layer']} {node['ctx_idx']} {node['feature']}": node
        for node in again["nodes"]
    }
    assert theirs.keys() == ours.keys()
    for name, node in theirs.items():
        for key in ("activation", "influence", "clerp", "jsNodeId", "token_prob"):
            assert ours[name][key] == node[key], (name, key)
    assert again["metadata"] == record["metadata"]
    assert content_of(import_graph(tmp_path / "again.json")) == content_of(graph)

    order, adjacency, goal = as_matrix(record)
    place = {node: row for row, node in enumerate(order)}
    rename = {node["node_id"]: name for name, node in theirs.items()}
    row_of = {name: node["circuit_assay"]["row"] for name, node in ours.items()}
    for share in (0.5, 0.8):
        kept = pruned_there(adjacency, goal, order, share, 0.98)
        small = prune(graph, nodes=share, edges=0.98, renormalise=True)
        rows = {
            tuple(small.nodes.__dict__[name][i] for name in ("kind", "layer", "position", "feature"))
            for i in range(len(small.nodes))
        }
        found = {node for node in order if key_of(graph, row_of[rename[node]]) in rows}
        assert found == {node for node in order if kept[place[node]]}


def key_of(graph, row):
    return tuple(getattr(graph.nodes, name)[row] for name in ("kind", "layer", "position", "feature"))


def as_matrix(record):
    """The links as circuit-tracer's matrix, rows are targets; its nodes in its order; the goal."""
    ranks = ("cross layer transcoder", "mlp reconstruction error", "embedding", "logit")
    nodes = sorted(record["nodes"], key=lambda node: ranks.index(node["feature_type"]))
    order = [node["node_id"] for node in nodes]
    place = {node: row for row, node in enumerate(order)}
    adjacency = np.zeros((len(order), len(order)))
    for link in record["links"]:
        adjacency[place[link["target"]], place[link["source"]]] = link["weight"]
    kinds = [node["feature_type"] for node in nodes]
    goal = np.array([node["token_prob"] for node in nodes])
    as_matrix.kinds = np.array(kinds)
    return order, adjacency, goal


def pruned_there(adjacency, goal, order, nodes, edges):
    """Which nodes circuit-tracer's prune_graph keeps, step by step in the dense matrix (METHODS 5.1)."""
    kinds = as_matrix.kinds
    always = np.isin(kinds, ("embedding", "logit"))

    def shares(matrix):
        return np.abs(matrix) / np.maximum(np.abs(matrix).sum(axis=1, keepdims=True), 1e-10)

    def carried(matrix):
        total, now = np.zeros(len(goal)), goal
        while (now := now @ matrix).any():
            total = total + now
        return total

    def threshold(values, share):
        ranked = np.sort(values.ravel())[::-1]
        at = np.searchsorted(np.cumsum(ranked) / ranked.sum(), share)
        return ranked[min(at, len(ranked) - 1)]

    influence = carried(shares(adjacency))
    stays = (influence >= threshold(influence, nodes)) | always
    left = np.where(np.outer(stays, stays), adjacency, 0)
    part = shares(left)
    scores = part * (carried(part) + goal)[:, None]
    edge = scores >= threshold(scores, edges)
    while True:
        now = stays & (always | edge.any(axis=0)) & ((kinds != "cross layer transcoder") | edge.any(axis=1))
        if (now == stays).all():
            return stays
        stays, edge = now, edge & np.outer(now, now)


@pytest.mark.skipif(not REAL, reason="no real graphs beside the checkout")
def test_the_saved_subgraph_is_of_its_graph():
    (path,) = (path for path in REAL if path.name.startswith("le-contraire"))
    graph = import_graph(path)
    saved = json.loads((SHARED / "subgraph_save_payload.json").read_bytes())
    found = read_groups_saved_there(SHARED / "subgraph_save_payload.json", graph)
    again = subgraph_of(graph, found, scan=saved["modelId"], slug=saved["slug"])

    assert [[name, *sorted(ids)] for name, *ids in again["supernodes"]] == [
        [name, *sorted(ids)] for name, *ids in saved["supernodes"]
    ]
