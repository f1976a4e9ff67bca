"""One page for each model of a leaderboard: its figures, and samples to read, ordered and filtered by whoever reads.

as_model_page(run, anchor)            # HTML, one file without the network
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

from evals.leaderboard_pages import csp_hash, page_environment, readable_parts
from evals.presentation import OFFENSIVE_GROUPS, run_name, samples_of
from evals.saved import SavedRun
from evals.scorecard import Sample, Score

MOST = 60  # samples of a task on a page: a third each from the worst, the best and the middle


def as_model_page(run: SavedRun, anchor: str) -> str:
    """The whole page. Raises UsageError where samples are not those that were scored."""
    pages = resources.files("evals.pages")
    style = (pages / "leaderboard.css").read_text(encoding="utf-8")
    script = (pages / "model.js").read_text(encoding="utf-8")
    card = run.scorecard
    names = [settings.task for settings in card.settings.tasks if any(s.task == settings.task for s in card.scores)]
    return (
        page_environment()
        .get_template("model.html.jinja")
        .render(
            card=card,
            name=run_name(run),
            anchor=anchor,
            tasks=[_task(run, name) for name in names],
            style=style,
            script=script,
            style_hash=csp_hash(style),
            script_hash=csp_hash(script),
        )
    )


def _task(run: SavedRun, name: str) -> dict[str, Any]:
    scores = sorted((s for s in run.scorecard.scores if s.task == name), key=lambda score: not score.headline)
    first = scores[0]
    told: dict[str, Any] = {"name": name, "scores": scores, "metric": first.metric}
    samples = samples_of(run, name)
    if samples is None:
        return {**told, "missing": True}
    shown = chosen(samples, first)
    return {
        **told,
        "missing": False,
        "count": len(samples),
        "offensive": first.group in OFFENSIVE_GROUPS,
        "shown": [
            {
                "item": sample.item,
                "badness": "" if (badness := _badness(sample, first)) is None else badness,
                "values": {name: sample.values[name] for name in list(sample.values)[:4]},
                "parts": readable_parts(sample, first),
            }
            for sample in shown
        ],
    }


def chosen(samples: Sequence[Sample], score: Score) -> list[Sample]:
    """The samples to show, the worst first and the unscored last: all, or the worst, the best and some evenly between."""
    order = sorted(
        samples, key=lambda sample: (-math.inf if (bad := _badness(sample, score)) is None else bad, sample.item)
    )[::-1]
    if len(order) <= MOST:
        return order
    third = MOST // 3
    between = order[third:-third]
    middle = [between[place * len(between) // third] for place in range(third)]
    return [*order[:third], *middle, *order[-third:]]


def _badness(sample: Sample, score: Score) -> float | None:
    value = sample.values.get(score.metric)
    if value is None or not math.isfinite(value):
        return None
    return -value if score.higher_is_better else value
