"""The paired differences between a checkpoint and its parent, where the two can be compared at all."""

from __future__ import annotations

from pathlib import Path

from evals.compare import Comparison, compare
from evals.saved import decisive_differences
from evals.statistics import NONE, PAIRED_EQUAL
from model_cards.facts import Facts
from model_cards.score_table import Difference


def comparison_with_parent(run: Path, facts: Facts) -> Comparison | None:
    """`evals.compare` of the run with its baseline. None without a baseline, its samples, or equal settings."""
    card, parent = facts.card, facts.parent_card
    if card is None or parent is None or decisive_differences(parent.settings, card.settings):
        return None
    if facts.samples.keys() != card.samples.keys() or facts.parent_samples.keys() != parent.samples.keys():
        return None
    scorers = {(score.task, score.metric): score.scorer for score in parent.scores}
    shared = [score for score in card.scores if (score.task, score.metric) in scorers]
    if not shared or any(scorers[score.task, score.metric] != score.scorer for score in shared):
        return None
    return compare(run / "baseline", run)


def paired_differences(compared: Comparison | None) -> dict[str, Difference]:
    """task/metric -> difference."""
    return {
        f"{row.task}/{row.metric}": Difference(row.difference, row.interval, row.verdict)
        for row in (compared.rows if compared else [])
    }


def as_once_written(compared: Comparison | None) -> Comparison | None:
    """The comparison as cards told it before equal differences had a rule of their own: with an interval of no width."""
    if compared is None:
        return None
    rows = [
        row.model_copy(
            update={"interval": row.interval.model_copy(update=dict.fromkeys(("low", "high"), row.difference))}
        )
        if row.interval.method in (PAIRED_EQUAL, NONE)
        else row
        for row in compared.rows
    ]
    return compared.model_copy(update={"rows": rows})
