"""Runs of the benchmark: every method on a tiny task, going on where they were, rows that mean what they say."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.bench import running
from benchmarks.bench.across import compare_cells
from benchmarks.bench.cells import Cell, recall_cell
from benchmarks.bench.curves import Course, run_circuits, run_ends
from benchmarks.bench.folders import bench
from benchmarks.bench.levels import LEVELS
from benchmarks.bench.measures import SIZES
from benchmarks.bench.methods import BATCH, GRAPH_METHODS, METHODS
from benchmarks.bench.plans import plan
from benchmarks.bench.presets import PRESETS
from benchmarks.bench.rows import UNTESTED, read_rows, write_rows
from benchmarks.bench.running import WHOLE, run_plan
from benchmarks.bench.situations import MEASURED, prepare
from benchmarks.bench.truths import measure_truth
from benchmarks.truth import TRUTHS
from circuits.components.ablations import resample
from circuits.components.finding import find
from circuits.components.metrics import logit_difference
from circuits.components.opening import transformer_of
from circuits.components.pairs import Pairs, gather
from circuits.errors import BadOption, BadPairs, UnsupportedModel
from tests.benchmarks.test_bench_measures import WEIGHTS
from tests.circuits.worlds import dictionary_of, model_of

SMALL = replace(
    PRESETS["quick"],
    **{"pairs": 6, "draws": 40, "controls": 2, "parts": 2, "resamples": 2, "removed": 3, "graph_controls": 3},
)


@pytest.fixture(scope="module")
def model():
    return model_of("gpt2")


@pytest.fixture(scope="module")
def task(model, tmp_path_factory):
    """Eighteen pairs of a random model, the right answer being the one that the corrupted prompt lowers most."""
    path, numbers, lines = tmp_path_factory.mktemp("bench") / "tiny.jsonl", np.random.default_rng(0), []
    for at in range(18):
        clean, corrupted = (numbers.integers(0, model.vocabulary, size=5).tolist() for _ in range(2))
        logits = [model.run(torch.tensor([each]))[0][0, -1] for each in (clean, corrupted)]
        fall = logits[0] - logits[1]
        answers = {"right": int(fall.argmax()), "wrong": int(fall.argmin()), "phrasing": "even odd".split()[at % 2]}
        lines.append(json.dumps({"clean": clean, "corrupted": corrupted, **answers}))
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def planned(task, *methods, **options):
    return replace(plan([task], ["tiny"], methods=methods, **options), preset=SMALL)


def rows_of(plan, folder, model, **options):
    return [row for _, result in run_plan(plan, folder, lambda name: model, **options) for row in result.rows]


@pytest.mark.parametrize("method", [*METHODS, *GRAPH_METHODS])
def test_every_method_gives_rows_that_mean_what_they_say(method, model, task, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "load_transcoders", lambda name, model: dictionary_of(model, "per-layer"))
    rows = rows_of(planned(task, method, transcoders="a set"), tmp_path, model)

    ours = [row for row in rows if row.method == method]
    assert ours and not [row for row in ours if row.metric == UNTESTED], ours[0].says
    assert all(row.low <= row.value + 1e-9 and row.value <= row.high + 1e-9 for row in ours if row.low == row.low)
    assert all(row.seconds >= 0 for row in ours)
    if method in GRAPH_METHODS:
        assert {"graph replacement", "graph completeness", "graph nodes"} <= {row.metric for row in ours}
        return
    assert {row.ablation for row in ours} == {"resample"}
    for split in ("validation", "test"):
        for ranked in ("size", "value"):
            curve = [
                row.value
                for row in sorted((row for row in ours if row.metric == "faithfulness"), key=lambda row: row.size)
                if (row.split, row.ranked) == (split, ranked)
            ]
            assert len(curve) == len(SIZES) and curve[-1] == pytest.approx(1.0, abs=1e-9)
            area = [row.value for row in ours if (row.metric, row.split, row.ranked) == ("cpr", split, ranked)]
            assert area == [pytest.approx(np.dot(WEIGHTS, curve))]
    whole = next(row for row in ours if row.metric == "completeness" and row.size == 1.0)
    if METHODS[method].level == "edges":  # of nodes the tokens are left
        assert whole.value == pytest.approx(1.0, abs=1e-9)
    matched = {row.metric for row in ours if "matched random" in row.metric}
    assert bool(matched) == ("random" not in method)


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_many_circuits_at_once_are_what_each_would_be_alone(family):
    model = model_of(family)
    numbers = np.random.default_rng(1)
    prompts = numbers.integers(0, model.vocabulary, size=(2, 4, 5)).tolist()
    records = [
        (str(at), {"clean": one, "corrupted": other, "right": 1, "wrong": 2})
        for at, (one, other) in enumerate(zip(*prompts, strict=True))
    ]
    pairs = gather(model, records)
    found = find(model, pairs, method="eap", edges=9)
    transformer = transformer_of(model)
    level = LEVELS["edges"](transformer)
    course = Course(transformer, pairs, logit_difference, resample)

    ends = run_ends(course)
    nothing = np.zeros_like(found.chosen)
    runs = run_circuits(course, [found.chosen, level.units, nothing, found.chosen], level.carry)

    assert ends.clean.mean() == pytest.approx(found.clean)
    assert ends.ablated.mean() == pytest.approx(found.corrupted)
    assert runs.metric[0].mean() == pytest.approx(found.kept)
    np.testing.assert_allclose(runs.metric[1], ends.clean, atol=1e-9)
    np.testing.assert_allclose(runs.metric[2], ends.ablated, atol=1e-9)
    np.testing.assert_array_equal(runs.metric[3], runs.metric[0])
    assert (runs.divergence[0] >= 0).all() and runs.divergence[1].max() < 1e-12


@pytest.mark.parametrize("name", list(LEVELS))
def test_shuffled_scores_are_the_same_ones_in_the_same_layers(name, model):
    level = LEVELS[name](transformer_of(model))
    scores = np.random.default_rng(0).normal(size=level.units.shape) * level.units

    shuffled = level.shuffle(scores, 3)

    assert not np.array_equal(shuffled, scores)
    for group in np.unique(level.groups[level.units]):
        here = level.units & (level.groups == group)
        np.testing.assert_array_equal(np.sort(shuffled[here]), np.sort(scores[here]))
    np.testing.assert_array_equal(level.shuffle(scores, 3), shuffled)


class Killed(Exception):
    """What stops a run in the middle, in place of kill -9."""


def test_a_killed_run_goes_on_where_it_was(model, task, tmp_path):
    run, said = planned(task, "eap", "atp", seeds=[0, 1]), []

    def kill(words):
        said.append(words)
        if len(said) == 4:
            raise Killed

    with pytest.raises(Killed):
        rows_of(run, tmp_path / "killed", model, tell=kill)
    (tmp_path / "killed/cells/.half-written.npz.1").write_bytes(b"no cell")
    rows_of(run, tmp_path / "killed", model, tell=said.append)

    assert len(said) == run.cells == 10
    assert said[4].startswith("5 of 10: ") and "about" in said[4]
    again = rows_of(run, tmp_path / "killed", model, tell=said.append)
    assert len(said) == run.cells  # nothing was computed
    whole = rows_of(run, tmp_path / "whole", model)
    measured = [
        [replace(row, seconds=0.0, peak_memory=0.0) for row in sorted(rows, key=lambda row: row.place)]
        for rows in (again, whole)
    ]
    assert repr(measured[0]) == repr(measured[1])


def test_what_failed_is_a_row_and_is_tried_again_by_the_next_run(model, task, tmp_path, monkeypatch):
    run, said = planned(task, "eap"), []

    def fail(*given):
        raise BadOption("the disk was full.")

    with monkeypatch.context() as broken:
        broken.setattr(running, "measure_cell", fail)
        rows = rows_of(run, tmp_path, model, tell=said.append)
    assert {row.method: row.says for row in rows if row.metric == UNTESTED} == dict.fromkeys(
        ("eap", "random"), "the disk was full."
    )
    assert [", not measured" in each for each in said] == [False, True, True]

    rows = rows_of(run, tmp_path, model, tell=said.append)
    assert not [row for row in rows if row.metric == UNTESTED]
    assert len(said) == 5 and all("the model" not in each for each in said[3:])  # which had not failed


def test_the_same_cells_give_the_same_file_byte_by_byte_and_damaged_ones_are_computed_again(model, task, tmp_path):
    run = planned(task, "eap")
    files = []
    for name in ("one", "two"):
        found = run_plan(run, tmp_path, lambda name: model)
        rows = [row for _, result in found for row in result.rows] + compare_cells(found)
        write_rows(rows, tmp_path / f"{name}.parquet")
        files.append((tmp_path / f"{name}.parquet").read_bytes())
    assert files[0] == files[1]

    cell = next((tmp_path / "cells").glob("*eap*"))
    cell.write_bytes(cell.read_bytes()[:100])
    assert recall_cell(cell) is None
    said = []
    rows_of(run, tmp_path, model, tell=said.append)
    assert len(said) == 1 and ", eap, " in said[0]


def test_other_pairs_or_numbers_are_another_question(model, task, tmp_path):
    said = []
    rows_of(planned(task, "eap"), tmp_path, model, tell=said.append)
    rows_of(replace(planned(task, "eap"), preset=replace(SMALL, draws=41)), tmp_path, model, tell=said.append)

    assert len(said) == 6  # the model, eap and random, twice


def test_rows_come_back_as_they_were_written(model, task, tmp_path):
    rows = rows_of(planned(task, "eap"), tmp_path, model)
    write_rows(rows, tmp_path / "rows.parquet")

    assert repr(read_rows(tmp_path)) == repr(sorted(rows, key=lambda row: row.place))
    assert len({row.place for row in rows}) == len(rows)


def test_what_a_model_cannot_take_is_a_row_that_says_why(model, task, tmp_path):
    rows = rows_of(replace(plan(["ioi"], ["tiny"], methods=["eap", "direct"]), preset=SMALL), tmp_path, model)

    assert {row.metric for row in rows} == {UNTESTED}
    assert {row.method for row in rows} == {WHOLE, "eap", "random", "direct"}
    assert all("tokenizer" in row.says or "ioi" in row.says for row in rows), rows[0].says


def test_a_task_that_the_model_does_not_do_is_not_measured(model, task, tmp_path):
    lines = [json.loads(line) for line in open(task, encoding="utf-8")]
    undone = tmp_path / "undone.jsonl"
    swapped = [{**line, "right": line["wrong"], "wrong": line["right"]} for line in lines]
    undone.write_text("\n".join(map(json.dumps, swapped)), encoding="utf-8")

    rows = rows_of(planned(str(undone), "eap"), tmp_path, model)

    told = {row.method: row for row in rows if row.metric == UNTESTED}
    assert set(told) == {"eap", "random"}
    assert "no difference for a circuit to keep" in told["eap"].says
    assert {"clean", "ablated", "accuracy"} <= {row.metric for row in rows if row.method == WHOLE}


def test_a_file_that_holds_no_pairs_is_refused(model, tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"clean": "a"}\n', encoding="utf-8")

    with pytest.raises(BadPairs, match="lacks corrupted"):
        rows_of(planned(str(tmp_path / "bad.jsonl"), "eap"), tmp_path, model)


def test_seeds_and_exact_scores_are_compared_across_cells(model, task, tmp_path):
    found = run_plan(planned(task, "eap", "exact", "random", seeds=[0, 1, 2]), tmp_path, lambda name: model)

    rows = compare_cells(found)

    ranks = {row.method: row.value for row in rows if row.metric == "rank correlation with exact" and row.seed == 0}
    assert set(ranks) == {"eap", "random"} and ranks["eap"] > 0.5 > abs(ranks["random"])
    seeds = {row.method: row.value for row in rows if row.metric == "jaccard over seeds" and row.size == 0.5}
    assert seeds["exact"] > seeds["random"]
    whole = [row.value for row in rows if row.metric == "jaccard over seeds" and row.size == 1.0]
    assert whole == [1.0] * 3


def test_circuits_of_other_features_are_compared_by_name(model, task, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "load_transcoders", lambda name, model: dictionary_of(model, "per-layer"))
    asked = planned(task, "atp-features", seeds=[0, 1], transcoders="a set")

    found = run_plan(replace(asked, preset=replace(SMALL, features=8)), tmp_path, lambda name: model)

    mine = [(cell, result) for cell, result in found if cell.method == "atp-features"]
    alike = {row.size: row.value for row in compare_cells(mine) if row.metric == "jaccard over seeds"}
    told = [result.arrays for _, result in mine]
    assert set(told[0]["names"]) != set(told[1]["names"])
    for at, size in enumerate(SIZES):
        one, other = (set(each["names"][each["chosen"][at]]) for each in told)
        if one | other:
            assert alike[size] == pytest.approx(len(one & other) / len(one | other))
    assert 0 < alike[1.0] < 1


@pytest.mark.parametrize("ablation", ["zero", "mean", "optimal"])
def test_features_are_ablated_as_neurons_are(ablation, model, task, monkeypatch):
    monkeypatch.setattr("circuits.components.optimal_constants.STEPS", 1)
    lines = [json.loads(line) for line in open(task, encoding="utf-8")]
    splits = {name: lines[at::3] for at, name in enumerate(("train", *MEASURED))}
    numbers = {"features": 8, "parts": 2, "draws": 40}

    made = prepare(
        model,
        transformer_of(model),
        splits,
        ablation,
        level="features",
        dictionary=lambda: dictionary_of(model, "per-layer"),
        **numbers,
    )

    level, ends = LEVELS["features"](made.transformer), made.ends["test"]
    circuits = [np.zeros_like(level.units), np.ones_like(level.units)]
    nothing, everything = run_circuits(made.courses["test"], circuits, level.carry).metric
    np.testing.assert_allclose(nothing, ends.ablated, atol=1e-9)
    np.testing.assert_allclose(everything, ends.clean, atol=1e-9)


def test_on_a_known_circuit_patching_is_perfect_and_chance_is_chance():
    truth = TRUTHS["previous"]()
    area = {}
    for method in ("exact", "random", "exact-nodes", "random-nodes"):
        rows = measure_truth(Cell(truth.name, "compiled", method, "resample", 0), truth).rows
        area[method] = next(row for row in rows if row.metric == "auroc")

    assert area["exact"].value == area["exact-nodes"].value == 1.0
    for method in ("random", "random-nodes"):
        assert area[method].value == pytest.approx(0.5, abs=0.1)
        assert area[method].low < 0.5 < area[method].high
    with pytest.raises(BadOption, match="neurons"):
        measure_truth(Cell(truth.name, "compiled", "atp-neurons", "resample", 0), truth)


def test_a_metric_that_is_of_all_pairs_of_a_program_is_given_them_together():
    truth = TRUTHS["majority"]()
    twice = Pairs(**{name: torch.cat([column, column]) for name, column in vars(truth.pairs).items()})
    weights = torch.linspace(1, 2, len(twice), dtype=torch.float64)
    weighed = replace(truth, pairs=twice, metric=lambda logits, *given: weights * logit_difference(logits, *given))

    rows = measure_truth(Cell("majority", "compiled", "eap", "resample", 0), weighed).rows

    assert len(twice) > BATCH
    assert next(row for row in rows if row.metric == "auroc").value == 1.0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tasks": ["nonsense"]}, "there is no task 'nonsense'"),
        ({"methods": ["guess"]}, "there is no method 'guess'"),
        ({"ablations": ["fire"]}, "there is no ablation 'fire'"),
        ({"preset": "huge"}, "a preset is one of quick, full"),
    ],
)
def test_a_plan_is_checked_before_anything_is_computed(given, said):
    with pytest.raises(BadOption, match=said):
        plan(**given)


def test_a_name_that_a_task_and_a_program_share_is_the_tasks_unless_it_is_asked_otherwise(tmp_path):
    assert plan(["induction"]).tasks == ("induction",) and not plan(["induction"]).truths
    assert plan(["truth:induction", "previous"]).truths == ("truth:induction", "truth:previous")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.jsonl").touch()
    with pytest.raises(BadOption, match="2 tasks are called 'mine'"):
        plan([str(tmp_path / folder / "mine.jsonl") for folder in ("one", "two")])


def test_a_model_that_is_not_known_here_is_a_row_too(task, tmp_path):
    def refuse(name):
        raise UnsupportedModel("its parts are not known")

    found = run_plan(planned(task, "eap"), tmp_path, refuse)

    assert [row.says for _, result in found for row in result.rows] == ["its parts are not known"]


@pytest.mark.parametrize("methods", [["eap"], ["eap", "atp"]])
def test_a_run_without_a_number_of_any_circuit_is_refused_and_one_with_some_is_not(methods, model, task, tmp_path):
    def run(*tasks):
        asked = replace(plan(tasks, ["tiny"], methods=methods), preset=SMALL)
        return bench(asked, tmp_path, lambda name: model, command="", preset="quick")

    with pytest.raises(BadOption, match=r"nothing could be measured: .*ioi.*Name other tasks"):
        run("ioi")
    rows = run("ioi", "induction", task)  # what it can do is as many cells as what failed without a method
    assert {row.task for row in rows if row.metric != UNTESTED} == {"tiny"}


def test_random_circuits_stand_beside_whatever_is_asked_for():
    assert plan(["ioi"], ["m"], methods=["eap"]).methods == ("eap", "random")
    assert plan(["ioi"], ["m"], methods=["atp", "atp-neurons"]).methods[2:] == ("random-nodes", "random-neurons")
    assert math.isfinite(plan().cells) and plan().tasks and plan().truths
