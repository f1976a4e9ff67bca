"""Standard errors, intervals and tests against values worked out by hand or by scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evals.statistics import (
    BOOTSTRAP,
    EXACT,
    distance_from_half,
    estimate,
    estimate_with,
    holm,
    paired_difference,
    sample_of,
    win_rate_at_equal_length,
)


def test_the_mean_and_its_standard_error_are_those_of_scipy() -> None:
    values = [0.0, 1.0, 1.0, 0.25, 0.5, 0.75, 1.0]
    made = estimate(values, seed=0)
    assert made.value == pytest.approx(np.mean(values))
    assert made.stderr == pytest.approx(stats.sem(values))
    assert (made.n, made.unscored) == (7, 0)


def test_a_missing_value_is_counted_and_is_not_zero() -> None:
    made = estimate([1.0, None, 0.0, None, 1.0], seed=0)
    assert made.value == pytest.approx(2 / 3)
    assert made.stderr == pytest.approx(1 / 3)
    assert (made.n, made.unscored) == (3, 2)


def test_nothing_scored_is_an_error_and_not_a_zero() -> None:
    with pytest.raises(ValueError, match="no item has a value"):
        estimate([None, None], seed=0)
    with pytest.raises(ValueError, match="no item has a value"):
        estimate_with([], len, seed=0)


def test_weights_give_the_mean_of_the_parts_and_an_error_clustered_by_item() -> None:
    """Item values .5, 1 and 0 of 2, 1 and 3 instructions: 2 of 6 are followed."""
    made = estimate([0.5, 1.0, 0.0], seed=0, weights=[2, 1, 3])
    assert made.value == pytest.approx(2 / 6)
    residuals = [2 * (0.5 - 1 / 3), 1 * (1 - 1 / 3), 3 * (0 - 1 / 3)]
    assert made.stderr == pytest.approx(math.sqrt(3 / 2 * sum(r * r for r in residuals)) / 6)


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(1).random(60)
    made = estimate(list(values), seed=0).interval
    theirs = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=5).confidence_interval
    assert made.low == pytest.approx(theirs.low, abs=0.004)
    assert made.high == pytest.approx(theirs.high, abs=0.004)
    assert made.method == "bootstrap over items, 10,000 resamples"


def test_the_interval_holds_the_true_value_about_95_times_in_a_hundred() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for trial in range(200):
        interval = estimate(list((rng.random(80) < 0.4).astype(float)), seed=trial).interval
        held += interval.low <= 0.4 <= interval.high
    assert 180 <= held <= 199


@pytest.mark.parametrize(("value", "low", "high"), [(0.0, 0.0, 0.3085), (1.0, 0.6915, 1.0)])
def test_all_items_equal_give_the_exact_binomial_interval(value: float, low: float, high: float) -> None:
    """Ten of ten: the lower end is .025 ** (1 / 10) = .6915 (Clopper and Pearson 1934)."""
    interval = estimate([value] * 10, seed=0).interval
    assert interval.low == pytest.approx(low, abs=1e-4)
    assert interval.high == pytest.approx(high, abs=1e-4)
    assert "exact binomial" in interval.method


@pytest.mark.parametrize("n", [1, 10])
def test_equal_items_between_0_and_1_leave_room_for_the_others_that_there_may_be(n: int) -> None:
    """n equal items: others make up at most 1 - .025 ** (1 / n), and these lie within 0 and 1."""
    others = stats.binomtest(0, n).proportion_ci(0.95, method="exact").high
    interval = estimate([0.25] * n, seed=0).interval
    assert (interval.low, interval.high) == pytest.approx((0.25 - others * 0.25, 0.25 + others * 0.75))
    assert "all items are equal" in interval.method


def test_the_interval_of_few_items_that_are_mostly_equal_holds_the_true_mean() -> None:
    """Three items, .3 nine times of ten, else 1: the mean is .37, which three equal items must not exclude."""
    rng = np.random.default_rng(4)
    equal = [values for values in (np.where(rng.random(3) < 0.9, 0.3, 1.0) for _ in range(200)) if values.std() == 0]
    assert len(equal) > 100
    assert all(
        low <= 0.37 <= high for low, high in ((i.low, i.high) for i in (estimate(v, seed=0).interval for v in equal))
    )


@pytest.mark.parametrize("values", [[3.5], [7.0, 7.0], [1.0, 1.0, 1.0]])
def test_equal_items_without_bounds_have_no_interval(values: list[float]) -> None:
    interval = estimate(values, seed=0, bounded=False).interval
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert interval.method.startswith("none")
    assert paired_difference([0.0] * len(values), values, seed=0, bounded=False).interval.low == -math.inf
    assert estimate_with(values, lambda items: float(np.mean(items)), seed=0).interval.high == math.inf


def test_one_pair_and_equal_differences_leave_room_within_minus_1_and_1() -> None:
    one = paired_difference([0.9], [0.1], seed=0)
    assert (one.interval.low, one.interval.high) == pytest.approx((-0.8 - 0.975 * 0.2, -0.8 + 0.975 * 1.8))
    same = paired_difference([0.5] * 60, [0.5] * 60, seed=0).interval
    assert -same.low == same.high == pytest.approx(1 - 0.025 ** (1 / 60))


def test_a_record_that_names_the_method_of_before_is_made_again_by_it() -> None:
    """Before equal items had a rule of their own, the bootstrap gave them no width, and ones of any unit the exact interval."""
    before = estimate([0.25, 0.25], seed=0, stated=BOOTSTRAP).interval
    assert (before.low, before.high, before.method) == (0.25, 0.25, BOOTSTRAP)
    exact = estimate([1.0] * 10, seed=0, bounded=False, stated=EXACT).interval
    assert (exact.low, exact.method) == (pytest.approx(0.6915, abs=1e-4), EXACT)


def test_equal_seeds_give_equal_intervals_and_other_seeds_others() -> None:
    values = list(np.random.default_rng(3).random(30))
    assert estimate(values, seed=1) == estimate(values, seed=1)
    assert estimate(values, seed=1).interval != estimate(values, seed=2).interval


def test_a_custom_aggregation_is_resampled_by_item() -> None:
    values = list(np.random.default_rng(4).random(50))
    made = estimate_with(values, lambda items: float(np.mean(items)), seed=0, unscored=3)
    assert made.value == pytest.approx(np.mean(values))
    assert made.stderr == pytest.approx(stats.sem(values), rel=0.1)
    assert (made.n, made.unscored) == (50, 3)


def test_the_distance_from_a_half_of_fair_coins_may_be_nothing() -> None:
    rng = np.random.default_rng(7)
    coins = [distance_from_half(estimate(list(rng.integers(0, 2, 200).astype(float)), seed=0)) for _ in range(40)]
    assert sum(coin.interval.low == 0 for coin in coins) >= 34
    assert all(coin.interval.low <= coin.value <= coin.interval.high for coin in coins)
    biased = distance_from_half(estimate([1.0] * 30 + [0.0] * 170, seed=0))
    assert biased.value == pytest.approx(0.35)
    assert 0.25 < biased.interval.low < 0.35 < biased.interval.high < 0.45


def test_a_paired_difference_has_the_error_of_the_differences_and_not_of_the_sides() -> None:
    rng = np.random.default_rng(5)
    before = rng.random(40)
    after = before + 0.05 + 0.02 * rng.standard_normal(40)
    made = paired_difference(list(before), list(after), seed=0)
    assert made.difference == pytest.approx(np.mean(after - before))
    assert made.stderr == pytest.approx(stats.sem(after - before))
    assert made.stderr < stats.sem(after) / 5
    assert made.interval.low > 0
    assert made.p_two_sided < 0.001
    assert made.p_upper < 0.001 < 0.999 < made.p_lower


def test_few_pairs_are_tested_exactly() -> None:
    """Three items that all got better by the same: of 8 ways to choose signs, 1 is as high and 2 as far from zero."""
    made = paired_difference([0, 0, 0, 1], [1, 1, 1, 1], seed=0)
    assert (made.p_two_sided, made.p_upper, made.p_lower) == (2 / 8, 1 / 8, 1.0)
    assert made.test == "exact"


def test_zeros_and_ones_give_mcnemars_exact_test() -> None:
    before = [0.0] * 9 + [1.0] * 2 + [1.0] * 20
    after = [1.0] * 9 + [0.0] * 2 + [1.0] * 20
    made = paired_difference(before, after, seed=0)
    assert made.p_two_sided == pytest.approx(stats.binomtest(9, 11).pvalue)
    assert made.p_upper == pytest.approx(stats.binomtest(9, 11, alternative="greater").pvalue)


def test_many_pairs_are_tested_by_random_signs_close_to_scipys() -> None:
    rng = np.random.default_rng(6)
    before, after = rng.random(50), rng.random(50) + 0.1
    made = paired_difference(list(before), list(after), seed=0)
    theirs = stats.permutation_test(
        (after, before),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=7,
    ).pvalue
    assert made.p_two_sided == pytest.approx(theirs, abs=0.015)


def test_nothing_that_differs_is_no_evidence() -> None:
    made = paired_difference([1, 0, 1], [1, 0, 1], seed=0)
    assert (made.difference, made.p_two_sided, made.stderr) == (0, 1, 0)


def test_weights_count_in_a_paired_difference() -> None:
    made = paired_difference([0.0, 0.5], [1.0, 0.5], seed=0, weights=[3, 1])
    assert made.difference == pytest.approx(0.75)


def test_sides_of_different_length_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="same items"):
        paired_difference([1.0], [1.0, 0.0], seed=0)


def test_holm_multiplies_step_by_step_and_never_decreases() -> None:
    """Sorted .01, .02, .03, .04 times 4, 3, 2, 1: .04, .06, .06 and .06, for a later one is no smaller."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_win_rate_at_equal_length_takes_away_what_length_explains() -> None:
    rng = np.random.default_rng(8)
    longer = rng.integers(-40, 60, 400).astype(float)
    wins = (rng.random(400) < 1 / (1 + np.exp(-longer / 10))).astype(float)
    assert wins.mean() > 0.55, "longer answers win, and these are longer"
    assert win_rate_at_equal_length(list(wins), list(longer)) == pytest.approx(0.5, abs=0.06)


