"""From answers to figures: the values of each item, then their mean with its interval.

samples, figures = score_by_task(prepared, answers)
scores, refused = as_scores(prepared, samples, figures, seed=0)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evals.keys import hide_keys
from evals.scorecard import Sample, Score
from evals.statistics import distance_from_half, estimate, estimate_with
from evals.suite import Group
from training.command import log
from training.counted import counted

if TYPE_CHECKING:
    from evals.prepare import Prepared


# lm-eval's metrics that lie within 0 and 1 whatever the model, by what their names are made of: acc, acc_norm, exact_match, mc2,
# prompt_level_strict_acc, bleu_acc, pct_stereotype. Any other is in points.
FRACTION = re.compile(r"(?:^|_)(?:acc|accuracy|exact_match|em|f1|mc\d?|pct|precision|recall|rate|share)(?:_|,|$)")


# lm-eval's aggregations that are means: over items, or over the instructions of all items, which are an item's weight.
WEIGHTED = "agg_inst_level_acc"
MEANS = frozenset({"mean", WEIGHTED})
AGGREGATED = "aggregated"  # in a sample's detail: what the aggregation of a metric takes of this item, by metric


@dataclass(frozen=True)
class Figure:
    """One figure that the samples give. `items` holds what a custom aggregation takes, None where that is the mean."""

    metric: str
    higher_is_better: bool
    group: Group | None = None  # the task's, where unset
    unit: str = "fraction"
    scorer: str | None = None
    description: str = ""
    baseline: dict[str, float] = field(default_factory=dict)
    against: str | None = None  # the digest of the checkpoint that a win rate is against
    of: frozenset[str] | None = None  # only these items count towards it
    aggregate: Callable[[list[Any]], float] | None = None
    items: tuple[Any, ...] = ()
    distance_of: str | None = None  # it is how far the mean of this metric's values lies from a half


def score_by_task(prepared: Prepared, answers: Sequence[Sequence[Any]]) -> tuple[list[Sample], list[Figure]]:
    """lm-eval's own scoring of each item. One that fails has no value, and its reason stands in the sample."""
    task = prepared.task
    wanted = prepared.spec.metrics or list(task.metrics)
    samples: list[Sample] = []
    aggregations = {metric: task.aggregation(metric) for metric in wanted}
    means = {metric for metric, (name, _) in aggregations.items() if name in MEANS}
    raw: dict[str, dict[str, Any]] = {metric: {} for metric in wanted if metric not in means}  # by item
    for request, answer in zip(prepared.requests, answers, strict=True):
        answered = [one["text"] for one in answer] if task.generates else [(one[0], one[1]) for one in answer]
        detail: dict[str, Any] = {}
        found: dict[str, Any] = {}
        try:
            found = task.values(request, answered)
        except Exception as error:  # noqa: BLE001 - scorers of 14,000 tasks fail in their own ways; the item is missing
            told = str(error).strip().splitlines()
            detail["unscored"] = hide_keys(f"{type(error).__name__}: {told[0] if told else ''}")
        values: dict[str, float | None] = {}
        weights: dict[str, int] = {}
        for metric in wanted:
            given = found.get(metric)
            # What an aggregation takes of an item, e.g. (gold, predicted) for F1, is no list of values.
            value, weight = (None, 1) if metric in raw and isinstance(given, (list, tuple)) else as_number(given)
            values[metric] = value
            if weight != 1:
                weights[metric] = weight
            if metric in raw and given is not None:
                raw[metric][request.item] = given
        if weights:
            detail["weights"] = weights
        samples.append(
            Sample(
                item=request.item,
                prompt=request.prompt,
                target=task.target(request),
                response=_response(request.choices, answer),
                values=values,
                detail={**detail, **_told(request.choices, answer), **_stratum(prepared, request.document)},
            )
        )
    failed = [sample.detail["unscored"] for sample in samples if "unscored" in sample.detail]
    if failed:
        log(f"{task.name}: {len(failed)} of {counted(len(samples), 'item')} could not be scored, e.g. {failed[0]}")
    kept = {metric: _kept(items, aggregations[metric][1]) for metric, items in raw.items()}
    samples = [_with_aggregated(sample, kept) for sample in samples]
    figures = [
        Figure(
            metric,
            task.metrics[metric],
            unit="fraction" if _is_fraction(samples, metric) else "points",
            aggregate=None if metric in means else aggregations[metric][1],
            items=() if metric in means else tuple((kept[metric] or raw[metric]).values()),
        )
        for metric in wanted
    ]
    return samples, figures


