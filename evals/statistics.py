"""Standard errors, intervals and tests for scores: pure functions on arrays, seeded, without loops over resamples.

    estimate([1, 0, None, 1], seed=7)        # Estimate(value=.667, stderr=.333, interval=..., n=3, unscored=1)
    paired_difference(before, after, seed=7)  # of the items that both have
    holm([.01, .04, .2])                      # adjusted p-values

An item is the unit that is resampled. What hangs together (the instructions of one prompt, the samples of one prompt)
is one item with a value and a weight, so every interval here is clustered by item: the score is sum(w v) / sum(w).
A value of None is missing: it is left out of the score and counted.

Items that are all equal (one item is) show no spread to resample, and no interval here pretends that there is none. Of n
equal items, others make up at most 1 - .025^(1/n) with 97.5% confidence (Clopper and Pearson 1934), and where values are
bounded these move the mean by so much at most. Values without bounds then have no interval: its ends are infinite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from evals.scorecard import Interval

RESAMPLES = 10_000
CUSTOM_RESAMPLES = 1_000  # an aggregation that is a Python function is called once a resample
PERMUTATIONS = 10_000
EXACT_UP_TO = 13  # sign flips of so many differences are all tried: 2^13
BLOCK = 2_000_000  # numbers held at a time while resampling
BOOTSTRAP = f"bootstrap over items, {RESAMPLES:,} resamples"
EXACT = "exact binomial: all items are equal"
OF_DISTANCE = ", of the share whose distance from a half it is"
EQUAL = "exact binomial for the share of other items, within 0 and 1: all items are equal"
PAIRED = f"paired bootstrap over items, {RESAMPLES:,} resamples"
PAIRED_EQUAL = "exact binomial for the share of other differences, within -1 and 1: all differences are equal"
NONE = "none: what is all equal does not bound what others would give"

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A score of one run."""

    value: float
    stderr: float
    interval: Interval
    n: int
    unscored: int


@dataclass(frozen=True)
class PairedDifference:
    """after - before over the items that both have; p values of sign-flip permutation tests.

    `p_two_sided` asks whether they differ, `p_lower` whether the difference is below zero, `p_upper` above.
    """

    difference: float
    stderr: float
    interval: Interval
    p_two_sided: float
    p_lower: float
    p_upper: float
    test: str
    n: int


def estimate(
    values: Sequence[float | None],
    *,
    seed: int,
    weights: Sequence[float] | None = None,
    bounded: bool = True,
    stated: str | None = None,
) -> Estimate:
    """The weighted mean of the items that have a value, with a percentile bootstrap over items.

    `bounded`: values lie within 0 and 1 whatever the model. `stated` is the interval's method in a record that is made again:
    before equal items had a rule, those of 0 or 1 had the exact binomial interval and all others the bootstrap's, of no width.
    Raises ValueError where nothing is scored.
    """
    v, w = _scored(values, weights)
    if len(v) == 0:
        raise ValueError("no item has a value")
    value = float(np.sum(w * v) / np.sum(w))
    equal, before = bool(np.all(v == v[0])), stated in (BOOTSTRAP, EXACT)
    if equal and v[0] in (0.0, 1.0) and (bounded or before):
        exact = stats.binomtest(round(float(v.sum())), len(v)).proportion_ci(0.95, method="exact")
        interval = Interval(low=float(exact.low), high=float(exact.high), method=EXACT)
    elif equal and not before:
        interval = _of_equal(float(v[0]), len(v), (0.0, 1.0) if bounded else None, EQUAL)
    else:
        low, high = np.percentile(_resampled_ratio(w * v, w, seed), [2.5, 97.5])
        interval = Interval(low=float(low), high=float(high), method=BOOTSTRAP)
    return Estimate(value, ratio_stderr(v, w), interval, len(v), len(values) - len(v))