def test_the_win_rate_at_equal_length_is_that_of_a_logistic_regression() -> None:
    from scipy.optimize import minimize

    rng = np.random.default_rng(9)
    d, y = rng.normal(0, 20, 60), rng.choice([0.0, 0.5, 1.0], 60)
    x = np.tanh(d / d.std())

    def loss(beta: np.ndarray) -> float:
        z = beta[0] + beta[1] * x
        return float(np.sum(np.logaddexp(0, z) - y * z) + 0.5 * 0.01 * beta[1] ** 2 + 0.5 * 1e-6 * beta[0] ** 2)

    best = minimize(loss, np.zeros(2), tol=1e-12).x
    assert win_rate_at_equal_length(list(y), list(d)) == pytest.approx(1 / (1 + math.exp(-best[0])), abs=1e-5)


@pytest.mark.parametrize(("slope", "shift"), [(2.0, 1.0), (4.0, 1.0), (4.0, 1.5)])
def test_answers_that_win_by_their_length_alone_win_half_at_equal_length(slope: float, shift: float) -> None:
    d = np.random.default_rng(1).normal(shift, 1, 4000)
    wins = 1 / (1 + np.exp(-slope * np.tanh(d / d.std())))
    assert wins.mean() > 0.7
    assert win_rate_at_equal_length(list(wins), list(d)) == pytest.approx(0.5, abs=0.001)


