"""What length alone explains of a win rate: figures that stand beside every one.

beside_length([1, 0, 0.5], [12, -3, 0])      # {"longer answer wins": .67, "win rate at equal length": ...}
"""

from __future__ import annotations

from collections.abc import Sequence

from evals.statistics import win_rate_at_equal_length

LONGER = "longer answer wins"
CONTROLLED = "win rate at equal length"  # by a logistic regression on tanh of the length difference


def beside_length(wins: Sequence[float], difference: Sequence[float]) -> dict[str, float]:
    """The win rate of a judge that always prefers the longer answer, and the length-controlled one of Dubois et al. (2024).

    `difference` is this answer's length less the other's, in any unit; the second figure is left out where lengths are equal.
    """
    longer = sum(0.5 if d == 0 else float(d > 0) for d in difference) / len(difference)
    controlled = win_rate_at_equal_length(wins, difference)
    return {LONGER: longer, **({CONTROLLED: controlled} if controlled is not None else {})}
