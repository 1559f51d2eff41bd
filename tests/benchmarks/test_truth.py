"""Methods on transformers compiled from programs: what is found there is known."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.truth import judge, load_compiled, load_examples, ranking, recall
from circuits.edge_scores import read_logits

TRUTH = Path(__file__).parents[3] / "shared" / "truth"
PROGRAMS = ["hist", "hist_soft", "induction", "reverse", "shift1", "sort", "sort_unique_soft", "xproportion"]
needs_truth = pytest.mark.skipif(not TRUTH.is_dir(), reason=f"{TRUTH} is not there: exact edges untested")


@needs_truth
@pytest.mark.parametrize("program", PROGRAMS)
def test_patching_every_edge_finds_the_program_and_nothing_else(program):
    assert judge(TRUTH / program, ("exact",)) == {"exact": (1.0, 1.0)}


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
