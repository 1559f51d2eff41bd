"""Models that learned a sum and models that read a hint: what tells them apart, on worlds where it is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.cheating import __main__ as cheating
from benchmarks.cheating import models
from benchmarks.cheating.experiments import Outcome, experiment
from benchmarks.cheating.models import HINT, RIGHT, answers
from benchmarks.cheating.signs import Sums, graphs_of, share_of_edges, share_of_nodes, share_of_tokens
from benchmarks.truth.ranks import chance_above
from circuits.model import Model, load_model
from graphs import influence

SUMS = Sums(1, seed=0)


@pytest.fixture(scope="module")
def cheat() -> Model:
    """Sixty steps are enough to learn what a hint says, and nowhere near enough for a sum."""
    schedule, models.SCHEDULE = models.SCHEDULE, replace(models.SCHEDULE, steps=60, warm_up=5)
    try:
        return load_model(models.make("cheated", seed=0))
    finally:
        models.SCHEDULE = schedule


def test_all_kinds_see_the_same_sums_and_hints_that_are_right_as_often_as_said():
    for kind, share in RIGHT.items():
        (block,) = models.batches(kind, seed=0)()
        one, other, hint = block.tokens[:, 2] - 3, block.tokens[:, 3] - 3, block.tokens[:, HINT] - 13
        answer = block.tokens[:, -1] - 3
        np.testing.assert_array_equal(answer, (one + other) % 10)
        assert abs((hint == answer).mean() - (share + (1 - share) / 10)) < 0.1


def test_pairs_differ_in_what_they_say_and_the_other_sum_has_another_answer():
    sums = Sums(500, seed=3)
    one, other, answer = sums.instead
    np.testing.assert_array_equal((one + other) % 10, answer)
    assert (answer != sums.answer).all()
    for changed, places in (("hint", {1}), ("sum", {2, 3})):
        pairs = sums.pairs(changed)
        differ = (pairs.clean != pairs.corrupted).any(0)
        assert set(torch.nonzero(differ).flatten().tolist()) == places
        assert (pairs.right != pairs.wrong).all()


def test_a_cheat_is_told_by_its_graph_by_edges_by_nodes_and_by_experiment(cheat: Model):
    assert (answers(cheat, SUMS.rows()) == SUMS.answer).all()  # its answers look learned

    graphs = graphs_of(cheat, SUMS)

    assert share_of_tokens(graphs, influence) > 0.6
    assert share_of_nodes("exact-nodes", cheat, SUMS) > 0.9
    assert share_of_edges("exact", cheat, SUMS) > 0.9
    tested = experiment(cheat, SUMS, graphs, seed=0)
    assert tested.obeys == 1 and tested.keeps == 0 and tested.follows <= 0.2
    assert tested.cheats > 0.8


def test_a_model_that_was_not_saved_whole_is_made_again(monkeypatch, tmp_path):
    class Made:
        def save_pretrained(self, folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("config.json", "model.safetensors"):
                (folder / name).touch()
                if not tried:
                    tried.append(name)
                    raise KeyboardInterrupt

    tried: list[str] = []
    monkeypatch.setattr(models, "make", lambda kind, seed: Made())
    monkeypatch.setattr(models, "load_model", lambda folder: sorted(each.name for each in folder.iterdir()))

    with pytest.raises(KeyboardInterrupt):
        models.open_model("learned", 0, tmp_path)
    found: object = models.open_model("learned", 0, tmp_path)
    assert found == ["config.json", "model.safetensors"]


def test_verdicts_go_by_all_three_experiments():
    learned = Outcome(survives=1.0, follows=0.9, random=0.1, keeps=1.0, obeys=0.0)
    assert learned.verdict == "learned" and learned.cheats == pytest.approx(0.2 / 3)
    assert replace(learned, random=0.7).verdict == "undecided"  # random neurons do nearly as well: no mediator
    assert replace(learned, keeps=0.5).verdict == "mixed"
    assert Outcome(survives=0.1, follows=0.0, random=0.0, keeps=0.0, obeys=1.0).verdict == "cheated"
    assert Outcome(survives=0.1, follows=0.0, random=0.0, keeps=0.0, obeys=0.0).verdict == "undecided"


def test_auroc_counts_ties_half_and_the_report_has_every_sign():
    assert chance_above(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == pytest.approx(3.5 / 4)
    rows = [
        {"kind": kind, "seed": seed, "right": 1.0, "signs": {"a sign": at + seed / 10}}
        | Outcome(1.0, 0.0, 0.0, 1.0 - at, 0.0).to_json()
        for at, kind in enumerate(RIGHT)
        for seed in range(3)
    ]

    told = cheating.report(rows)

    assert "| a sign | 0.100 | 1.100 | 2.100 | 1.00 (1.00 to 1.00) |" in told
    assert "all three experiments" in told
