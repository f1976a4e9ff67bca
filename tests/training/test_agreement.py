"""Krippendorff's alpha and Bradley-Terry strengths, held against published worked examples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training.agreement import agreement, alpha, nominal, ordinal
from training.ratings import Comparison, bradley_terry, profile_interval, rate

# Krippendorff 2011, section C: four observers, twelve units; a point is a missing value.
OBSERVERS = ["1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."]
# The same, section A: two observers of ten units with values 0 and 1.
TWO = ["0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"]
# American League East, 1987 (Agresti, Categorical Data Analysis): wins of the row's team over the column's.
TEAMS = ["Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore"]
WINS = [
    [0, 7, 9, 7, 7, 9, 11],
    [6, 0, 7, 5, 11, 9, 9],
    [4, 6, 0, 7, 7, 8, 12],
    [6, 8, 6, 0, 6, 7, 10],
    [6, 2, 6, 7, 0, 7, 12],
    [4, 4, 5, 6, 6, 0, 6],
    [2, 4, 1, 3, 1, 7, 0],
]
STRENGTHS = [1.581, 1.436, 1.294, 1.248, 1.108, 0.684, 0.0]  # with Baltimore at 0


def units(observers: list[str]) -> list[list[str]]:
    columns = zip(*(row.split() for row in observers), strict=True)
    return [[value for value in column if value != "."] for column in columns]


def test_alpha_is_that_of_krippendorffs_examples() -> None:
    assert alpha(units(OBSERVERS), nominal) == pytest.approx(0.743, abs=5e-4)
    assert alpha(units(OBSERVERS), ordinal, "12345") == pytest.approx(0.815, abs=5e-4)
    assert alpha(units(TWO), nominal) == pytest.approx(0.095, abs=5e-4)


def test_alpha_is_one_where_all_agree_and_below_zero_where_they_agree_to_differ() -> None:
    assert alpha([["x", "x"], ["y", "y", "y"]], nominal) == 1.0
    found = alpha([["x", "y"], ["y", "x"]], nominal)
    assert found is not None
    assert found < 0


def test_alpha_is_not_defined_where_no_unit_has_two_values_or_nothing_differs() -> None:
    assert alpha([["x"], ["y"]], nominal) is None
    assert alpha([["x", "x"], ["x", "x"]], nominal) is None
    assert alpha([], nominal) is None


def test_the_interval_of_alpha_holds_it_and_is_the_seeds() -> None:
    found = agreement(units(OBSERVERS), nominal, seed=3)
    assert found == agreement(units(OBSERVERS), nominal, seed=3)
    assert found.low is not None
    assert found.alpha is not None
    assert found.high is not None
    assert found.low < found.alpha <= found.high
    assert (found.units, found.values) == (11, 40)  # the twelfth unit has one value


def test_strengths_are_those_of_a_published_league() -> None:
    found = bradley_terry(np.array(WINS, float), ridge=0.0)
    assert found - found[-1] == pytest.approx(STRENGTHS, abs=2e-3)


def test_two_systems_stand_apart_by_the_log_odds_of_a_win() -> None:
    strength = bradley_terry(np.array([[0.0, 30.0], [10.0, 0.0]]), ridge=0.0)
    assert strength[0] - strength[1] == pytest.approx(math.log(3))
    assert strength.sum() == pytest.approx(0)


def test_a_system_that_always_wins_has_a_finite_strength() -> None:
    ratings = rate([Comparison("new", "old", 1.0, f"prompt {n}") for n in range(8)])
    assert [rating.system for rating in ratings] == ["new", "old"]
    assert 1 < ratings[0].strength < 10
    assert ratings[0].low > 0 > ratings[1].high


def test_equal_wins_leave_equal_strengths_and_an_interval_around_zero() -> None:
    games = [Comparison("new", "old", float(n % 2), f"prompt {n}") for n in range(20)]
    games += [Comparison("old", "new", 0.5, "prompt 20")]
    first, second = rate(games)
    assert first.strength == pytest.approx(second.strength, abs=1e-9)
    assert first.low < 0 < first.high
    assert (first.wins, first.comparisons) == (10.5, 21)


def test_a_model_that_won_everything_has_an_interval_that_narrows_with_the_votes() -> None:
    few, many = (rate([Comparison("new", "old", 1.0, f"prompt {n}") for n in range(size)])[0] for size in (3, 60))
    assert few.high - few.low > many.high - many.low > 1
    assert few.low < 0 < many.low


def test_alpha_of_one_unit_has_no_interval() -> None:
    found = agreement([["first", "second", "first"]], nominal)
    assert (found.low, found.high) == (None, None)


def test_the_profile_interval_of_two_is_where_the_likelihood_ratio_crosses_the_chi_square() -> None:
    wins = np.array([[0.0, 8.0], [0.0, 0.0]])
    low, high = profile_interval(wins, 0, ridge=1e-6)
    # 2 * 8 * log(1 + exp(-2 b)) = 3.8415 by hand, for strengths b and -b
    assert low == pytest.approx(-np.log(np.exp(3.841459 / 16) - 1) / 2, abs=1e-4)
    assert high > 4


def test_the_profile_interval_of_one_of_three_depends_on_no_order_of_them() -> None:
    wins = np.array([[0.0, 7.0, 9.0], [3.0, 0.0, 6.0], [1.0, 4.0, 0.0]])
    low, high = profile_interval(wins, 0)
    order = [2, 0, 1]
    assert profile_interval(wins[np.ix_(order, order)], 1) == pytest.approx((low, high), abs=1e-6)
    assert low < bradley_terry(wins)[0] < high


def test_a_comparison_of_a_system_with_itself_is_a_win_of_nobody() -> None:
    fair = [Comparison("a", "b", float(n % 2), str(n)) for n in range(8)]
    own = [Comparison("a", "a", 1.0, str(n)) for n in range(20)]
    assert rate([*fair, *own]) == rate(fair)
    assert {rating.comparisons for rating in rate([*fair, *own])} == {8}
    assert rate(own) == []
