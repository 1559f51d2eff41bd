"""The three tests over examples, against chance itself: drawn worlds in which the answer is known."""

import numpy as np
import pytest
from scipy import stats

from circuits.assaying.hypotheses import find_equivalence, find_independence, find_needed, holm


def test_a_circuit_that_scores_higher_half_the_time_is_shown_equivalent_by_enough_examples():
    numbers = np.random.default_rng(0)
    model = numbers.normal(size=400)
    circuit = model + numbers.normal(size=400)

    many, few = find_equivalence(circuit, model), find_equivalence(circuit[:40], model[:40])

    assert many.p_equivalent < 0.05 < many.p_differs
    assert few.p_equivalent > 0.05 and few.p_differs > 0.05  # too few to say either
    worse = find_equivalence(model - np.abs(circuit), model)
    assert worse.share == 0 and worse.p_differs < 1e-6 and worse.p_equivalent > 0.9


def test_the_chances_are_those_of_the_binomial():
    """Ten examples, nine higher, one lower: by counting, at a true share of 0.6."""
    model = np.zeros(10)
    found = find_equivalence(np.array([1.0] * 9 + [-1.0]), model)

    at_least_nine = 10 * 0.6**9 * 0.4 + 0.6**10
    at_most_one = 10 * 0.4**9 * 0.6 + 0.4**10
    assert found.share == 0.9
    assert found.p_differs == pytest.approx(at_least_nine + at_most_one)
    assert found.p_equivalent == pytest.approx(1 - 0.6**10)  # at most nine of ten, were it 0.6
    assert find_equivalence(model, model).share == 0.5


def test_at_the_margin_a_true_difference_is_claimed_no_more_often_than_promised():
    numbers = np.random.default_rng(1)
    claimed = 0
    for _ in range(400):
        higher = numbers.random(60) < 0.6
        claimed += find_equivalence(np.where(higher, 1.0, -1.0), np.zeros(60)).p_equivalent <= 0.05
    assert claimed / 400 <= 0.07


def test_what_still_follows_the_model_is_not_independent():
    numbers = np.random.default_rng(2)
    model = numbers.normal(size=80)

    _, p_curved = find_independence(
        model**2 + 0.1 * numbers.normal(size=80), model
    )  # no correlation, yet not independent
    _, p_apart = find_independence(numbers.normal(size=80), model)

    assert abs(stats.pearsonr(model**2, model).statistic) < 0.5
    assert p_curved < 0.01 and p_apart > 0.05
    reached, p_constant = find_independence(np.ones(80), model)
    assert reached == pytest.approx(0, abs=1e-12) and p_constant == 1


def test_parts_matter_that_outdo_nearly_all_random_ones():
    reference = np.linspace(0, 1, 100)
    matters = find_needed(np.array([2.0, -3.0, 0.5, 0.93]), reference)
    assert matters.tolist() == [True, True, False, False]
    assert not find_needed(np.array([2.0]), reference[:10]).any()  # ten are too few to say it


def test_holm_stops_at_the_first_that_fails():
    p = np.array([0.04, 0.001, 0.012, 0.03])
    assert holm(p, 0.05).tolist() == [False, True, True, False]  # 0.03 > 0.05 / 2
    assert holm(np.array([]), 0.05).tolist() == []
    assert holm(np.array([0.01, 0.02]), 0.05).all()
