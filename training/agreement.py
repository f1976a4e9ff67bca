"""How far labellers agree: Krippendorff's alpha, nominal and ordinal, with an interval; pure functions.

    alpha([["first", "first", "tie"], ["second", "second"]], nominal)   # units, each with the values it was given

alpha = 1 - D_o / D_e, observed over expected disagreement (Krippendorff, "Computing Krippendorff's alpha-reliability", 2011,
section D): 1 is perfect agreement, 0 what chance gives. A unit with fewer than two values says nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Metric = Callable[[Array], Array]  # frequencies of the values (..., V) -> squared differences between them (..., V, V)
RESAMPLES = 1_000


@dataclass(frozen=True)
class Agreement:
    """alpha with its 95% bootstrap interval over units; None where all values are the same or no unit has two.

    No interval either where all resamples are alike, as those of one unit: they tell nothing of how far alpha may be off.
    """

    alpha: float | None
    low: float | None
    high: float | None
    units: int
    values: int


def nominal(frequencies: Array) -> Array:
    """0 between equal values, 1 between different ones."""
    size = frequencies.shape[-1]
    return np.broadcast_to(1.0 - np.eye(size), (*frequencies.shape, size))


def ordinal(frequencies: Array) -> Array:
    """The squared number of values between two ranks, each end counted half; values are in the order of `frequencies`."""
    below = np.cumsum(frequencies, axis=-1) - frequencies / 2
    return np.asarray((below[..., :, None] - below[..., None, :]) ** 2)


def alpha(units: Sequence[Sequence[str]], metric: Metric, order: Sequence[str] | None = None) -> float | None:
    """Krippendorff's alpha. `order` lists the values from lowest to highest, which `ordinal` needs.

    None where it is not defined: no unit has two values, or no value differs from another.
    """
    return _defined(_alpha(_coincidences(units, order).sum(axis=0), metric))


def agreement(
    units: Sequence[Sequence[str]], metric: Metric, order: Sequence[str] | None = None, seed: int = 0
) -> Agreement:
    """alpha with a percentile bootstrap over units. Resamples in which it is not defined are left out."""
    each = _coincidences(units, order)  # (U, V, V)
    value = _defined(_alpha(each.sum(axis=0), metric))
    low = high = None
    if value is not None:
        rng = np.random.default_rng(seed)
        times = rng.multinomial(len(each), np.full(len(each), 1 / len(each)), RESAMPLES)  # (R, U)
        drawn = _alpha(np.einsum("ru,uvw->rvw", times, each), metric)
        ends = np.nanpercentile(drawn, [2.5, 97.5])
        if ends[0] < ends[1]:
            low, high = (float(end) for end in ends)
    return Agreement(value, low, high, len(each), round(float(each.sum())))


def _coincidences(units: Sequence[Sequence[str]], order: Sequence[str] | None) -> Array:
    """The coincidence matrix of each unit, (U, V, V): each pair of its m values counts 1 / (m - 1)."""
    names = list(order) if order is not None else sorted({value for unit in units for value in unit})
    place = {name: at for at, name in enumerate(names)}
    matrices = []
    for unit in units:
        if len(unit) < 2:
            continue
        counts = np.bincount([place[value] for value in unit], minlength=len(names)).astype(float)
        matrices.append((np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1))
    return np.array(matrices) if matrices else np.zeros((0, len(names), len(names)))


def _alpha(coincidences: Array, metric: Metric) -> Array:
    """(..., V, V) -> (...); NaN where it is not defined."""
    frequencies = coincidences.sum(axis=-1)
    n = frequencies.sum(axis=-1)
    difference = metric(frequencies)
    expected = (frequencies[..., :, None] * frequencies[..., None, :] * difference).sum(axis=(-2, -1))
    observed = (coincidences * difference).sum(axis=(-2, -1))
    defined = expected > 0
    return np.asarray(np.where(defined, 1.0 - observed * (n - 1) / np.where(defined, expected, 1.0), np.nan))


def _defined(value: Array) -> float | None:
    return None if np.isnan(value) else float(value)
