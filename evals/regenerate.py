"""Figures of a scorecard made again from its samples: is every number what the items say?

    for found in regenerate(SavedRun.open(Path("runs/a"))):
        found.score, found.problem          # problem is None where the figure is what its samples give

The mean, its standard error and its interval come from the same functions that made the scorecard, so on the machine that
made it they agree to the last bit; elsewhere another version of numpy may draw other resamples, for which `slack` leaves
room.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from evals.bias import DISTANCE, STEREOTYPE
from evals.human_votes import TASK as VOTES
from evals.presentation import samples_of
from evals.saved import SavedRun
from evals.scorecard import Sample, Score
from evals.scoring import AGGREGATED, MEANS, WEIGHTED
from evals.statistics import CUSTOM_RESAMPLES, OF_DISTANCE, Estimate, distance_from_half, estimate, estimate_with
from evals.task_definition import installed_aggregation
from training.counted import counted
from training.errors import UsageError

Aggregate = Callable[[list[Any]], float]
CLOSE = 1e-9
# Ends of a bootstrap interval over 10,000 resamples move by about 0.7% of its width from one random stream to the next.
OTHER_STREAM = 0.05
FEW = 100  # resamples of an aggregation, whose ends move by some 7% of the interval's width,
OF_FEW = 0.25  # so that more than this is made again with all of them
NO_SAMPLES = "samples not present"
NOT_FROM_VALUES = "its aggregation is not a mean of the items' values, and the samples keep nothing else"
NOT_INSTALLED = "its aggregation is of a task that is not installed here"


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
    samples, seed = {task: run.samples(task) for task in run.scorecard.samples}, run.scorecard.settings.seed
    items = {task.task: task.items for task in run.scorecard.settings.tasks}
    return [
        again(score, samples.get(score.task, []), seed, slack, items=items.get(score.task, 0))
        for score in run.scorecard.scores
    ]


def unchecked(run: SavedRun) -> dict[tuple[str, str], str]:
    """(task, metric) -> why that figure cannot be held against samples, for figures that are to be shown to people.

    Samples need not lie beside a scorecard, but where they do they decide: raises UsageError where a figure is not what its
    samples give, where it lies outside of its own interval, or where samples are not those that were scored.
    """
    kept = {task: samples for task in run.scorecard.samples if (samples := samples_of(run, task)) is not None}
    items, seed = {task.task: task.items for task in run.scorecard.settings.tasks}, run.scorecard.settings.seed
    found = [_shown(score, kept.get(score.task), seed, items.get(score.task, 0)) for score in run.scorecard.scores]
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


def _shown(score: Score, samples: Sequence[Sample] | None, seed: int, items: int) -> Regenerated:
    if samples is not None:
        return again(score, samples, seed, OTHER_STREAM, items=items)
    low, high = score.interval.low, score.interval.high
    if score.value < low - CLOSE or score.value > high + CLOSE:
        return Regenerated(
            score, problem=f"the value {score.value:.6g} lies outside of its interval [{low:.6g}, {high:.6g}]"
        )
    return Regenerated(score, impossible=NO_SAMPLES)


def again(
    score: Score, samples: Sequence[Sample], seed: int, slack: float = CLOSE, *, items: int | None = None
) -> Regenerated:
    """What a figure is, a mean or another aggregation, is told by its samples and by the task that is installed here under its
    name: never by the scorecard's own words, by which a typed-in figure could say that nothing makes it again.

    `items` is how many the task has in this evaluation.
    """
    if items is not None and (problem := _other_items(samples, items)):
        return Regenerated(score, problem=problem)
    taken = [given[score.metric] for one in samples if score.metric in (given := one.detail.get(AGGREGATED, {}))]
    mean = _as_mean(score, samples, seed, slack)
    if not taken and mean.problem is None:
        return mean
    installed = installed_aggregation(score.task, score.metric)
    if installed is None:
        return Regenerated(score, impossible=NOT_INSTALLED) if taken else mean
    name, aggregate = installed
    if name in MEANS:
        return mean
    if not taken:
        return Regenerated(score, impossible=NOT_FROM_VALUES)
    return _as_aggregation(score, taken, aggregate, len(samples) - len(taken), seed, slack)


def _as_aggregation(
    score: Score, taken: list[Any], aggregate: Aggregate, unscored: int, seed: int, slack: float
) -> Regenerated:
    """A figure by an aggregation, which may take long: where a slack is allowed, its interval is held to fewer resamples."""
    quick = slack > CLOSE
    try:
        made = estimate_with(
            taken, aggregate, seed=seed, unscored=unscored, resamples=FEW if quick else CUSTOM_RESAMPLES
        )
    except ValueError as error:
        return Regenerated(score, problem=str(error))
    room = _room(made, OF_FEW if quick else slack)
    found = _held(score, made, stderr=room, ends=room)
    return _as_aggregation(score, taken, aggregate, unscored, seed, CLOSE) if quick and found.problem else found


def _as_mean(score: Score, samples: Sequence[Sample], seed: int, slack: float) -> Regenerated:
    """A figure that is the mean of its items' values, or how far such a mean lies from a half."""
    metric = score.metric
    those = [sample for sample in samples if metric in sample.values]  # a stratum's figure is of its items only
    is_distance = not those and metric.startswith(DISTANCE)
    if is_distance:
        metric = metric.replace(DISTANCE, STEREOTYPE, 1)
        those = [sample for sample in samples if metric in sample.values]
    if not any(sample.values[metric] is not None for sample in those):
        return Regenerated(score, problem="no item of the samples has a value for it")
    if problem := _chosen(score, metric, samples) or _weighed(score, metric, those):
        return Regenerated(score, problem=problem)
    weights = [float(sample.detail.get("weights", {}).get(metric, 1)) for sample in those]
    made = estimate(
        [sample.values[metric] for sample in those],
        seed=seed,
        weights=weights,
        bounded=score.unit == "fraction",
        stated=score.interval.method.removesuffix(OF_DISTANCE),
    )
    made = distance_from_half(made) if is_distance else made
    return _held(score, made, stderr=CLOSE, ends=_room(made, slack))


