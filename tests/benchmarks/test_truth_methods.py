"""Methods held to what is true: how they are judged, and what is known of some."""

import json
from statistics import mean, stdev

import numpy as np
import pytest

from benchmarks.truth import TRUTHS, __main__
from benchmarks.truth.judging import judge
from benchmarks.truth.ranks import area_under_roc, average_precision, sizes_of
from benchmarks.truth.scoring import score


def judged(name, *methods, **options):
    """The scores of methods on a program, by method and by what they were held to."""
    return {(each.method, each.what): each.score for each in judge(TRUTHS[name](), methods=methods, **options)}


def test_a_score_counts_above_a_millionth_of_the_largest_and_order_counts_with_ties_by_half():
    true = np.array([True, True, False, False])
    found = score(np.array([-1.0, 1e-9, 0.0, 0.0]), true)

    assert (found.recall, found.precision, found.ranking, found.needed) == (0.5, 1.0, 0.75, 4)
    assert (found.of, found.true) == (4, 2)
    assert area_under_roc(np.array([3.0, 2.0, 1.0, 0.5]), true) == 1.0
    assert area_under_roc(np.ones(4), true) == average_precision(np.ones(4), true) == 0.5
    assert sizes_of(np.array([[-4.0, 1e-7]])).tolist() == [[4.0, 0.0]]


def test_average_precision_is_that_at_each_true_one():
    true = np.array([True, False, True, False])

    assert average_precision(np.array([4.0, 3.0, 2.0, 1.0]), true) == pytest.approx((1 + 2 / 3) / 2)
    assert score(np.array([4.0, 3.0, 2.0, 1.0]), true).needed == 3
    assert np.isnan(score(np.zeros(2), np.zeros(2, dtype=bool)).recall)


@pytest.mark.parametrize("ablation", ["resample", "mean"])
def test_exact_patching_has_all_edges_and_nodes_and_no_others(ablation):
    found = judged("duplicate", "exact", "exact-nodes", ablation=ablation)

    for of in (("exact", "edges"), ("exact-nodes", "nodes")):
        assert (found[of].recall, found[of].precision, found[of].ranking, found[of].needed) == (1, 1, 1, found[of].true)


def test_scores_drawn_by_lot_rank_as_chance_does():
    truth = TRUTHS["cancelling"]()
    lots = [next(judge(truth, methods=["random"], seed=seed)).score.ranking for seed in range(40)]

    assert abs(mean(lots) - 0.5) < 1.96 * stdev(lots) / len(lots) ** 0.5
    assert stdev(lots) > 0.05


def test_gradients_stop_at_saturated_patterns_and_pass_soft_ones():
    methods = ("eap", "clean-corrupted", "relp", "eap-ig")
    hard, soft = judged("induction", *methods), judged("induction-soft", *methods)

    assert [hard[method, "edges"].recall for method in methods] == [0.4, 0.4, 0.4, 1.0]
    assert [soft[method, "edges"].recall for method in methods] == [1.0] * 4


def test_edges_that_get_no_score_are_counted_by_what_reads_them():
    truth = TRUTHS["maximum"]()
    (missed,) = (each.missed for each in judge(truth, methods=["eap"]) if each.what == "edges")

    assert missed == {"queries or keys": 1, "values": 0, "MLPs": 0, "logits": 0}


def test_more_steps_find_what_changes_within_less_than_one():
    few, many = (judged("counting", "eap-ig", steps=steps)["eap-ig", "edges"].recall for steps in (10, 100))

    assert few < many


def test_against_the_wiring_single_cuts_miss_what_redundancy_hides():
    found = judged("either", "exact", "eap-ig", "acdc")

    assert found["exact", "designed edges"].recall == 0.2
    assert found["eap-ig", "designed edges"].recall == 1.0
    assert found["acdc", "designed edges"].recall == 0.6  # one of the two ways


def test_the_command_writes_every_judgement_and_a_report(tmp_path, monkeypatch):
    monkeypatch.setattr(__main__, "RESULTS", tmp_path)
    monkeypatch.setattr(__main__, "TRUTHS", {"maximum": TRUTHS["maximum"]})
    monkeypatch.setattr(__main__, "SEEDS", 3)
    monkeypatch.setattr("sys.argv", ["benchmarks.truth"])

    __main__.main()

    columns, *rows = json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))["rows"]
    exact = [dict(zip(columns, row, strict=True)) for row in rows if "exact" in row and "edges" in row]
    text = (tmp_path / "truth.md").read_text(encoding="utf-8")
    assert len(exact) == 4 and all(row["ranking"] == row["recall"] == row["precision"] == 1 for row in exact)
    assert "| exact | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 | 1 of 1 |" in text
    assert "\n## 1 programs compiled here\n" in text and "with Tracr\n" not in text


def test_a_folder_without_programs_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmarks.truth", str(tmp_path)])

    with pytest.raises(SystemExit) as ended:
        __main__.main()

    assert ended.value.code == 2 and f"no program is in {tmp_path}" in capsys.readouterr().err