def estimate_with(
    items: Sequence[Any],
    aggregate: Callable[[list[Any]], float],
    *,
    seed: int,
    unscored: int = 0,
    resamples: int = CUSTOM_RESAMPLES,
) -> Estimate:
    """A score by any aggregation of the items (corpus BLEU, F1), its standard error and interval by bootstrap.

    A resample that the aggregation has no value for (BBQ's bias score where every drawn answer is "unknown") is left out.
    Where all resamples give the same there is no interval: nothing is known of the aggregation's bounds.
    Raises ValueError where nothing is scored, or the aggregation has no value for the items or for most resamples.
    """
    items = list(items)
    if not items:
        raise ValueError("no item has a value")
    rng = np.random.default_rng(seed)
    drawn = [aggregate([items[i] for i in rng.integers(0, len(items), len(items))]) for _ in range(resamples)]
    value = float(aggregate(items))
    drawn = [one for one in drawn if np.isfinite(one)]
    if not np.isfinite(value) or 2 * len(drawn) < resamples:
        raise ValueError("the metric's aggregation is not defined for these items")
    low, high = np.percentile(drawn, [2.5, 97.5])
    method = f"bootstrap over items, {len(drawn):,} resamples of the aggregation"
    if min(drawn) == max(drawn):
        low, high, method = -np.inf, np.inf, f"none: all of {len(drawn):,} resamples of the aggregation are equal"
    return Estimate(
        value,
        float(np.std(drawn, ddof=1)),
        Interval(low=float(low), high=float(high), method=method),
        len(items),
        unscored,
    )


def distance_from_half(share: Estimate) -> Estimate:
    """|share - 0.5| with its interval: the distances of all shares within the share's interval, which may be 0.

    Not the bootstrap of the distance itself, which is above 0 in nearly every resample and so would never contain it.
    """
    low, high = share.interval.low - 0.5, share.interval.high - 0.5
    return replace(
        share,
        value=abs(share.value - 0.5),
        interval=Interval(
            low=0.0 if low <= 0 <= high else min(abs(low), abs(high)),
            high=max(abs(low), abs(high)),
            method=share.interval.method + OF_DISTANCE,
        ),
    )


def ratio_stderr(v: Array, w: Array) -> float:
    """Standard error of sum(w v) / sum(w) by linearisation; s / sqrt(n) where all weights are equal."""
    n = len(v)
    if n < 2:
        return 0.0
    residual = w * (v - np.sum(w * v) / np.sum(w))
    return float(np.sqrt(n / (n - 1) * np.sum(residual**2)) / np.sum(w))


def paired_difference(
    before: Sequence[float],
    after: Sequence[float],
    *,
    seed: int,
    weights: Sequence[float] | None = None,
    bounded: bool = True,
) -> PairedDifference:
    """after - before, item by item: paired bootstrap for the interval, sign flips for the p values.

    Under the hypothesis of no difference each item's difference is as likely to have either sign. With values of 0
    and 1 this is McNemar's test. `bounded`: values lie within 0 and 1. Raises ValueError where there are no pairs.
    """
    if len(before) != len(after) or len(before) == 0:
        raise ValueError("a paired test needs the same items, at least one, on both sides")
    a, b = np.asarray(before, float), np.asarray(after, float)
    w = np.ones(len(a)) if weights is None else np.asarray(weights, float)
    difference = b - a
    value = float(np.sum(w * difference) / np.sum(w))
    if np.all(difference == difference[0]):
        interval = _of_equal(float(difference[0]), len(a), (-1.0, 1.0) if bounded else None, PAIRED_EQUAL)
    else:
        low, high = np.percentile(_resampled_ratio(w * difference, w, seed), [2.5, 97.5])
        interval = Interval(low=float(low), high=float(high), method=PAIRED)
    two, lower, upper, test = _sign_flip(w * difference, seed)
    return PairedDifference(value, ratio_stderr(difference, w), interval, two, lower, upper, test, len(a))


