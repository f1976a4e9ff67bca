"""The rows of a card's score tables: made here from scorecards when a card is written, and again when it is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from evals.compare import UNDIRECTED
from evals.presentation import GROUPS, between, figure, headlines, interval
from evals.saved import DECISIVE
from evals.scorecard import Interval, Score, Scorecard, against_others

BEGIN, END = "<!-- scores:begin -->", "<!-- scores:end -->"


@dataclass(frozen=True)
class Difference:
    """A paired difference to the parent with its 95% interval, and the verdict of the corrected test."""

    value: float
    interval: Interval
    verdict: Literal["better", "worse", "differs", "no difference"]


MARKS = {"better": "▲ better", "worse": "▼ worse", "differs": "≠", "no difference": "≈"}


@dataclass(frozen=True)
class ScoreRow:
    """One score as text. `id` is task/metric, by which a row of a written card is found again."""

    id: str
    group: str
    direction: str
    ours: str
    parents: str
    difference: str
    items: str
    beside: str

    def line(self) -> str:
        cells = [
            self.group,
            f"`{self.id}` {self.direction}".rstrip(),
            self.ours,
            self.parents,
            self.difference,
            self.items,
        ]
        return "| " + " | ".join(cells) + " |"

    def text(self) -> str:
        """Everything that a row and the remark below it say, without its name."""
        return " ".join((self.ours, self.parents, self.difference, self.items, self.beside))


def score_rows(
    card: Scorecard, parent: Scorecard | None, differences: Mapping[str, Difference], *, only_headlines: bool
) -> list[ScoreRow]:
    """The rows in the order of the groups; a parent's score under other settings is not put beside ours."""
    scores = headlines(card.scores) if only_headlines else sorted(card.scores, key=_order)
    return [_row(score, comparable_score(card, parent, score), differences) for score in scores]


def comparable_score(card: Scorecard, parent: Scorecard | None, score: Score) -> Score | None:
    """The parent's score of the same task and metric, where everything that moves it is the same."""
    if parent is None:
        return None
    settings = {task.task: task for task in parent.settings.tasks}
    if any(getattr(parent.settings, field) != getattr(card.settings, field) for field in DECISIVE):
        return None
    if settings.get(score.task) != card.task_settings(score.task):
        return None
    found = (other for other in parent.scores if (other.task, other.metric) == (score.task, score.metric))
    theirs = next(found, None)
    if theirs is None or theirs.scorer != score.scorer or against_others(score, theirs):
        return None
    return theirs


def score_id(score: Score) -> str:
    return f"{score.task}/{score.metric}"


def arrow(score: Score) -> str:
    """Which way is better; nothing where neither is, as of a length."""
    return "" if score.unit in UNDIRECTED else "↑" if score.higher_is_better else "↓"


def told(score: Score) -> str:
    """A figure with its interval: 47.3% [42.1, 52.5]."""
    return f"{figure(score.value, score.unit)} {interval(score)}"


def _order(score: Score) -> tuple[int, str, str]:
    return GROUPS.index(score.group), score.task, score.metric


def _row(score: Score, theirs: Score | None, differences: Mapping[str, Difference]) -> ScoreRow:
    items = str(score.n) + (f" ({score.unscored} unscored)" if score.unscored else "")
    beside = ", ".join(f"{name} {figure(value, score.unit)}" for name, value in sorted(score.baseline.items()))
    return ScoreRow(
        id=score_id(score),
        group=score.group.capitalize(),
        direction=arrow(score),
        ours=f"**{figure(score.value, score.unit)}** {interval(score)}",
        parents=told(theirs) if theirs else "–",
        difference=_difference(score, differences.get(score_id(score))) if theirs else "–",
        items=items,
        beside=beside,
    )


def _difference(score: Score, difference: Difference | None) -> str:
    if difference is None:
        return "–"
    ends = between(difference.interval, lambda end: signed(end, score.unit).removesuffix(" pp"))
    return f"{MARKS[difference.verdict]} {signed(difference.value, score.unit)} {ends}"


def signed(value: float, unit: str) -> str:
    """A difference with its sign; of fractions, in percentage points."""
    return f"{100 * value:+.1f} pp" if unit == "fraction" else f"{value:+.2f}"
