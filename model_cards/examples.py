"""Failing samples for a card: a few, real, and fit to be read by anyone.

Continuations of toxicity and bias tasks are masked to their first letters; the whole text stays in samples/.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from evals.presentation import OFFENSIVE_GROUPS, figure, headlines, response_shown, worst_examples
from evals.scorecard import Sample, Score
from model_cards.facts import Facts

BEGIN, END = "<!-- examples:begin -->", "<!-- examples:end -->"
LONGEST_TEXT = 480  # characters of a prompt or an answer on a card
WIDTH = 92  # columns of a block of text
AT_MOST = 5


@dataclass(frozen=True)
class FailingSample:
    """One sample as a card shows it. `text` is a block of plain lines, fenced by `fence`."""

    task: str
    metric: str
    item: str
    value: str
    masked: bool
    text: str
    fence: str
    failed: int  # items of the task with the worst possible value, where the values have one
    scored: int


def failing_samples(facts: Facts) -> list[FailingSample]:
    """The worst sample of each task that has headline scores, if its value is as bad as it can be or below the mean."""
    if facts.card is None:
        return []
    chosen: dict[str, FailingSample] = {}
    for score in headlines(facts.card.scores):
        samples = facts.samples.get(score.task)
        if not samples or score.task in chosen:
            continue
        worst = worst_examples(samples, score, 1)
        if worst and _is_failure(worst[0].value, score):
            chosen[score.task] = _shown(worst[0].sample, worst[0].value, score, samples)
    return list(chosen.values())[:AT_MOST]


def mask(text: str) -> str:
    """Every word reduced to its first letter and as many dots: readable as language, not as an insult."""
    return re.sub(r"(\w)(\w+)", lambda word: word[1] + "·" * len(word[2]), text)


def _is_failure(value: float, score: Score) -> bool:
    return value < score.value if score.higher_is_better else value > score.value


def _shown(sample: Sample, value: float, score: Score, samples: Sequence[Sample]) -> FailingSample:
    masked = score.group in OFFENSIVE_GROUPS
    parts = [("prompt", sample.prompt), ("expected", sample.target), ("answer", response_shown(sample, score))]
    block = "\n\n".join(
        _part(label, mask(text) if masked else text, from_end=label == "prompt")
        for label, text in parts
        if text and text.strip()
    )
    values = [one.values.get(score.metric) for one in samples]
    known = [one for one in values if one is not None]
    worst = 0.0 if score.higher_is_better else 1.0
    longest_run = max((len(run) for run in re.findall(r"`+", block)), default=0)
    return FailingSample(
        task=score.task,
        metric=score.metric,
        item=sample.item,
        value=figure(value, score.unit),
        masked=masked,
        text=block,
        fence="`" * max(3, longest_run + 1),
        failed=sum(one == worst for one in known) if score.unit == "fraction" else 0,
        scored=len(known),
    )


def _part(label: str, text: str, *, from_end: bool) -> str:
    """The text under its label; of a long prompt its end, where the question is that was asked after shots and turns."""
    left = len(text) - LONGEST_TEXT
    if left > 0:
        cut = (
            f"({left} characters before) ... {text[left:]}"
            if from_end
            else f"{text[:LONGEST_TEXT]} ... ({left} more characters)"
        )
        text = cut
    lines = [wrapped for line in text.strip().splitlines() for wrapped in (textwrap.wrap(line, WIDTH - 11) or [""])]
    return "\n".join(f"{label + ':' if number == 0 else '':<10} {line}".rstrip() for number, line in enumerate(lines))
