"""Ratings from comparisons: Bradley-Terry strengths with intervals, as pure functions.

    rate([Comparison("model a", "model b", 1.0, cluster="prompt 1"), ...])

P(i beats j) = 1 / (1 + exp(b_j - b_i)) (Bradley and Terry 1952). A tie is half a win for each. Comparisons of one prompt hang
together, so intervals resample prompts; where one side won everything resamples are all alike and tell nothing, so each
end is the wider one of the resamples' and of the profile likelihood's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RIDGE = 0.1  # a normal prior of variance 1 / RIDGE on each strength: keeps them finite where one side won everything
RESAMPLES = 1_000
CHI_SQUARE_95 = 3.841459  # with one degree of freedom
ELO = 400 / np.log(10)  # Elo points in one unit of log-odds


@dataclass(frozen=True)
class Comparison:
    """One judgement: `score` is 1 where `one` won, 0 where `other` did, 0.5 for a tie."""

    one: str
    other: str
    score: float
    cluster: str


@dataclass(frozen=True)
class Rating:
    """A strength in log-odds, all strengths summing to 0, with its 95% interval; `elo` is the same on Elo's scale."""

    system: str
    strength: float
    low: float
    high: float
    elo: float
    wins: float
    comparisons: int


def bradley_terry(wins: Array, ridge: float = RIDGE) -> Array:
    """Strengths (..., S), each row summing to 0, of the most likely model; wins[..., i, j] is how often i beat j.

    Newton's method on the log-likelihood less ridge / 2 * sum(b^2), which is concave.
    """
    size = wins.shape[-1]
    games = wins + np.swapaxes(wins, -1, -2)
    strength = np.zeros(wins.shape[:-1])
    for _ in range(100):
        # Only differences matter: a constant matrix of ones keeps the sum at zero and the curvature invertible.
        curvature = _curvature(games, strength, ridge) + np.ones((size, size))
        step = np.linalg.solve(curvature, _gradient(wins, games, strength, ridge)[..., None])[..., 0]
        strength = strength + np.clip(step, -2, 2)
        if np.max(np.abs(step)) < 1e-10:
            break
    return np.asarray(strength - strength.mean(axis=-1, keepdims=True))


def profile_interval(wins: Array, system: int, ridge: float = RIDGE) -> tuple[float, float]:
    """The strengths of one system that a likelihood-ratio test at 5% does not refuse, as if comparisons were independent.

    wins is (S, S). The others' strengths are the most likely ones for each (Venzon and Moolgavkar 1988).
    """
    best = bradley_terry(wins, ridge)
    most = _log_likelihood(wins, best, ridge)

    def refused(value: float) -> bool:
        return 2 * (most - _log_likelihood(wins, _most_likely_where(wins, system, value, ridge), ridge)) > CHI_SQUARE_95

    def end(direction: int) -> float:
        inside, outside = float(best[system]), float(best[system]) + direction
        while not refused(outside):
            inside, outside = outside, outside + 2 * (outside - inside)
        for _ in range(40):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if refused(middle) else (middle, outside)
        return inside

    return end(-1), end(1)


def _most_likely_where(wins: Array, system: int, value: float, ridge: float) -> Array:
    """The most likely strengths (S,) that sum to 0 and of which one is `value`."""
    size, games = len(wins), wins + wins.T
    strength = np.full(size, -value / (size - 1))
    strength[system] = value
    others = np.delete(np.eye(size), system, axis=1)
    free = others[:, 1:] - others[:, :1]  # (S, S - 2): what moves neither the system nor the sum
    for _ in range(100 if size > 2 else 0):
        curvature = free.T @ _curvature(games, strength, ridge) @ free
        step = np.linalg.solve(curvature, free.T @ _gradient(wins, games, strength, ridge))
        strength = strength + free @ np.clip(step, -2, 2)
        if np.max(np.abs(step)) < 1e-10:
            break
    return strength


def _log_likelihood(wins: Array, strength: Array, ridge: float) -> float:
    losing = strength[None, :] - strength[:, None]  # log-odds that the row's system loses
    return float(-(wins * np.logaddexp(0, losing)).sum() - ridge / 2 * (strength**2).sum())


def _gradient(wins: Array, games: Array, strength: Array, ridge: float) -> Array:
    """(..., S): of the log-likelihood with the prior."""
    return np.asarray((wins - games * _chance(strength)).sum(axis=-1) - ridge * strength)


def _curvature(games: Array, strength: Array, ridge: float) -> Array:
    """(..., S, S): of the negative log-likelihood with the prior."""
    size, chance = strength.shape[-1], _chance(strength)
    weight = games * chance * (1 - chance)
    return np.asarray(weight.sum(axis=-1)[..., None] * np.eye(size) - weight + ridge * np.eye(size))


def _chance(strength: Array) -> Array:
    """(..., S) -> (..., S, S): of the row's system against the column's."""
    return np.asarray(1 / (1 + np.exp(strength[..., None, :] - strength[..., :, None])))


def rate(comparisons: Sequence[Comparison], seed: int = 0) -> list[Rating]:
    """Ratings from the strongest, with 95% intervals. A comparison of a system with itself is a win of nobody, and is left out."""
    comparisons = [one for one in comparisons if one.one != one.other]
    systems = sorted({name for comparison in comparisons for name in (comparison.one, comparison.other)})
    if len(systems) < 2:
        return []
    place = {name: at for at, name in enumerate(systems)}
    clusters = {name: at for at, name in enumerate(sorted({comparison.cluster for comparison in comparisons}))}
    wins = np.zeros((len(clusters), len(systems), len(systems)))
    for comparison in comparisons:
        i, j, c = place[comparison.one], place[comparison.other], clusters[comparison.cluster]
        wins[c, i, j] += comparison.score
        wins[c, j, i] += 1 - comparison.score
    total = wins.sum(axis=0)
    strength = bradley_terry(total)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(wins), np.full(len(wins), 1 / len(wins)), RESAMPLES)  # (R, C)
    drawn = bradley_terry(np.einsum("rc,cij->rij", times, wins))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    profile = np.array([profile_interval(total, at) for at in range(len(systems))])
    low, high = np.minimum(low, profile[:, 0]), np.maximum(high, profile[:, 1])
    ratings = [
        Rating(
            system,
            float(strength[at]),
            float(low[at]),
            float(high[at]),
            float(strength[at] * ELO),
            float(total[at].sum()),
            round(float(total[at].sum() + total[:, at].sum())),
        )
        for at, system in enumerate(systems)
    ]
    return sorted(ratings, key=lambda rating: -rating.strength)
