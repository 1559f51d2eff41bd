"""`circuits list`, `show` and `draw`, on a store with two small graphs."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from circuits.__main__ import main
from graphs import Assay, Store, Verdict, prune
from graphs.assays import Control
from graphs.export.plots import PLOTS
from tests.worlds import graph_of

#   token 0 --3--> feature 1 --(-1)--> logit 3 <--1-- error 2
GRAPH = graph_of([(0, 1, 3), (1, 3, -1), (2, 3, 1)], "token feature error logit", provenance={"model": "toy"})
ASSAY = Assay({}, 1e-7, [], {}, [], [Verdict("the texas feature is needed", "supported", 0.5, "above 0.2", "none")])


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = Store("circuits-store")
    found.save(prune(GRAPH, nodes=1, edges=1), name="one", assay=ASSAY)
    found.save(GRAPH, name="two")
    return found


def ids(store):
    return sorted(entry.id for entry in store.list())


def test_a_name_that_begins_several_graphs_is_met_with_all_of_them_the_newest_first(tmp_path, capsys, monkeypatch):
    store = Store(tmp_path)
    graphs = {store.save(graph, name="one"): graph for graph in (GRAPH, prune(GRAPH, nodes=1, edges=1))}
    first, second = sorted(graphs)
    for year, id in ((2001, first), (2002, second)):  # against the order of the alphabet
        monkeypatch.setattr("graphs.store.datetime", SimpleNamespace(now=lambda zone, y=year: datetime(y, 1, 1)))
        store.save(graphs[id], name="one")

    assert main(["show", "one", "--store", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "circuits: 2 graphs begin with 'one', newest first; give the whole id of one, or what it ends in:",
        f"  {second}  2002-01-01 00:00  logit 3",
        f"  {first}  2001-01-01 00:00  logit 3",
    ]
    assert main(["show", first.removeprefix("one-"), "--store", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"{first}, in ")


def test_list_has_a_line_for_each_graph(store, capsys):
    assert main(["list"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines) == ids(store)
    assert all("4 nodes" in line and "3 edges" in line and "toy" in line for line in lines)


def test_list_tells_targets_transcoders_and_how_the_assay_came_out(tmp_path, capsys):
    store = Store(tmp_path)
    store.save(replace(GRAPH, provenance={"model": "toy", "transcoders": "a-set-" + "x" * 40}), name="one", assay=ASSAY)
    (line,) = listed(store, capsys)
    assert "logit 3" in line and "toy with a-set-xxxxxxxxxxxxx…" in line and "1 of 1 supported" in line

    store.keep_assay("one", replace(ASSAY, verdicts=[*ASSAY.verdicts, Verdict("no", "untested", 0.0, "", "")]))
    (line,) = listed(store, capsys)
    assert "1 of 2 supported" in line and len(line) < 140


def test_list_tells_graphs_apart_by_what_they_were_asked_for_and_how(tmp_path, capsys):
    inner = graph_of([(0, 1, 3)], "token error", goal=[0.0, 1.0])
    found = graph_of([(0, 1, 3)], "token logit")
    rest = {"model": "toy", "transcoders": "", "conservation": None, "against": [0]}
    rest["options"] = {"targets": ["L2/error@last"]}
    made = {"error": (inner, {**rest, "method": "direct"}), "exact": (found, {**rest, "method": "exact"})}
    for name, (graph, provenance) in made.items():
        Store(tmp_path).save(replace(graph, provenance=provenance), name=name)

    exact, error = listed(Store(tmp_path), capsys)  # the latest first

    assert "L2/error@last" in error and "  direct  " in error
    assert "logit 1" in exact and "  exact " in exact and "L2/error" not in exact


def listed(store, capsys):
    assert main(["list", "--store", str(store.folder)]) == 0
    return capsys.readouterr().out.splitlines()


def test_list_has_the_latest_first_within_a_second_too(tmp_path, capsys):
    store = Store(tmp_path)
    saved = [store.save(GRAPH, name=name) for name in ("b", "a", "c")]

    assert [line.split()[0] for line in listed(store, capsys)] == saved[::-1]


def test_list_names_what_is_damaged_and_lists_the_others(store, capsys):
    path = store.find("two") / "edges.parquet"
    path.write_bytes(path.read_bytes()[:-1])

    one, two = listed(store, capsys)
    assert one.startswith("one-") and "4 nodes" in one
    assert two.startswith("two-") and "edges.parquet is damaged" in two


def test_list_of_what_is_no_store_says_so(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["list", "--store", str(tmp_path / "file")]) == 2
    assert "file is no store: Not a directory" in capsys.readouterr().err
    assert main(["show", "one", "--store", str(tmp_path / "file")]) == 2

    assert main(["list", "--store", str(tmp_path / "nowhere")]) == 0
    assert "there is no store" in capsys.readouterr().out
    assert main(["list", "--store", str(tmp_path / "nowhere"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert not (tmp_path / "nowhere").exists()


def test_list_is_read_by_machines(store, capsys):
    main(["list", "--json"])

    assert sorted(each["id"] for each in json.loads(capsys.readouterr().out)) == ids(store)


def test_list_of_an_empty_store_says_what_to_do(tmp_path, capsys):
    assert main(["list", "--store", str(tmp_path)]) == 0
    assert "trace a prompt first" in capsys.readouterr().out


def test_show_says_what_the_graph_holds(store, capsys):
    assert main(["show", "one"]) == 0

    out = capsys.readouterr().out
    assert "kept 4 of 4 nodes and 3 of 3 edges, carrying 100% of the influence" in out
    assert "replacement 0.50" in out
    assert "50.0%  token 0 (+1.00)> feature 1 L1 @dallas (-0.50)> logit 3" in out
    assert "supported: the texas feature is needed" in out


def test_show_gives_figures_as_their_bars_are_and_says_why_there_is_none(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verdicts = [
        Verdict("enough", "supported", 0.925, "≥ 80% of the difference survives", "20 random sets"),
        Verdict("predicted", "untested", float("nan"), "slope in 0.5–1.5", "untested: 4 ablated, 8 are wanted"),
    ]
    Store("circuits-store").save(GRAPH, name="one", assay=replace(ASSAY, verdicts=verdicts))

    assert main(["show", "one"]) == 0
    said = capsys.readouterr().out
    assert "  supported: enough (92.5%; wanted: ≥ 80% of the difference survives)\n" in said
    assert "  untested: predicted (4 ablated, 8 are wanted)\n" in said


def test_show_says_what_a_circuit_keeps(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = {
        "circuit": {"m0->logits": 1.0, "input->m0": 2.0},
        "options": {"metric": "kl", "ablation": "resample"},
        "metric": {"clean": 3.0, "corrupted": -1.0, "circuit": 2.0},
        "pairs": 2,
    }
    Store("circuits-store").save(replace(GRAPH, provenance=made), name="one")

    assert main(["show", "one"]) == 0
    said = capsys.readouterr().out
    assert "circuit over 2 pairs, of which the prompt is one: 2 edges or nodes kept" in said
    assert "kl 3.000 clean, -1.000 corrupted, 2.000 with only the circuit clean: 75.0% of the difference kept" in said
    assert "assay" not in said


def test_show_is_read_by_machines(store, capsys):
    main(["show", "two", "--json"])

    record = json.loads(capsys.readouterr().out)
    assert record["prompt"] == "dallas" and record["scores"]["replacement"] == 0.5


def test_show_tells_machines_the_assay_that_is_current(store, capsys):
    later = replace(ASSAY, conservation=2e-7)
    store.keep_assay("one", later)

    assert main(["show", "one", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["assay"]["conservation"] == 2e-7 == store.assay("one").conservation


def test_show_takes_a_sensible_number_of_paths(store, capsys):
    assert main(["show", "one", "--paths", "0"]) == 0
    assert "strongest" not in capsys.readouterr().out
    for count in ("-2", "1000000000"):
        assert main(["show", "one", "--paths", count]) == 2
        assert f"--paths must be from 0 to 10,000, found {count}" in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
@pytest.mark.parametrize("words", [["list", "--json"], ["show", "one"]])
def test_output_that_goes_nowhere_is_told_without_a_traceback(store, words):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = shlex.join([sys.executable, "-m", "circuits", *words])
    for redirected in (f"{command} > /dev/full", f"{command} >&-"):
        done = subprocess.run(redirected, shell=True, stderr=subprocess.PIPE, text=True, env=environment, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("circuits: ") and "Traceback" not in done.stderr


def test_a_graph_is_found_by_its_folder_too(store, capsys):
    for text in (f"circuits-store/{ids(store)[0]}", str(store.folder.resolve() / ids(store)[0])):
        assert main(["show", text, "--store", "elsewhere"]) == 0
    assert main(["show", "three"]) == 2
    assert "three" in capsys.readouterr().err


def test_draw_writes_the_file_that_is_named(store, tmp_path, capsys):
    assert main(["draw", "one", "-o", "x.csv"]) == 0
    assert capsys.readouterr().out == "wrote x.csv, 0 kB\n"
    assert (tmp_path / "x.csv").read_text().count("\n") == 4

    assert main(["draw", "one", "-o", "y.csv", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_draw_of_several_graphs_fills_a_folder(store, tmp_path, capsys):
    assert main(["draw", "one", "two", "-o", "out/", "--as", "csv", "--json"]) == 0

    expected = [f"{id}.csv" for id in ids(store)]
    assert sorted(os.listdir(tmp_path / "out")) == expected
    assert json.loads(capsys.readouterr().out) == [f"out/{name}" for name in expected]
    assert main(["draw", "one", "two", "-o", "x.csv"]) == 2
    assert "name a folder, x/, and --as csv." in capsys.readouterr().err
    assert main(["draw", "one", "two", "-o", "new", "--as", "csv"]) == 0
    assert sorted(os.listdir(tmp_path / "new")) == expected


def test_draw_without_a_place_puts_the_picture_beside_the_graph(store):
    assert main(["draw", "one", "--as", ".graphml"]) == 0

    assert (store.find("one") / "graph.graphml").exists()


@pytest.mark.parametrize("words", [["one", "-o", "x.jpeg"], ["one", "-o", "nowhere/x.csv"], ["nobody", "-o", "x.csv"]])
def test_what_cannot_be_drawn_is_code_2(store, capsys, words):
    assert main(["draw", *words]) == 2
    assert capsys.readouterr().err.startswith("circuits: ")


def test_choices_about_the_picture_reach_it(store, tmp_path):
    words = "--theme print --font serif --width 8.5 --edges 1 --title Figure --no-legend --no-labels --bos hide"
    assert main(["draw", "one", "-o", "x.svg", *words.split()]) == 0

    svg = (tmp_path / "x.svg").read_text()
    assert 'width="8.5cm"' in svg and "Times New Roman" in svg and ">Figure<" in svg
    assert "drawn: the 1 strongest of 3 edges" in svg and "raises its target" not in svg and ">feature 1<" not in svg
    assert main(["draw", "one", "-o", "y.svg", "--errors", "hide", "--biases", "--least-share", "0.1"]) == 0
    assert "1 error node is not drawn" in (tmp_path / "y.svg").read_text()


def test_a_plot_of_the_assay_is_drawn_by_its_name_and_what_was_not_measured_is_told(store, tmp_path, capsys):
    beside = [Control("graphs of other prompts", "what survives", 0.9, [0.1, 0.2], 0.3)]
    store.keep_assay("one", replace(ASSAY, controls=beside))

    assert main(["draw", "one", "-o", "x.svg", "--plot", "controls", "--theme", "dark"]) == 0
    assert main(["draw", "one", "-o", "y.svg", "--plot", "assay"]) == 0
    assert "the graph 90%; 2 controls" in (tmp_path / "x.svg").read_text()
    assert "not measured: Nodes ablated one by one;" in (tmp_path / "y.svg").read_text()
    capsys.readouterr()
    for words, found in ((["--plot", "doses"], "circuits check"), (["--curves"], "circuits check")):
        assert main(["draw", "one", "-o", "z.svg", *words]) == 2
        assert found in capsys.readouterr().err and not (tmp_path / "z.svg").exists()
    assert main(["draw", "one", "-o", "z.svg", "--plot", "pie"]) == 2
    assert f"{', '.join(PLOTS)}; found 'pie'" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_the_help_names_every_plot_in_the_order_of_the_sheet(capsys):
    with pytest.raises(SystemExit):
        main(["draw", "--help"])

    said = " ".join(capsys.readouterr().out.split())
    assert f"what `check` measured: {', '.join(PLOTS)}; or assay: all" in said


def test_supernodes_are_suggested_or_named_in_a_file(store, tmp_path):
    (tmp_path / "groups.json").write_text('{"the middle": ["feature 1"]}')

    assert main(["draw", "one", "-o", "x.svg", "--supernodes"]) == 0
    assert main(["draw", "one", "-o", "y.svg", "--groups", "groups.json", "--boxes", "5"]) == 0

    assert ">feature 1<" in (tmp_path / "x.svg").read_text()
    assert ">the middle<" in (tmp_path / "y.svg").read_text()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["-o", "x.svg", "--as", "png"], "ends in .svg, but --as says .png"),
        (["-o", ""], "found nothing"),
        (["-o", "folder"], "folder is a folder: name a file in it"),
        (["-o", "folder.svg"], "folder.svg is a folder: name a file in it, folder.svg/x.svg."),
        (["-o", "folder.svg", "--as", "svg"], "folder.svg is a folder"),
        (["-o", "x.csv", "--theme", "dark"], "no picture"),
        (["-o", "x.html", "--theme", "dark"], "no choice 'theme'"),
        (["-o", "x.html", "--plot", "doses"], "every plot of its assay: leave out which"),
        (["-o", "x.svg", "--theme", "pink"], "found 'pink'"),
        (["-o", "x.svg", "--groups", "absent.json"], "absent.json could not be read"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_drawn(store, tmp_path, capsys, words, found):
    for name in ("folder", "folder.svg"):
        (tmp_path / name).mkdir()

    assert main(["draw", "one", *words]) == 2

    assert found in capsys.readouterr().err
    assert not list(tmp_path.glob("x.*")) and not list(tmp_path.glob("folder*/*"))


def test_one_graph_goes_into_a_folder_that_is_written_as_one(store, tmp_path):
    (tmp_path / "folder").mkdir()

    assert main(["draw", "one", "-o", "folder/", "--as", "csv"]) == 0
    assert main(["draw", "two", "-o", "folder", "--as", "csv"]) == 0

    assert sorted(os.listdir(tmp_path / "folder")) == [f"{id}.csv" for id in ids(store)]