def _kept(items: dict[str, Any], aggregate: Callable[[list[Any]], float]) -> dict[str, Any] | None:
    """What an aggregation takes of each item as JSON has it, so that the samples can make the figure again; None where it
    cannot be written, or gives another figure then."""
    try:
        written = json.loads(json.dumps(items, default=lambda value: value.tolist(), allow_nan=False))
        same = float(aggregate(list(written.values()))) == float(aggregate(list(items.values())))
    except Exception:  # noqa: BLE001 - aggregations of any task: one that has no value here is told where the figure is made
        return None
    return written if same else None


def _with_aggregated(sample: Sample, kept: dict[str, dict[str, Any] | None]) -> Sample:
    of_item = {metric: items[sample.item] for metric, items in kept.items() if items and sample.item in items}
    return sample.model_copy(update={"detail": {**sample.detail, AGGREGATED: of_item}}) if of_item else sample


def as_scores(
    prepared: Prepared, samples: Sequence[Sample], figures: Sequence[Figure], seed: int
) -> tuple[list[Score], list[str]]:
    """The scores, and why a figure is refused: too few of its items have a value."""
    scores: list[Score] = []
    refused: list[str] = []
    for figure in figures:
        those = [sample for sample in samples if figure.of is None or sample.item in figure.of]
        values = [sample.values.get(figure.distance_of or figure.metric) for sample in those]
        scored = len(figure.items) if figure.aggregate else sum(value is not None for value in values)
        if scored == 0 or scored / len(those) < prepared.spec.minimum_coverage:
            refused.append(
                f"{figure.metric}: only {scored} of {counted(len(those), 'item')} could be scored, "
                f"and minimum_coverage is {prepared.spec.minimum_coverage:g}"
            )
            continue
        if figure.aggregate:
            try:
                made = estimate_with(figure.items, figure.aggregate, seed=seed, unscored=len(those) - scored)
            except ValueError as error:
                refused.append(f"{figure.metric}: {error}")
                continue
        else:
            weights = [float(sample.detail.get("weights", {}).get(figure.metric, 1)) for sample in those]
            made = estimate(values, seed=seed, weights=weights, bounded=figure.unit == "fraction")
            made = distance_from_half(made) if figure.distance_of else made
        scores.append(
            Score(
                task=prepared.settings.task,
                metric=figure.metric,
                group=figure.group or prepared.spec.group,
                value=made.value,
                stderr=made.stderr,
                interval=made.interval,
                n=made.n,
                unscored=made.unscored,
                higher_is_better=figure.higher_is_better,
                headline=figure.metric in prepared.spec.headline,
                unit=figure.unit,
                scorer=figure.scorer,
                description=figure.description,
                baseline=figure.baseline,
                against=figure.against,
            )
        )
    return scores, refused


def as_number(value: Any) -> tuple[float | None, int]:
    """A value of lm-eval's as (number, weight): a list of n numbers counts n times its mean; what is neither is None."""
    if isinstance(value, (list, tuple)) and value and all(isinstance(one, (bool, int, float)) for one in value):
        return sum(float(one) for one in value) / len(value), len(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None, 1
    return (number if math.isfinite(number) else None), 1


def _is_fraction(samples: Sequence[Sample], metric: str) -> bool:
    """By its name, for the values of one model may lie within 0 and 1 by chance; and by these, where the name misleads."""
    known = FRACTION.search(metric) is not None
    return known and all(0.0 <= (sample.values.get(metric) or 0.0) <= 1.0 for sample in samples)


def _response(choices: Sequence[str], answer: Sequence[Any]) -> str | None:
    """The generated text, or the likeliest choice."""
    if not choices:
        return str(answer[0]["text"])
    best = max(range(len(choices)), key=lambda index: answer[index][0])
    return choices[best].strip()


def _told(choices: Sequence[str], answer: Sequence[Any]) -> dict[str, Any]:
    if choices:
        return {"choices": list(choices), "log_likelihoods": [one[0] for one in answer]}
    return {"response_tokens": answer[0]["tokens"], "stopped": answer[0]["stopped"]}


def _stratum(prepared: Prepared, document: dict[str, Any]) -> dict[str, str]:
    name = prepared.spec.stratum
    return {"stratum": str(document[name])} if name else {}
