"""Methods on transformers compiled from programs: what is found there is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.truth import (
    judge,
    judge_nodes,
    judge_search,
    load_compiled,
    load_examples,
    ranking,
    recall,
    true_edges,
)
from circuits.attribution.exact_edges import patch_every_edge
from circuits.components.ablations import ABLATIONS
from circuits.components.edge_scores import components_of, read_logits

TRUTH = Path(__file__).parents[3] / "shared" / "truth"
PROGRAMS = ["hist", "hist_soft", "induction", "reverse", "shift1", "sort", "sort_unique_soft", "xproportion"]
needs_truth = pytest.mark.skipif(not TRUTH.is_dir(), reason=f"{TRUTH} is not there: exact edges untested")


@needs_truth
@pytest.mark.parametrize("program", PROGRAMS)
def test_patching_every_edge_finds_the_program_and_nothing_else(program):
    assert judge(TRUTH / program, ("exact",)) == {"exact": (1.0, 1.0)}


@needs_truth
@pytest.mark.parametrize("program", ["reverse", "shift1", "sort", "xproportion"])
def test_patching_every_head_and_mlp_finds_those_of_the_program_and_nothing_else(program):
    assert judge_nodes(TRUTH / program, ("exact-nodes",)) == {"exact-nodes": (1.0, 1.0)}


@needs_truth
@pytest.mark.parametrize("program", ["hist", "shift1"])
def test_taking_edges_out_leaves_nothing_that_is_not_the_programs(program):
    left, of, others = judge_search(TRUTH / program)

    assert (left, others) == (of, 0)


@needs_truth
@pytest.mark.parametrize(
    ("ablation", "name"),
    [("resample", "resample"), ("zero", "zero"), ("mean", "mean"), ("mean-by-position", "mean_positional")],
)
def test_what_patching_finds_under_each_ablation_is_what_matters_under_it(ablation, name):
    transformer = load_compiled(TRUTH / "hist")
    pairs, _ = load_examples(TRUTH / "hist")
    edges, true = components_of(transformer).edges, true_edges(TRUTH / "hist", transformer, name)
    ablate = ABLATIONS[ablation](transformer, [pairs], lambda name, done, total: None)

    def moved(logits, pairs, clean, say):
        return -(logits - clean).abs().sum(-1)

    found = sum(
        patch_every_edge(transformer, replace(pairs, position=0 * pairs.position + at), moved, ablation=ablate)
        for at in range(1, pairs.clean.shape[1])
    )

    assert ((found.numpy() > 1e-3) == (true & edges)).all()


@needs_truth
def test_a_compiled_transformer_gives_the_programs_answers():
    transformer = load_compiled(TRUTH / "sort")
    pairs, metric = load_examples(TRUTH / "sort")

    logits = read_logits(transformer, transformer.run(transformer.embed(pairs.clean)).after, pairs)

    assert (logits.argmax(-1) == pairs.right).all()
    assert (metric(logits, pairs, logits, lambda each: each) > 0.9).all()


@needs_truth
def test_gradients_through_a_saturated_pattern_miss_edges_that_points_between_the_prompts_find():
    judged = judge(TRUTH / "sort", ("eap", "eap-ig", "random"))

    assert judged["eap"][0] == pytest.approx(3 / 7)
    assert judged["eap-ig"][0] == 1.0
    assert judged["random"][1] < judged["eap-ig"][1]


def test_recall_asks_for_a_score_and_the_ranking_for_order_with_ties_by_half():
    true = np.array([True, True, False, False])

    assert recall(np.array([1.0, 1e-9, 0.0, 0.0]), true) == 0.5
    assert ranking(np.array([1.0, 1e-9, 0.0, 0.0]), true) == 0.75
    assert ranking(np.array([-3.0, 2.0, 1.0, 0.5]), true) == 1.0
    assert ranking(np.ones(4), true) == 0.5
