"""A reward model's report on held-out pairs: accuracy, interval, calibration and length, against values worked by hand."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from scipy.stats import binomtest

from training.data import Preference
from training.pair_report import (
    calibration_error,
    clustered_auc,
    correlation,
    length_class,
    pair_report,
    wilson,
    with_interval,
)
from training.sequence_logprobs import Learned, loss_change

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


def test_an_auc_counts_the_pairs_that_are_in_order_and_ties_as_half() -> None:
    good, bad = [("a", 2.0), ("b", 1.0)], [("c", 1.0), ("d", 0.0), ("e", 3.0)]
    auc, _ = clustered_auc(good, bad)  # 2 above 1 and 0, 1 level with 1 and above 0
    assert auc == pytest.approx((2 + 0.5 + 1) / 6)
    assert clustered_auc([("a", 1.0)], [("a", 0.0)]) == (1.0, None)  # one prompt says nothing of others
    assert clustered_auc([("a", 1.0)], [("b", 0.0), ("c", 0.0)]) == (1.0, None)  # nor does one good answer of good ones
    assert clustered_auc([("a", 1.0), ("b", 2.0)], [("c", 0.0), ("d", 0.5)]) == (1.0, None)  # 0 would claim certainty


@pytest.mark.parametrize("shared", [False, True])
def test_the_error_of_an_auc_is_how_it_varies_when_prompts_are_drawn_anew(shared: bool) -> None:
    """Prompts in common make good and bad answers' scores go together, so the difference between them varies less."""

    def drawn(number: random.Random) -> tuple[float, float | None]:
        good, bad = [], []
        for prompt in range(80):
            level = number.gauss(0, 1)
            good.append((f"{prompt}", level + number.gauss(0.5, 0.5)))
            level = level if shared else number.gauss(0, 1)
            bad.append((f"{prompt}" if shared else f"other {prompt}", level + number.gauss(0, 0.5)))
        return clustered_auc(good, bad)

    numbers = random.Random(0)
    found = [drawn(numbers) for _ in range(400)]
    spread = statistics.stdev(auc for auc, _ in found)
    assert statistics.fmean(stderr for _, stderr in found if stderr is not None) == pytest.approx(spread, rel=0.12)
    assert (spread < 0.03) == shared


def test_a_change_of_loss_is_over_all_tokens_and_its_error_over_rows() -> None:
    before = [Learned(-8.0, 4), Learned(-3.0, 1), Learned(-5.0, 5)]
    assert loss_change(before, [Learned(row.total + 0.5 * row.tokens, row.tokens) for row in before]) == (-0.5, 0.0)
    change, stderr = loss_change(before, [Learned(-6.0, 4), Learned(-4.0, 1), Learned(-4.0, 5)])
    assert change == pytest.approx(-2 / 10)
    # what each row changed, less what its tokens would at the mean: -2 + .8, 1 + .2, -1 + 1
    assert stderr == pytest.approx(math.sqrt(3 * (1.44 + 1.44 + 0.0) / 2) / 10)
    assert loss_change(before[:1], [Learned(-6.0, 4)]) == (-0.5, None), "a single row says nothing of others"


def test_an_interval_is_two_standard_errors_wide_on_either_side() -> None:
    found = with_interval("gain", 0.5, 0.1)
    assert found == pytest.approx({"gain": 0.5, "gain_stderr": 0.1, "gain_low": 0.304, "gain_high": 0.696}, abs=1e-3)
    assert with_interval("gain", 0.5, None) == {"gain": 0.5, "gain_stderr": None, "gain_low": None, "gain_high": None}


def test_one_pair_has_no_standard_error_and_the_interval_that_wilson_gives_one() -> None:
    found = pair_report([pair(30, 10)], [2.0], [0.0])
    assert (found["heldout_accuracy"], found["heldout_accuracy_stderr"]) == (1.0, None)
    assert found["heldout_accuracy_low"] == pytest.approx(0.207, abs=1e-3)
