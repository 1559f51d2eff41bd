"""Questions to all graphs at once: the answers of SQL are those of going through the graphs one by one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from circuits.commands import query as command
from graphs import Assay, Nodes, Store, Verdict, query
from graphs import store as module
from graphs.errors import BadOption, BadQuery
from graphs.index import INDEX
from graphs.query import SCORES, TABLES_OF, opened
from graphs.questions import between, holding, labelled, shared
from tests.worlds import graph_of

PROMPTS = ("dallas", "austin", "the o'hare", "")
SORTED = "select columns(*)::varchar from nodes order by graph, nodes.node"  # as text, where nan is nan


def traced(seed):
    """token 0 -> features 1 and 2 -> logit 3; the second feature is another in every graph, the third graph has no
    edges to the logit."""
    rng = np.random.default_rng(seed)
    edges = [(0, 1, 1.0), (0, 2, 2.0), (1, 2, float(seed)), (1, 3, float(rng.normal())), (2, 3, 0.5)]
    made = {"prompt": PROMPTS[seed], "model": "toy", "transcoders": "ours" if seed < 3 else "theirs"}
    graph = graph_of(edges[: 2 if seed == 2 else 5], "token feature feature logit", provenance=made)
    nodes = graph.nodes.with_columns(
        layer=np.array([-1, 0, 1, 2]),
        feature=np.array([7, 544, seed, 9]),
        influence=rng.random(4),
        label=np.array([" dallas", "Texas", f"other {seed}", " austin"], dtype=object),
    )
    return replace(graph, nodes=nodes)


@pytest.fixture
def store(tmp_path):
    found = Store(tmp_path)
    verdict = Verdict("it holds", "supported", float("nan"), "above 0.2", "none")
    for seed in range(4):
        found.save(traced(seed), Assay({}, 1e-7, [], {}, [], [verdict]) if seed == 1 else None)
    return found


def graphs_of(store):
    return {entry.id: store.load(entry.id) for entry in store.list()}


def test_the_tables_say_what_the_graphs_do(store):
    graphs = graphs_of(store)

    nodes = store.query("from nodes order by graph, node").to_pylist()
    rows = [(id, row) for id in sorted(graphs) for row in range(4)]
    assert [(each["graph"], each["node"]) for each in nodes] == rows
    for name in [field.name for field in fields(Nodes)]:
        expected = [getattr(graphs[id].nodes, name)[row] for id, row in rows]
        np.testing.assert_array_equal([each[name] for each in nodes], np.array(expected))

    edges = store.query("select graph, source, target, weight from edges").to_pylist()
    assert {tuple(each.values()) for each in edges} == {
        (id, *edge) for id, g in graphs.items() for edge in zip(g.source, g.target, g.weight, strict=True)
    }
    told = {each["id"]: each for each in store.query("from graphs").to_pylist()}
    for entry in store.list():
        assert (told[entry.id]["prompt"], told[entry.id]["saved"]) == (entry.prompt, entry.saved)
        assert told[entry.id]["targets"] == list(entry.targets)
        assert told[entry.id]["completeness"] == store.record(entry.id)["scores"]["completeness"]
    (verdict,) = store.query("from verdicts").to_pylist()
    assert graphs[verdict["graph"]].provenance["prompt"] == "austin"
    assert (verdict["claim"], verdict["number"], verdict["control"]) == ("it holds", None, "none")


def test_the_graphs_with_a_feature(store):
    expected = sorted(((g.nodes.influence[1], id) for id, g in graphs_of(store).items()), reverse=True)
    with opened(store) as base:
        for text in ("L0/544", "0/544", "L0/544@0"):
            assert holding(base, text)["graph"].to_pylist() == [id for _, id in expected]
        assert len(holding(base, "L0/544", most=2)) == 2
        assert len(holding(base, "L1/544")) == len(holding(base, "L0/544@3")) == len(holding(base, "L0/attn/544")) == 0
        with pytest.raises(BadOption, match="L2/544"):
            holding(base, "texas")


def test_the_features_that_graphs_share(store):
    ids = {g.provenance["prompt"]: id for id, g in graphs_of(store).items()}
    both = [ids["dallas"], ids["austin"]]
    expected = np.mean([store.load(id).nodes.influence[1] for id in both])
    with opened(store) as base:
        (only,) = shared(base, both).to_pylist()
        assert (only["unit"], only["label"], only["graphs"]) == ("L0/544", "Texas", 2)
        assert only["influence"] == pytest.approx(expected)
        # A number means something for its own transcoders only.
        assert len(shared(base, [ids["dallas"], ids[""]])) == 0
        assert shared(base)["graphs"].to_pylist() == [3]


def test_neurons_of_two_models_are_not_shared_and_features_are(tmp_path):
    store = Store(tmp_path)
    for model, seed in (("toy", 0), ("toy", 1), ("other", 0), ("other", 1)):
        graph = traced(seed)
        nodes = graph.nodes.with_columns(kind=np.array(["token", "neuron", "feature", "logit"], dtype=object))
        store.save(replace(graph, nodes=nodes, provenance={**graph.provenance, "model": model, "prompt": model}))
    rows = [(each.id, each.model) for each in store.list()]
    assert len(rows) == 4

    with opened(store) as base:
        told = {(each["unit"], each["model"]): each["graphs"] for each in shared(base).to_pylist()}
        assert told == {("L0/544", "toy"): 2, ("L0/544", "other"): 2, ("L1/0", None): 2, ("L1/1", None): 2}
        one_each = [next(id for id, model in rows if model == name) for name in ("toy", "other")]
        assert "L0/544" not in shared(base, one_each)["unit"].to_pylist()
        assert {each["model"]: each["graphs"] for each in between(base, "L0/544", "austin").to_pylist()} == {
            "toy": 2,
            "other": 2,
        }
        assert set(holding(base, "L0/544")["model"].to_pylist()) == {"toy", "other"}


def test_what_is_no_number_is_found_as_that(store):
    values = np.concatenate([g.nodes.value for g in graphs_of(store).values()])
    assert 0 < np.isnan(values).sum() < len(values)

    (counted,) = store.query("select count(*) filter (isnan(value)) as n, count(*) as every from nodes").to_pylist()

    assert counted == {"n": np.isnan(values).sum(), "every": len(values)}
    assert len(store.query("from nodes where not isnan(value)")) == (~np.isnan(values)).sum()


def test_where_influence_is_not_known_it_is_not_the_largest(store):
    known = {g.nodes.influence[1]: id for id, g in graphs_of(store).items()}
    nodes = traced(0).nodes
    without = replace(traced(0), nodes=nodes.with_columns(influence=np.full(4, np.nan)))
    last = store.save(without, name="unknown")
    with opened(store) as base:
        expected = [known[share] for share in sorted(known, reverse=True)]
        assert holding(base, "L0/544")["graph"].to_pylist() == [*expected, last]
        assert labelled(base, "texas")["graph"].to_pylist() == [*expected, last]
        most = shared(base)
        assert most["graphs"].to_pylist()[0] == 4
        ours = [share for share, id in known.items() if store.load(id).provenance["transcoders"] == "ours"]
        assert most["influence"].to_pylist()[0] == pytest.approx(np.mean(ours))


def test_a_graph_named_twice_shares_with_itself_what_it_has(store):
    (id, other) = [id for id, g in graphs_of(store).items() if g.provenance["prompt"] in ("dallas", "austin")]
    with opened(store) as base:
        assert shared(base, [id, other, id]).equals(shared(base, [id, other]))
        assert len(shared(base, [id, other, id])) == 1


def test_a_feature_at_several_positions_counts_with_all_of_them(store):
    edges = [(0, 1, 1.0), (0, 2, 1.0), (1, 3, 2.0), (2, 3, 0.5)]
    graph = graph_of(edges, "token feature feature logit", provenance={"transcoders": "ours"})
    columns = {"feature": [7, 544, 544, 9], "layer": [-1, 0, 0, 1], "position": [0, 0, 1, 1]}
    nodes = graph.nodes.with_columns(
        **{name: np.array(column) for name, column in columns.items()}, influence=np.array([0.0, 0.25, 0.5, 0.0])
    )
    graph = replace(graph, nodes=nodes, tokens=("a", "b"), token_ids=(1, 2))
    ids = [store.save(graph, name=name) for name in ("here", "there")]
    target = str(nodes.label[3])
    with opened(store) as base:
        (found,) = shared(base, ids).to_pylist()
        assert (found["unit"], found["influence"], found["graphs"]) == ("L0/544", 0.75, 2)
        means = {row["mean"]: row["graphs"] for row in between(base, "L0/544", target).to_pylist() if row["mean"]}
        assert means[2.5] == 2
        assert holding(base, "L0/544@1")["influence"].to_pylist() == [0.5, 0.5]


def test_features_of_attention_are_units_of_their_own(store):
    graph = traced(0)
    kinds = np.array(["token", "attention", "feature", "logit"])
    ids = {store.save(replace(graph, nodes=graph.nodes.with_columns(kind=kinds)), name=name) for name in ("a", "b")}
    with opened(store) as base:
        found = shared(base, sorted(ids))
        assert set(found["unit"].to_pylist()) == {"L0/attn/544", "L1/0"}
        assert set(holding(base, "L0/attn/544")["graph"].to_pylist()) == ids
        assert not ids & set(holding(base, "L0/544")["graph"].to_pylist())
        assert len(holding(base, "L2/9")) == 0  # a logit is no unit


def test_the_mean_weight_of_an_edge(store):
    graphs = [g for g in graphs_of(store).values() if g.provenance["transcoders"] == "ours"]
    weights = [g.to_dense()[3, 1] for g in graphs if len(g.source) > 2]
    assert len(weights) == 2
    with opened(store) as base:
        for target in ("austin", " austin"):
            ours, theirs = between(base, "L0/544", target).to_pylist()
            assert (ours["transcoders"], ours["graphs"], theirs["graphs"]) == ("ours", 3, 1)
            assert ours["with_edge"] == 2
            assert ours["mean"] == pytest.approx(np.mean(weights))
            assert ours["deviation"] == pytest.approx(np.std(weights, ddof=1))
            assert ours["mean_with_zeros"] == pytest.approx(np.sum(weights) / 3)
        assert [each["with_edge"] for each in between(base, "austin", "L0/544").to_pylist()] == [0, 0]
        assert len(between(base, "L0/544", "nowhere")) == 0


def test_where_a_label_is(store):
    with opened(store) as base:
        assert len(labelled(base, "TEXAS")) == 4
        assert labelled(base, "other 2")["prompt"].to_pylist() == ["the o'hare"]
        assert len(labelled(base, "o' or true --")) == 0


def as_read(store):
    """The nodes, with no index there was before."""
    shutil.rmtree(store.folder / INDEX)
    return store.query(SORTED)


def test_the_index_reads_what_changed_and_says_what_the_graphs_say(store, monkeypatch):
    store.query(SORTED)
    read = []
    really = module.read_table
    monkeypatch.setattr(module, "read_table", lambda path, stated: read.append(path) or really(path, stated))

    assert len(store.query(SORTED)) == 16 and read == []
    id = store.save(traced(0), name="again")
    assert len(store.query(SORTED)) == 20 and [path.parent.name for path in read] == [id]
    shutil.rmtree(store.find("the-o"))
    assert len(store.query(SORTED)) == 16 and len(read) == 1
    for name in ("austin", "dallas", "graph"):
        shutil.rmtree(store.find(name))
    found = store.query(SORTED)
    assert len(found) == 4 and found.equals(as_read(store))
    assert set(found["graph"].to_pylist()) == {id}


def test_files_of_the_index_are_few(store):
    for number in range(7):
        store.save(traced(0), name=f"number {number}")
        store.query("from nodes limit 1")

    current = [part for part in store.index(store.lines()[0]).parts if part.counts]
    assert len(current) <= 3
    assert sum(len(part.counts) for part in current) == 11
    assert store.query(SORTED).equals(as_read(store))


def test_another_graph_under_the_same_name_is_noticed(store):
    store.query("from nodes limit 1")
    old, new = store.find("austin"), store.find("dallas")
    shutil.rmtree(old)
    new.rename(old)

    labels = store.query(f"select label from nodes where graph = '{old.name}' order by node")["label"].to_pylist()

    assert labels == store.load(old.name).nodes.label.tolist() == traced(0).nodes.label.tolist()


def test_a_damaged_file_of_the_index_that_cannot_be_removed_is_none_either(store, monkeypatch):
    store.query("from nodes")
    (path,) = (store.folder / INDEX).iterdir()
    whole = path.read_bytes()
    path.write_bytes(b"PAR1" + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])  # what it holds can be read still
    for number in range(3):
        store.save(traced(0), name=f"number {number}")

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        patch.setattr("tempfile.mkdtemp", refuse)
        assert len(store.query("from nodes")) == 28
    assert store.query(SORTED).equals(as_read(store))


def test_of_a_file_of_the_index_that_is_mostly_of_the_past_the_rest_is_kept(store):
    store.query("from nodes limit 1")
    for name in ("austin", "dallas", "graph"):
        shutil.rmtree(store.find(name))

    assert {row["graph"] for row in store.query("from nodes").to_pylist()} == set(graphs_of(store))
    assert [part.holds.keys() for part in store.index(store.lines()[0]).parts if part.counts] == [
        graphs_of(store).keys()
    ]


def test_more_graphs_than_a_file_of_the_index_takes_are_in_several(store, monkeypatch):
    monkeypatch.setattr("graphs.index.MOST", 3)

    assert len(store.query("from nodes")) == 16
    assert sorted(len(part.counts) for part in store.index(store.lines()[0]).parts) == [1, 3]


def test_a_large_file_of_the_index_is_not_written_again_for_one_graph_more(store):
    store.query("from nodes limit 1")
    (large,) = os.listdir(store.folder / INDEX)
    store.save(traced(0), name="one more")

    counts = {part.path.name: len(part.counts) for part in store.index(store.lines()[0]).parts}

    assert counts.pop(large) == 4 and list(counts.values()) == [1]


def test_files_of_the_index_that_nobody_reads_any_more_are_removed(store, monkeypatch):
    for number in range(4):
        store.save(traced(0), name=f"number {number}")
        store.query("from nodes limit 1")
    before = len(os.listdir(store.folder / INDEX))
    monkeypatch.setattr("graphs.index.IN_USE", -1.0)

    assert len(store.query(SORTED)) == 32
    assert len(os.listdir(store.folder / INDEX)) < before
    assert store.query(SORTED).equals(as_read(store))


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: whole[:-20], lambda whole: b"PAR1" * 9])
def test_a_damaged_file_of_the_index_is_none(store, damage):
    store.query("from nodes")
    (path,) = (store.folder / INDEX).iterdir()
    path.write_bytes(damage(path.read_bytes()))

    assert len(store.query("from nodes")) == 16


def test_two_who_ask_at_once_leave_an_index_that_is_right(store):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(len(Store(store.folder).query("from nodes")))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [16] * 3
    assert store.query(SORTED).equals(as_read(store))


def test_where_nothing_may_be_written_the_graphs_are_read(store, monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)

    assert len(store.query("from nodes")) == 16
    assert os.listdir(store.folder / INDEX) == []
    monkeypatch.undo()
    store.query("from nodes")
    store.save(traced(0), name="again")
    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    assert len(store.query("from nodes")) == 20 and len(os.listdir(store.folder / INDEX)) == 1


def test_saves_keep_the_index_where_there_are_many(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MANY", 2)
    monkeypatch.setattr(module, "LONG", 1)
    store = Store(tmp_path)
    for seed in range(3):
        store.save(traced(seed))
    monkeypatch.setattr(module, "read_table", None)

    assert len(store.query("from nodes")) == 12


@pytest.mark.parametrize("file", ["nodes.parquet", "edges.parquet"])
def test_a_graph_that_is_cut_short_is_left_out_and_named(store, file):
    path = store.find("austin") / file
    path.write_bytes(path.read_bytes()[:-9])

    with opened(store) as base:
        ((id, problem),) = base.problems.items()
        assert id.startswith("austin") and str(path) in problem
        assert len(base.ask("from graphs")) == 3
        for table in ("nodes", "edges", "verdicts"):
            assert id not in base.ask(f"select distinct graph from {table}")["graph"].to_pylist()


def test_nodes_of_another_content_are_noticed(store):
    path = store.find("austin") / "nodes.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])

    with opened(store) as base:
        ((id, problem),) = base.problems.items()
        assert "checksum" in problem
        assert len(base.ask("from nodes")) == 12
        for table, column in (("graphs", "id"), ("edges", "graph"), ("verdicts", "graph")):
            assert id not in base.ask(f"select distinct {column} from {table}")[column].to_pylist()


@pytest.mark.parametrize("far", [False, True])
def test_edges_of_another_content_are_noticed(store, tmp_path, far):
    if far:
        near, store = store, Store(f"memory://{tmp_path}")
        for id in graphs_of(near):
            store.save(near.load(id))
    path = store.find("austin") / "edges.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])

    with opened(store) as base:
        assert base.ask("from edges join nodes on edges.graph = nodes.graph where nodes.node = source").num_rows == 12
        ((id, problem),) = base.problems.items()
        assert id.startswith("austin") and str(path) in problem and "checksum" in problem
        for table, column in (("graphs", "id"), ("edges", "graph"), ("nodes", "graph"), ("verdicts", "graph")):
            assert id not in base.ask(f"select distinct {column} from {table}")[column].to_pylist()
        assert sum(row["graphs"] for row in between(base, "L0/544", "austin").to_pylist()) == 3


def test_an_empty_store_has_the_same_tables(tmp_path, store):
    for name, columns in TABLES_OF.items():
        empty = Store(tmp_path / "nowhere").query(f"from {name}")
        assert len(empty) == 0 and empty.column_names == store.query(f"from {name}").column_names == list(columns)
    tables = store.query("show tables")["name"].to_pylist()
    assert tables == Store(tmp_path / "nowhere").query("show tables")["name"].to_pylist() == sorted(TABLES_OF)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("selec 1", "syntax error"),
        ("select wat from nodes", r'"wat" not found(.|\n)*Tables: graphs\(id, (.|\n)*nodes\(graph, node, kind, layer'),
        ("select * from nowhere", "nowhere does not exist"),
        ("", "found nothing"),
        ("select 1; select 2", "a single question is wanted"),
        ("create table t as select 1", "never changed"),
        ("drop view nodes", "never changed"),
        ("set memory_limit = '90GB'", "never changed"),
        ("attach 'x.db'", "never changed"),
        ("install httpfs", "never changed"),
        ("copy nodes to 'nodes.csv'", "never changed"),
        ("select * from read_text('{other}')", "no files"),
        ("select * from '{other}'", "no files"),
        ("select * from read_csv('{folder}/../*')", "no files"),
        ("select * from glob('/*')", "no files"),
        ("select * from read_text('{folder}/*/graph.json')", "no files"),
        ("select * from sniff_csv('{other}')", "no files"),
        ("select 1 from range(1) where exists (select * from read_blob('{other}'))", "no files"),
        ("select * from query('create table t as select 1')", "single SELECT"),
    ],
)
def test_only_questions_are_answered_and_only_the_store_is_read(store, tmp_path, monkeypatch, sql, says):
    other = tmp_path.parent / "other.csv"
    other.write_text("secret\n1\n")
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(tmp_path))

    with pytest.raises(BadQuery, match=says) as refused:
        store.query(sql.format(other=str(other).replace("'", "''"), folder=str(tmp_path).replace("'", "''")))

    assert "secret" not in str(refused.value)
    assert sorted(set(os.listdir(tmp_path)) - {INDEX}) == before


def test_no_more_memory_is_taken_than_allowed(store):
    with pytest.raises(BadQuery, match=r"more than the 0\.1 GB of memory"):
        store.query("select count(distinct hash(range)) from range(100000000)", memory=1e8)
    with pytest.raises(BadQuery, match=r"larger than the 0\.03 GB(.|\n)*LIMIT"):
        store.query("select range from range(100000000)", memory=3e7)


def test_no_more_is_computed_than_is_wanted(store):
    with opened(store, memory=1e8) as base:
        assert base.ask("select range from range(1000000000000)", most=5)["range"].to_pylist() == [0, 1, 2, 3, 4]


def test_a_question_may_change_no_setting_and_puts_nothing_on_the_disk(store):
    (found,) = store.query(
        "select current_setting('lock_configuration') as locked, current_setting('temp_directory') as aside"
    ).to_pylist()
    assert found == {"locked": True, "aside": ""}


def test_what_comes_in_several_batches_ends_after_as_many_rows_as_are_wanted(store, monkeypatch):
    monkeypatch.setattr(query, "BATCH", 2048)
    with opened(store) as base:
        assert base.ask("select range from range(9000)", most=3000)["range"].to_pylist() == list(range(3000))


def test_edges_are_those_of_the_graphs_that_are_asked_about(store):
    one, other, *_ = (entry.id for entry in store.list() if entry.edges == 5)
    with opened(store) as base:
        found = base.ask("select graph from edges order by graph", among=[one, other])["graph"].to_pylist()
    assert found == sorted([one, other] * 5)


def test_a_question_is_interrupted(store, monkeypatch):
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    really = query._in_turn
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with opened(store) as base:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(query, "_in_turn", lambda *what: timer.start() or really(*what))
                base.ask("select sum(a.range * b.range) from range(1000000) a, range(1000000) b")  # for hours
            assert len(base.ask("from graphs")) == 4
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, heeded)


def test_the_document_and_the_help_name_every_column():
    said = [(Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8"), command.TABLES]
    for name, columns in TABLES_OF.items():
        for column in columns.keys() - SCORES:
            assert f"`{column}`" in said[0] and re.search(rf"^  {name} .*\b{column}\b", said[1], re.MULTILINE)


def test_folders_may_have_any_name(tmp_path):
    store = Store(tmp_path / "st[1]o*re 'x\" {é}")
    store.find(store.save(traced(0))).rename(store.folder / "re[n]amed ?")
    store.save(traced(1))

    assert [len(store.query(f"from {name}")) for name in ("graphs", "nodes", "edges")] == [2, 8, 10]
    assert len(store.query("from edges where graph = 're[n]amed ?'")) == 5


@pytest.mark.parametrize("start", ["", "memory://"])
@pytest.mark.parametrize("name", ["[ab]", "layer=5", "graph=none/weight=7"])
def test_the_name_of_a_folder_is_neither_a_pattern_nor_a_column(tmp_path, start, name):
    # DuckDB takes `layer=5/` for a column and `[ab]` for a pattern, which the neighbour's name fits too.
    store, neighbour = (Store(f"{start}{tmp_path}/{each}") for each in (name, "a"))
    id, _ = store.save(traced(1)), neighbour.save(traced(1))

    assert store.query("select graph, layer from nodes").to_pylist() == [
        {"graph": id, "layer": layer} for layer in (-1, 0, 1, 2)
    ]
    assert store.query("select graph, weight from edges").to_pylist() == [
        {"graph": id, "weight": weight} for weight in store.load(id).weight
    ]
    assert neighbour.query("select count(*) as many from nodes").to_pylist() == [{"many": 4}]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are UTF-8")
def test_a_store_whose_name_is_no_text_is_kept_and_its_name_told_where_duckdb_cannot_read_it(tmp_path):
    store = Store(tmp_path / os.fsdecode(b"caf\xe9"))
    id = store.save(traced(1))

    assert store.load(id).tokens == traced(1).tokens
    assert [entry.id for entry in store.list()] == [id]
    with pytest.raises(BadQuery, match=r"UTF-8 alone.*caf\\udce9"):
        store.query("from edges")
    (tmp_path / "link").symlink_to(store.folder)
    assert len(Store(tmp_path / "link").query("from edges")) == 5
