"""A reward model's report on held-out pairs: accuracy, interval, calibration and length, against values worked by hand."""

from __future__ import annotations

import math

import pytest
from scipy.stats import binomtest

from training.data import Preference
from training.pair_report import calibration_error, correlation, length_class, pair_report, wilson

USER = [{"role": "user", "content": "Hi"}]


def pair(chosen: int, rejected: int) -> Preference:
    return Preference(USER, "x" * chosen, "y" * rejected)


def test_a_report_on_four_pairs_is_what_a_hand_computes() -> None:
    rows = [pair(30, 10), pair(10, 30), pair(20, 20), pair(22, 20)]
    found = pair_report(rows, [2.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, -3.0])
    assert found["heldout_pairs"] == 4
    assert found["heldout_accuracy"] == (1 + 0 + 0.5 + 1) / 4
    assert found["heldout_longer_wins"] == (1 + 0 + 0.5 + 1) / 4
    assert found["heldout_margin"] == (2 - 1 + 0 + 3) / 4
    losses = [math.log1p(math.exp(-margin)) for margin in (2, -1, 0, 3)]
    assert found["heldout_log_loss"] == pytest.approx(sum(losses) / 4)
    assert (found["heldout_accuracy_chosen_much_longer"], found["heldout_pairs_chosen_much_longer"]) == (1.0, 1.0)
    assert (found["heldout_accuracy_chosen_much_shorter"], found["heldout_accuracy_chosen_alike"]) == (0.0, 0.75)
    assert "heldout_accuracy_chosen_longer" not in found  # there are none
    assert found["heldout_length_correlation"] > 0


def test_length_classes_have_their_bounds() -> None:
    lengths = [(10, 30), (20, 30), (28, 30), (30, 28), (30, 20), (30, 10)]
    expected = ["much_shorter", "shorter", "alike", "alike", "longer", "much_longer"]
    assert [length_class(pair(*each)) for each in lengths] == expected


def test_scores_that_say_what_is_true_are_calibrated_and_bold_ones_are_not() -> None:
    three_in_four = math.log(3)  # sigmoid of it is 0.75
    assert calibration_error([three_in_four] * 3 + [-three_in_four]) == pytest.approx(0.0)
    assert calibration_error([50.0] * 3 + [-50.0]) == pytest.approx(0.25)
    assert calibration_error([0.0]) == pytest.approx(0.0)  # an even chance, half right


@pytest.mark.parametrize(("right", "n"), [(0, 10), (7, 10), (51, 56), (10, 10)])
def test_the_interval_is_wilsons(right: int, n: int) -> None:
    interval = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right / n, n) == (pytest.approx(interval.low, abs=1e-6), pytest.approx(interval.high, abs=1e-6))


def test_correlation_is_pearsons_and_zero_without_variation() -> None:
    assert correlation([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == pytest.approx(1.0)
    assert correlation([1.0, 2.0], [5.0, 5.0]) == 0.0
