"""Areas under the ROC curve: the value that counting pairs gives, and intervals that cover as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from evals.auc import auc, auc_difference


def test_an_area_is_the_share_of_pairs_in_the_right_order_with_ties_half() -> None:
    labels, scores = [1, 0, 1, 0, 1], [0.9, 0.1, 0.4, 0.4, 0.3]
    pairs = [(p, n) for p, y in zip(scores, labels, strict=True) if y for n in (0.1, 0.4)]
    expected = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs)
    found = auc(labels, scores)
    assert found.value == pytest.approx(expected)
    assert (found.positives, found.n) == (3, 5)
    assert auc(labels, [-one for one in scores]).value == pytest.approx(1 - expected)


def test_nineteen_in_twenty_intervals_hold_the_true_area_and_the_true_difference() -> None:
    rng = np.random.default_rng(0)
    held = difference_held = 0
    for _ in range(300):
        labels = [1] * 60 + [0] * 90
        signal = rng.normal(size=150) + np.array(labels) * 1.0
        other = 0.5 * signal + rng.normal(size=150)
        area = auc(labels, list(signal))
        held += area.low <= 0.7602 <= area.high  # Phi(1 / sqrt 2)
        gap = auc_difference(labels, list(signal), list(other))
        difference_held += gap.low <= 0.7602 - 0.6241 <= gap.high  # Phi(0.5 / sqrt(2 * 1.25))
    assert 0.91 <= held / 300 <= 0.98
    assert 0.91 <= difference_held / 300 <= 0.98


def test_a_difference_is_paired_so_equal_scorers_differ_by_nothing_for_sure() -> None:
    labels, scores = [0, 1, 0, 1, 1, 0], [0.2, 0.9, 0.5, 0.4, 0.8, 0.1]
    same = auc_difference(labels, scores, [2 * one for one in scores])
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_labels_of_one_kind_have_no_area() -> None:
    with pytest.raises(ValueError, match="positive and negative"):
        auc([1, 1], [0.1, 0.2])