def _of_equal(value: float, n: int, bounds: tuple[float, float] | None, method: str) -> Interval:
    """The interval of a mean of n values that are all equal, which lie within the bounds, if there are any."""
    if bounds is None or not bounds[0] <= value <= bounds[1]:
        return Interval(low=-np.inf, high=np.inf, method=NONE)
    others = 1 - 0.025 ** (1 / n)
    low, high = (value + others * (bound - value) for bound in bounds)
    return Interval(low=low, high=high, method=method)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for the number of comparisons, step-down (Holm 1979)."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def win_rate_at_equal_length(wins: Sequence[float], length_difference: Sequence[float]) -> float | None:
    """The win rate that a logistic regression of the win on the difference of lengths gives at no difference.

    After the length-controlled win rate of AlpacaEval (Dubois et al. 2024): the regressor is tanh(d / sd(d)), and ties
    count a half. A weak ridge on the slope (0.01, whatever the number of items, so that it vanishes among many) keeps it finite
    where length separates wins from losses. None where lengths do not differ, for then there is nothing to control for, and
    where all answers are longer, or all shorter: nothing is known of equal lengths then.
    """
    y, d = np.asarray(wins, float), np.asarray(length_difference, float)
    spread = float(np.std(d))
    if len(y) < 2 or spread == 0.0 or d.min() > 0 or d.max() < 0:
        return None
    x = np.column_stack([np.ones(len(y)), np.tanh(d / spread)])
    ridge = np.diag([1e-6, 0.01])  # on the summed log-likelihood
    beta = np.zeros(2)
    for _ in range(100):  # Newton's method on a concave function
        mean = 1 / (1 + np.exp(-(x @ beta)))
        gradient = x.T @ (y - mean) - ridge @ beta
        step = np.linalg.solve((x.T * (mean * (1 - mean))) @ x + ridge, gradient)
        beta = beta + np.clip(step, -2, 2)
        if np.max(np.abs(step)) < 1e-10:
            break
    return float(1 / (1 + np.exp(-beta[0])))


def sample_of(strata: Sequence[str], size: int, seed: int) -> list[int]:
    """`size` positions drawn at random, in order, each stratum in proportion (largest remainders)."""
    if size >= len(strata):
        return list(range(len(strata)))
    rng = np.random.default_rng(seed)
    members: dict[str, list[int]] = {}
    for index, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(index)
    shares = {stratum: size * len(rows) / len(strata) for stratum, rows in members.items()}
    counts = {stratum: int(share) for stratum, share in shares.items()}
    by_remainder = sorted(members, key=lambda stratum: (counts[stratum] - shares[stratum], stratum))
    for stratum in by_remainder[: size - sum(counts.values())]:
        counts[stratum] += 1
    drawn = [rng.choice(rows, counts[stratum], replace=False) for stratum, rows in sorted(members.items())]
    return sorted(int(index) for index in np.concatenate(drawn))


def _scored(values: Sequence[float | None], weights: Sequence[float] | None) -> tuple[Array, Array]:
    given = [1.0] * len(values) if weights is None else list(weights)
    pairs = [(value, weight) for value, weight in zip(values, given, strict=True) if value is not None]
    return np.array([value for value, _ in pairs], float), np.array([weight for _, weight in pairs], float)


def _resampled_ratio(numerators: Array, weights: Array, seed: int) -> Array:
    """sum(numerators) / sum(weights) of RESAMPLES resamples of the items. (n,), (n,) -> (R,)."""
    rng = np.random.default_rng(seed)
    n = len(weights)
    block = max(1, min(RESAMPLES, BLOCK // n))
    drawn: list[Array] = []
    done = 0
    while done < RESAMPLES:
        rows = min(block, RESAMPLES - done)
        index = rng.integers(0, n, (rows, n))
        drawn.append(numerators[index].sum(axis=1) / weights[index].sum(axis=1))
        done += rows
    return np.concatenate(drawn)


def _sign_flip(differences: Array, seed: int) -> tuple[float, float, float, str]:
    """p two-sided, lower, upper, and the test's name."""
    moved = differences[differences != 0.0]
    n = len(moved)
    if n == 0:
        return 1.0, 1.0, 1.0, "no item differs"
    observed = moved.sum()
    slack = 1e-9 * np.abs(moved).sum()  # equal sums that were added in another order
    if n <= EXACT_UP_TO:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        sums = signs @ moved
        two = np.mean(np.abs(sums) >= abs(observed) - slack)
        return float(two), float(np.mean(sums <= observed + slack)), float(np.mean(sums >= observed - slack)), "exact"
    rng = np.random.default_rng(seed)
    block = max(1, min(PERMUTATIONS, BLOCK // n))
    two = lower = upper = 0
    done = 0
    while done < PERMUTATIONS:
        rows = min(block, PERMUTATIONS - done)
        sums = (1 - 2.0 * rng.integers(0, 2, (rows, n))) @ moved
        two += int(np.sum(np.abs(sums) >= abs(observed) - slack))
        lower += int(np.sum(sums <= observed + slack))
        upper += int(np.sum(sums >= observed - slack))
        done += rows
    total = PERMUTATIONS + 1
    return (two + 1) / total, (lower + 1) / total, (upper + 1) / total, f"{PERMUTATIONS:,} sign flips"
