"""Figures of a scorecard made again from its samples: is every number what the items say?

    for found in regenerate(SavedRun.open(Path("runs/a"))):
        found.score, found.problem          # problem is None where the figure is what its samples give

The mean, its standard error and its interval come from the same functions that made the scorecard, so on the machine that
made it they agree to the last bit; elsewhere another version of numpy may draw other resamples, for which `slack` leaves
room.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evals.bias import DISTANCE, STEREOTYPE
from evals.presentation import samples_of
from evals.saved import SavedRun
from evals.scorecard import Sample, Score
from evals.statistics import OF_DISTANCE, distance_from_half, estimate
from training.errors import UsageError

CLOSE = 1e-9
# Ends of a bootstrap interval over 10,000 resamples move by about 0.7% of its width from one random stream to the next.
OTHER_STREAM = 0.05
NO_SAMPLES = "samples not present"
NOT_FROM_VALUES = "its aggregation is not a mean of the items' values, and the samples keep nothing else"


@dataclass(frozen=True)
class Regenerated:
    """A figure, what does not agree with its samples, and why it cannot be made from them, where it cannot."""

    score: Score
    problem: str | None = None
    impossible: str | None = None


def regenerate(run: SavedRun, slack: float = CLOSE) -> list[Regenerated]:
    """Every figure of the scorecard. `slack` is how much of its width an interval's ends may be off.

    Raises UsageError where samples are missing or are not those of the scorecard.
    """
    samples = {task: run.samples(task) for task in run.scorecard.samples}
    return [
        _again(score, samples.get(score.task, []), run.scorecard.settings.seed, slack) for score in run.scorecard.scores
    ]


def unchecked(run: SavedRun) -> dict[tuple[str, str], str]:
    """(task, metric) -> why that figure cannot be held against samples, for figures that are to be shown to people.

    Samples need not lie beside a scorecard, but where they do they decide: raises UsageError where a figure is not what its
    samples give, where it lies outside of its own interval, or where samples are not those that were scored.
    """
    kept = {task: samples for task in run.scorecard.samples if (samples := samples_of(run, task)) is not None}
    found = [_shown(score, kept.get(score.task), run.scorecard.settings.seed) for score in run.scorecard.scores]
    wrong = [f"{one.score.task}/{one.score.metric}: {one.problem}" for one in found if one.problem]
    if wrong:
        raise UsageError(
            "a figure of the scorecard is not what its samples say",
            where=str(run.folder / "scorecard.json"),
            expected="figures that the samples give",
            found="; ".join(wrong),
            next_step="run the evaluation again: figures are measured, never typed in",
        )
    return {(one.score.task, one.score.metric): one.impossible for one in found if one.impossible}


def _shown(score: Score, samples: Sequence[Sample] | None, seed: int) -> Regenerated:
    if samples is not None:
        return _again(score, samples, seed, OTHER_STREAM)
    low, high = score.interval.low, score.interval.high
    if score.value < low - CLOSE or score.value > high + CLOSE:
        return Regenerated(
            score, problem=f"the value {score.value:.6g} lies outside of its interval [{low:.6g}, {high:.6g}]"
        )
    return Regenerated(score, impossible=NO_SAMPLES)


def _again(score: Score, samples: Sequence[Sample], seed: int, slack: float) -> Regenerated:
    if "resamples of the aggregation" in score.interval.method:
        return Regenerated(score, impossible=NOT_FROM_VALUES)
    method = score.interval.method.removesuffix(OF_DISTANCE)
    is_distance = method != score.interval.method
    metric = score.metric.replace(DISTANCE, STEREOTYPE, 1) if is_distance else score.metric
    those = [sample for sample in samples if metric in sample.values]  # a stratum's figure is of its items only
    if not any(sample.values[metric] is not None for sample in those):
        return Regenerated(score, problem="no item of the samples has a value for it")
    weights = [float(sample.detail.get("weights", {}).get(metric, 1)) for sample in those]
    made = estimate(
        [sample.values[metric] for sample in those],
        seed=seed,
        weights=weights,
        bounded=score.unit == "fraction",
        stated=method,
    )
    made = distance_from_half(made) if is_distance else made
    wide = slack * max(made.interval.high - made.interval.low, 0.0) + CLOSE
    wrong = [
        f"{name} is {stated:.6g}, the samples give {found:.6g}"
        for name, stated, found, room in (
            ("the value", score.value, made.value, CLOSE),
            ("the standard error", score.stderr, made.stderr, CLOSE),
            ("the interval's lower end", score.interval.low, made.interval.low, wide),
            ("the interval's upper end", score.interval.high, made.interval.high, wide),
            ("the number of items", score.n, made.n, 0),
            ("the number of unscored items", score.unscored, made.unscored, 0),
        )
        if not math.isclose(stated, found, rel_tol=CLOSE, abs_tol=room)
    ]
    return Regenerated(score, problem="; ".join(wrong) or None)