def test_equal_lengths_leave_nothing_to_control_for_and_one_sided_ones_tell_nothing() -> None:
    assert win_rate_at_equal_length([1.0, 0.0, 0.5], [3.0, 3.0, 3.0]) is None
    assert win_rate_at_equal_length([1.0, 1.0, 1.0], [3.0, 4.0, 9.0]) is None


def test_a_sample_keeps_the_proportions_of_its_strata_and_follows_its_seed() -> None:
    strata = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    drawn = sample_of(strata, 20, seed=1)
    assert [sum(strata[index] == name for index in drawn) for name in "abc"] == [12, 6, 2]
    assert drawn == sorted(set(drawn)) == sample_of(strata, 20, seed=1)
    assert drawn != sample_of(strata, 20, seed=2)
    assert drawn != list(range(20)), "a sample, not the first"
    assert sample_of(strata, 500, seed=1) == list(range(100))


def test_a_sample_has_exactly_the_size_asked_for_where_proportions_are_no_whole_numbers() -> None:
    strata = ["a", "a", "a", "b", "b", "c", "d"]
    assert all(len(sample_of(strata, size, seed=0)) == size for size in range(1, 8))


def test_resamples_without_a_value_are_left_out_and_an_aggregation_without_one_is_refused() -> None:
    def share_of_known(items: list[float | None]) -> float:
        known = [item for item in items if item is not None]
        return sum(known) / len(known) if known else float("nan")

    made = estimate_with([1.0, 0.0, None, None], share_of_known, seed=0)
    assert made.value == 0.5
    assert made.interval.low == 0
    assert made.interval.high == 1
    with pytest.raises(ValueError, match="not defined"):
        estimate_with([None, None], share_of_known, seed=0)
