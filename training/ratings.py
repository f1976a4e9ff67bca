"""Ratings from comparisons: Bradley-Terry strengths with bootstrap intervals, as pure functions.

    rate([Comparison("model a", "model b", 1.0, cluster="prompt 1"), ...])

P(i beats j) = 1 / (1 + exp(b_j - b_i)) (Bradley and Terry 1952). A tie is half a win for each. Comparisons of one prompt hang
together, so intervals resample prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RIDGE = 0.1  # a normal prior of variance 1 / RIDGE on each strength: keeps them finite where one side won everything
RESAMPLES = 1_000
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
    # Only differences matter: a constant matrix of ones keeps the sum at zero and the curvature invertible.
    prior = ridge * np.eye(size) + np.ones((size, size))
    for _ in range(100):
        chance = 1 / (1 + np.exp(strength[..., None, :] - strength[..., :, None]))  # of row against column
        gradient = (wins - games * chance).sum(axis=-1) - ridge * strength
        weight = games * chance * (1 - chance)
        curvature = weight.sum(axis=-1)[..., None] * np.eye(size) - weight + prior
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        strength = strength + np.clip(step, -2, 2)
        if np.max(np.abs(step)) < 1e-10:
            break
    return np.asarray(strength - strength.mean(axis=-1, keepdims=True))


def rate(comparisons: Sequence[Comparison], seed: int = 0) -> list[Rating]:
    """Ratings from the strongest, with percentile intervals over resampled clusters."""
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
