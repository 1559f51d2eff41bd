"""What a curve of faithfulness comes to, how sure that is, and how ranks and overlaps are counted."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from benchmarks.bench.bootstrap import draw_weights, interval, share_kept
from benchmarks.bench.measures import SIZES, distance, log_area, performance, smallest
from benchmarks.bench.overlap import jaccard, pairwise, weighted_jaccard
from benchmarks.truth.ranks import area_under_roc, average_precision, recall, size_with_all

# METHODS 8.7, as published.
WEIGHTS = (0.0005, 0.002, 0.004, 0.0075, 0.02, 0.04, 0.075, 0.2, 0.4, 0.25)
LOG_WEIGHTS = (0.050, 0.117, 0.117, 0.100, 0.117, 0.117, 0.100, 0.117, 0.117, 0.050)


def test_every_size_has_its_published_weight():
    each_alone = np.eye(len(SIZES))

    np.testing.assert_allclose(performance(each_alone), WEIGHTS, atol=1e-12)
    np.testing.assert_allclose(log_area(each_alone), LOG_WEIGHTS, atol=1e-3)  # given to three digits
    assert sum(WEIGHTS[7:]) == pytest.approx(0.85)
    curve = np.linspace(-0.3, 1.4, len(SIZES))
    assert performance(curve) == pytest.approx(np.dot(WEIGHTS, curve))
    assert distance(curve) == pytest.approx(np.dot(WEIGHTS, np.abs(1 - curve)))


def test_circuits_that_work_only_at_full_size_get_the_published_random_row():
    only_whole = np.array([0.0] * 9 + [1.0])

    assert performance(only_whole) == 0.25
    assert distance(only_whole) == pytest.approx(0.749)
    assert log_area(np.ones(10)) == pytest.approx(1.0)


def test_the_smallest_circuit_counts_only_if_all_larger_ones_reach_the_bar_too():
    rising = np.array([0.0, 0.1, 0.2, 0.5, 0.7, 0.85, 0.95, 1.0, 1.0, 1.0])
    dips = rising.copy()
    dips[7] = 0.6

    assert smallest(rising, 0.8) == 5
    assert smallest(rising, 0.9) == 6
    assert smallest(dips, 0.8) == 8
    assert smallest(rising * 0.5, 0.8) == np.inf
    np.testing.assert_array_equal(smallest(np.stack([rising, dips, np.ones(10)]), 0.8), [5, 8, 0])


def test_the_share_kept_is_a_ratio_of_means_not_a_mean_of_ratios():
    clean, ablated, kept = np.array([10.0, 1.0]), np.zeros(2), np.array([[10.0, 0.0]])
    weights = draw_weights(2, draws=3)

    assert share_kept(weights, clean, ablated, kept)[0] == pytest.approx(10 / 11)
    assert np.isnan(share_kept(weights, ablated, ablated, kept)).all()


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    numbers, held, rounds, truth = np.random.default_rng(0), 0, 300, 0.6
    for at in range(rounds):
        clean = numbers.normal(5, 1, size=50)
        kept = truth * clean + numbers.normal(0, 0.5, size=50)
        drawn = share_kept(draw_weights(50, draws=200, seed=at), clean, np.zeros(50), kept[None])[:, 0]
        _, low, high = interval(drawn)
        held += low <= truth <= high

    assert 0.90 <= held / rounds <= 0.98


def test_an_interval_with_a_draw_that_is_no_number_says_so():
    value, low, high = interval(np.array([1.0, np.nan, 2.0]))

    assert value == 1.0 and np.isnan(low) and np.isnan(high)
    assert interval(np.array([0.1, 0.1, np.inf]))[1:] == (0.1, np.inf)


def test_the_area_under_roc_is_that_of_counting_all_pairs_ties_as_halves():
    numbers = np.random.default_rng(1)
    scores, true = numbers.integers(-3, 4, size=40).astype(float), numbers.random(40) < 0.3
    size = np.abs(scores)
    pairs = [float(one > other) + 0.5 * float(one == other) for one in size[true] for other in size[~true]]

    assert area_under_roc(scores, true) == pytest.approx(np.mean(pairs))
    assert area_under_roc(np.zeros(40), true) == 0.5
    tau = kendalltau(size, true, variant="b").statistic
    assert np.sign(tau) == np.sign(area_under_roc(scores, true) - 0.5)


def test_scores_that_are_rounding_are_no_scores():
    scores, true = np.array([1.0, 1e-30, 0.0, 0.5]), np.array([True, True, False, False])

    assert recall(scores, true) == 0.5
    assert area_under_roc(scores, true) == pytest.approx((2 + 0.5) / 4)
    assert size_with_all(scores, true) == np.inf
    assert size_with_all(np.array([3.0, 1.0, 1.0, 2.0]), true) == 4


def test_precision_is_averaged_over_the_true_ones():
    true = np.array([True, False, True, False])

    assert average_precision(np.array([4.0, 3.0, 2.0, 1.0]), true) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.zeros(4), true) == 0.5


def test_overlaps_of_circuits():
    one, other = np.array([True, True, False, False]), np.array([True, False, True, False])

    assert jaccard(one, other) == 1 / 3
    assert jaccard(one, one) == 1
    assert np.isnan(jaccard(~one & one, ~one & one))
    assert weighted_jaccard(np.array([1.0, -1.0]), np.array([3.0, 3.0])) == 1
    assert weighted_jaccard(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(0.5 / 1.5)
    assert pairwise(jaccard, [one, one, other]) == (pytest.approx((1 + 1 / 3 + 1 / 3) / 3), 1 / 3, 1.0)
