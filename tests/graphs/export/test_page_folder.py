"""The folder that circuit-tracer's page shows: what lies where, and what is known of features there and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from circuits.__main__ import main
from graphs import Store, draw
from graphs.errors import CannotWrite, ForeignFile
from graphs.export.neuronpedia import to_neuronpedia
from graphs.export.page_folder import write_page_folder
from graphs.export.page_folder.feature_details import feature_details
from graphs.identifiers import pair
from graphs.importing import import_graph
from tests.graphs.export.test_neuronpedia import misfits
from tests.graphs.foreign import page_graph, written
from tests.graphs.importing.test_page_graphs import JSON, all_places
from tests.worlds import graph_of

SCHEMA = Path(__file__).parents[4] / "shared" / "graphs" / "feature_details_schema.json"
NOTE = {
    "label": "texas",
    "fires_on": [" texas", "dallas"],
    "promotes": ["austin", "houston"],
    "suppresses": ["oakland"],
    "density": 0.125,
    "act_max": 4.0,
    "histogram": {"edges": [0.0, 4.0], "counts": [5, 3, 1]},
    "examples": [
        {"tokens": ["in", " texas", "!"], "activations": [0.0, 4.0, 0.5], "peak": 1},
        {"tokens": ["dallas"], "activations": [3.0], "peak": 0},
    ],
}


def noted(**made):
    #   token 0 --1--> feature 1 --1--> logit 4 <--1-- neuron 2, attention 3
    graph = graph_of([(0, 1, 1), (0, 2, 1), (1, 4, 1), (2, 4, 1), (3, 4, 1)], "token feature neuron attention logit")
    made = {"model": "toy", "transcoders": "set", "prompt": "dallas", "feature_notes": {"1/1": NOTE}, **made}
    return replace(graph, provenance=made)


@pytest.mark.parametrize(
    "note",
    [
        {"density": "often", "act_max": [1]},
        {"examples": ["a text", {"text": "a"}, {"tokens": ["a"], "activations": [1.0, 2.0]}], "promotes": "austin"},
        {"histogram": [1, 2], "suppresses": 3},
        {"histogram": {"edges": [0.0]}, "examples": {"tokens": []}},
    ],
)
def test_what_somebody_wrote_of_a_feature_otherwise_is_left_out(tmp_path, note):
    graph = noted(feature_notes={"1/1": note})

    assert feature_details(note, 1) == feature_details({}, 1)
    assert write_page_folder([graph], tmp_path)[0].exists()
    draw(graph, tmp_path / "x.svg")
    assert "active on more than" not in (tmp_path / "x.svg").read_text()


def test_an_example_without_its_place_is_strongest_where_it_is():
    note = {"examples": [{"tokens": ["in", " texas", "!"], "activations": [0.0, 4.0, 0.5]}]}

    assert feature_details(note, 1)["examples_quantiles"] == [
        {
            "quantile_name": "Top activations",
            "examples": feature_details(NOTE, 1)["examples_quantiles"][0]["examples"][:1],
        }
    ]


def test_graphs_a_list_of_them_and_their_features_lie_where_the_page_asks(tmp_path):
    (file,) = write_page_folder([noted()], tmp_path)

    meta = json.loads(file.read_bytes())["metadata"]
    assert file.stem == meta["slug"]
    assert json.loads((tmp_path / "graph-metadata.json").read_bytes()) == {"graphs": [meta]}
    # The page asks for `SCAN/NUMBER.json`, the scan being the layer's in the list where it begins with `custom-`.
    assert meta["scan"] == "custom-toy"
    for layer, unit in ((1, 1), (2, 2)):
        place = meta["transcoder_list"][layer].removeprefix("./data/")
        assert (tmp_path / place / f"{pair(layer, unit)}.json").exists()
    assert len(list((tmp_path / "features").rglob("*.json"))) == 2  # it shows none of attention's


def test_what_was_in_the_folder_stays_but_for_graphs_of_the_same_name(tmp_path):
    other = {"slug": "theirs", "scan": "x", "prompt_tokens": [], "prompt": ""}
    written(tmp_path / "graph-metadata.json", {"graphs": [other, {**other, "slug": "dallas"}]})
    ours = replace(noted(), provenance={**noted().provenance, "imported": theirs_named("dallas")})
    write_page_folder([ours], tmp_path)

    listed = json.loads((tmp_path / "graph-metadata.json").read_bytes())["graphs"]
    assert [each["slug"] for each in listed] == ["theirs", "dallas"]
    assert listed[1]["prompt_tokens"] == ["dallas"]
    with pytest.raises(CannotWrite, match="two graphs are called 'dallas'"):
        write_page_folder([ours, ours], tmp_path)
    for broken in ([], {"graphs": 1}, {"graphs": ["x"]}):
        written(tmp_path / "graph-metadata.json", broken)
        with pytest.raises(CannotWrite, match="is no list of graphs"):
            write_page_folder([ours], tmp_path)
    assert not list(tmp_path.glob(".*"))


def theirs_named(slug):
    return {"format": "neuronpedia", "metadata": {"slug": slug, "scan": slug}}


@pytest.mark.parametrize("slug", ["../../out", "/etc/x", "..", "a/b", "\\\\host\\x"])
def test_a_name_of_others_leads_out_of_no_folder(tmp_path, slug):
    ours = replace(noted(), provenance={**noted().provenance, "imported": theirs_named(slug)})
    (file,) = write_page_folder([ours], tmp_path / "a" / "there")

    assert file.parent == tmp_path / "a" / "there" and file.exists()
    assert {each.name for each in (tmp_path / "a").iterdir()} == {"there"}
    assert json.loads(file.read_bytes())["metadata"]["slug"] == file.stem


def test_notes_come_back_from_the_records_where_the_graph_has_none(tmp_path):
    (file,) = write_page_folder([noted()], tmp_path)
    assert import_graph(file).provenance["feature_notes"] == {"1/1": NOTE}

    record = json.loads(file.read_bytes())  # as another program writes it
    del record["circuit_assay"]
    for node in record["nodes"]:
        del node["circuit_assay"]
    found = import_graph(written(file, record)).provenance["feature_notes"]["1/1"]
    assert found == {name: NOTE[name] for name in NOTE if name != "label"}

    for place in (tmp_path / "features").rglob("*.json"):  # or all in one folder
        place.rename(tmp_path / "features" / place.name)
    assert import_graph(file).provenance["feature_notes"]["1/1"] == found


def test_a_record_has_what_the_note_has_and_nothing_made_up():
    assert feature_details({}, 7) == {"index": 7, "examples_quantiles": [], "top_logits": [], "bottom_logits": []}
    assert feature_details({"promotes": ["a\n\t\r"]}, 7)["top_logits"] == ["a⏎→↵"]
    assert feature_details({"act_max": 2.0}, 7)["act_max"] == 2.0


@pytest.mark.skipif(not SCHEMA.exists(), reason="the schema is not beside the checkout")
def test_records_fit_the_schema():
    schema = json.loads(SCHEMA.read_bytes())

    assert misfits(json.loads(json.dumps(feature_details(NOTE, 1))), schema) == []
    assert misfits(feature_details({}, 1), schema) == []
    assert misfits({}, schema) == [": index", ": examples_quantiles"]


EXAMPLE = {"tokens": ["a", "b"], "tokens_acts_list": [1.0, 2.0]}


def beside(folder, record, number=43):
    """A graph of another program with a record beside it, of its feature 7 of layer 1."""
    (folder / "features").mkdir(exist_ok=True)
    content = record if isinstance(record, bytes) else json.dumps(record).encode()
    (folder / "features" / f"{number}.json").write_bytes(content)
    return written(folder / "x.json", page_graph())


def test_of_a_record_of_others_what_is_longest_is_cut(tmp_path):
    long = {"tokens": list("abcdefghijklmnopqrstuvwxyz"), "tokens_acts_list": [*range(20), 99, *range(5)]}
    quantiles = [{"quantile_name": "Top", "examples": [long] * 9}, {"quantile_name": "rest", "examples": [EXAMPLE]}]
    record = {
        "index": 7,
        "examples_quantiles": quantiles,
        "top_logits": list("abcdefgh"),
        "act_min": None,
        "act_max": 5,
    }
    note = import_graph(beside(tmp_path, record)).provenance["feature_notes"]["1/7"]

    around = {"tokens": list("ijklmnopqrstuvwxy"), "activations": [*range(8, 20), 99, *range(4)], "peak": 12}
    assert note["examples"] == [around] * 4
    assert note["fires_on"] == ["u"] and note["promotes"] == list("abcde") and note["act_max"] == 5
    assert "histogram" not in note and "density" not in note and "suppresses" not in note


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (b"", "Expecting value"),
        (b"[" * 100_000, "no record of a feature"),
        (b'{"examples_quantiles": [], "act_max": NaN}', "NaN is no number"),
        (b'{"examples_quantiles": [], "act_max": 1' + b"0" * 400 + b"}", "act_max should be a number"),
        ({}, "examples_quantiles is missing"),
        ([], "should be an object"),
        ({"examples_quantiles": [{}]}, r"examples_quantiles\[0\]\.examples is missing"),
        ({"examples_quantiles": [{"examples": [{**EXAMPLE, "tokens": ["a"]}]}]}, "1 tokens and 2 activations"),
        ({"examples_quantiles": [{"examples": [{**EXAMPLE, "tokens": ["a", "\ud800"]}]}]}, "should be text"),
        ({"examples_quantiles": [], "top_logits": "abc"}, "top_logits should be a list"),
        (b" " * (5 * 2**20), "has 5,242,880 bytes"),
    ],
)
def test_what_lies_there_and_is_no_record_is_named(tmp_path, record, said):
    path = beside(tmp_path, record)

    with pytest.raises(ForeignFile, match=said) as refusal:
        import_graph(path)

    assert "43.json" in str(refusal.value) and len(str(refusal.value)) < 500


RECORD = {
    "index": 7,
    "examples_quantiles": [{"quantile_name": "Top", "examples": [{**EXAMPLE, "train_token_ind": 1}, EXAMPLE]}],
    "top_logits": ["a"],
    "act_min": 0.0,
    "act_max": 2.0,
    "histogram": [1, 2],
    "activation_frequency": 0.5,
}


@given(
    strategies.lists(
        strategies.tuples(strategies.sampled_from([*all_places(RECORD)][1:]), JSON), min_size=1, max_size=3
    )
)
@settings(max_examples=60)
def test_whatever_a_record_says_it_is_refused_by_name_or_a_note_that_can_be_stored(tmp_path_factory, changes):
    record = json.loads(json.dumps(RECORD))
    for (*way, last), value in changes:
        inner = record
        try:
            for key in way:
                inner = inner[key]
            inner[last] = value
        except (TypeError, KeyError, IndexError):
            continue
    folder = tmp_path_factory.mktemp("fuzz")
    path = beside(folder, record)
    try:
        found = import_graph(path)
    except ForeignFile as error:
        assert "43.json" in str(error)
        return
    store = Store(folder / "store")
    notes = found.provenance.get("feature_notes", {})
    assert store.load(store.save(found)).provenance.get("feature_notes", {}) == notes
    for note in notes.values():
        json.dumps(feature_details(note, 7), allow_nan=False).encode()


@pytest.mark.parametrize("scan", ["./data/features/../../secret", "./data/features/..", "/etc", "./data/features/a/b"])
def test_records_are_looked_for_in_the_folder_alone(tmp_path, scan):
    home = tmp_path / "a" / "b"
    (home / "features").mkdir(parents=True)
    for secret in (tmp_path / "a" / "secret", tmp_path / "a" / "b", home / "features" / "a" / "b"):
        secret.mkdir(parents=True, exist_ok=True)
        written(secret / "43.json", {"examples_quantiles": [], "top_logits": ["secret"]})
    record = page_graph()
    record["metadata"] |= {"scan": "custom-x", "transcoder_list": [scan, scan]}

    assert "feature_notes" not in import_graph(written(home / "x.json", record)).provenance


def test_circuits_draw_writes_such_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Store("circuits-store").save(noted())
    assert main(["draw", "dallas", "--as", "circuit-tracer", "-o", "there/"]) == 0
    out = capsys.readouterr().out
    assert "circuit-tracer start-server --graph_file_dir there" in out
    assert sorted(each.name for each in Path("there").iterdir())[-2:] == ["features", "graph-metadata.json"]

    assert main(["import", str(next(Path("there").glob("dallas-*.json")))]) == 0
    assert "with notes on 1 feature\n" in capsys.readouterr().out
    Path("file").write_text("")
    for words in ([], ["-o", "file"]):
        assert main(["draw", "dallas", "--as", "circuit-tracer", *words]) == 2
        assert "writes a folder" in capsys.readouterr().err
    for words in (["--theme", "dark"], ["--supernodes"], ["--no-labels"]):
        assert main(["draw", "dallas", "--as", "circuit-tracer", "-o", "dark/", *words]) == 2
        assert "takes none of the choices" in capsys.readouterr().err and not Path("dark").exists()


def test_the_graph_in_the_folder_is_the_graph(tmp_path):
    graph = noted()
    (file,) = write_page_folder([graph], tmp_path)
    record, plain = json.loads(file.read_bytes()), json.loads(json.dumps(to_neuronpedia(graph)))

    assert record["nodes"] == plain["nodes"] and record["links"] == plain["links"]
    assert np.array_equal(import_graph(file).weight, graph.weight)
