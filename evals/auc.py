"""The area under the ROC curve with its interval, and the paired difference of two scorers on the same texts.

    auc([0, 1, 1, 0], scores)                       # Auc(value=..., interval=..., positives=2, n=4)
    auc_difference(labels, mine, theirs)            # mine - theirs, for the two are measured on equal texts

Variances are those of DeLong, DeLong and Clarke-Pearson (1988) in closed form: the area is a mean over pairs of one
positive and one negative text, and a text's part in it is how many texts of the other kind it stands on the right side of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from training.records import Record

Array = NDArray[np.float64]
Z = float(norm.ppf(0.975))


class Auc(Record):
    """An area, or a difference of two, with its 95% interval."""

    value: float
    low: float
    high: float
    positives: int
    n: int


def auc(labels: Sequence[int], scores: Sequence[float]) -> Auc:
    """The probability that a positive text scores above a negative one, ties half.

    Raises ValueError where one of the two kinds is missing.
    """
    positive, negative = _placements(labels, scores)
    value = float(positive.mean())
    spread = Z * float(np.sqrt(_variance(positive) + _variance(negative)))
    return Auc(
        value=value,
        low=max(0.0, value - spread),
        high=min(1.0, value + spread),
        positives=len(positive),
        n=len(positive) + len(negative),
    )


def auc_difference(labels: Sequence[int], mine: Sequence[float], theirs: Sequence[float]) -> Auc:
    """The area of `mine` less that of `theirs`, paired by text."""
    (p1, n1), (p2, n2) = _placements(labels, mine), _placements(labels, theirs)
    value = float(p1.mean() - p2.mean())
    spread = Z * float(np.sqrt(_variance(p1 - p2) + _variance(n1 - n2)))
    return Auc(value=value, low=value - spread, high=value + spread, positives=len(p1), n=len(p1) + len(n1))


def _placements(labels: Sequence[int], scores: Sequence[float]) -> tuple[Array, Array]:
    """For each positive the share of negatives below it, for each negative the share of positives above it."""
    y, s = np.asarray(labels, bool), np.asarray(scores, float)
    if len(y) != len(s):
        raise ValueError(f"{len(y)} labels but {len(s)} scores")
    m, n = int(y.sum()), int((~y).sum())
    if m == 0 or n == 0:
        raise ValueError("an area under the ROC curve needs positive and negative texts")
    everywhere, among_positive, among_negative = rankdata(s), rankdata(s[y]), rankdata(s[~y])
    return (everywhere[y] - among_positive) / n, 1 - (everywhere[~y] - among_negative) / m


def _variance(placements: Array) -> float:
    """Variance of their mean; 0 where there is one."""
    return float(np.var(placements, ddof=1) / len(placements)) if len(placements) > 1 else 0.0