def _other_items(samples: Sequence[Sample], items: int) -> str | None:
    """What is wrong where the samples are not of each item once."""
    distinct = len({sample.item for sample in samples})
    if distinct < len(samples):
        return f"{len(samples) - distinct} of its samples are of an item that others are of"
    return (
        None
        if distinct == items
        else f"its samples are of {counted(distinct, 'item')}, the task's settings say {items}"
    )


def _chosen(score: Score, metric: str, samples: Sequence[Sample]) -> str | None:
    """What is wrong where only some items have the metric (a value or that there is none): those of one stratum may, which
    the metric's name ends in, and votes, which are not cast on every pair."""
    without = [sample for sample in samples if metric not in sample.values]
    if not without or score.task == VOTES:
        return None
    strata = {str(sample.detail.get("stratum")) for sample in samples if metric in sample.values}
    level = strata.pop() if len(strata) == 1 else None
    if level and metric.endswith(f"_{level}") and all(sample.detail.get("stratum") != level for sample in without):
        return None
    return f"{len(without)} of {counted(len(samples), 'item')} say nothing of it, and they are no stratum's"


def _weighed(score: Score, metric: str, those: Sequence[Sample]) -> str | None:
    """What is wrong where items count differently: only instructions of one prompt do, by their number, and votes on one pair."""
    weights = {sample.detail.get("weights", {}).get(metric, 1) for sample in those}
    if weights == {1}:
        return None
    installed = installed_aggregation(score.task, metric)
    if score.task != VOTES and (installed is None or installed[0] != WEIGHTED):
        return "its items are weighted, and it is no mean over what they are made of"
    whole = all(isinstance(weight, int) and weight > 0 for weight in weights)
    return None if whole else "its items have weights that are no numbers of what they are made of"


def _room(made: Estimate, slack: float) -> float:
    """How far off what was drawn at random may be, in the figure's unit."""
    return slack * max(made.interval.high - made.interval.low, 0.0) + CLOSE


def _held(score: Score, made: Estimate, *, stderr: float, ends: float) -> Regenerated:
    """A figure against what its samples give; its standard error and the interval's ends may be off by so much."""
    wrong = [
        f"{name} is {stated:.6g}, the samples give {found:.6g}"
        for name, stated, found, room in (
            ("the value", score.value, made.value, CLOSE),
            ("the standard error", score.stderr, made.stderr, stderr),
            ("the interval's lower end", score.interval.low, made.interval.low, ends),
            ("the interval's upper end", score.interval.high, made.interval.high, ends),
            ("the number of items", score.n, made.n, 0),
            ("the number of unscored items", score.unscored, made.unscored, 0),
        )
        if not math.isclose(stated, found, rel_tol=CLOSE, abs_tol=room)
    ]
    return Regenerated(score, problem="; ".join(wrong) or None)
