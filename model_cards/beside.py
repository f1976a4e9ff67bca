"""A card's table of other models, measured under the same settings: made from RUN/beside/ when it is written, and again when
it is checked. Lines of markdown; none where there are no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evals.beside import FOLDER
from evals.compare import Comparison, compare
from evals.presentation import figure, headlines, interval, markdown_text, model_name, parameter_count, short_digest
from evals.saved import SavedRun
from evals.scorecard import Score
from model_cards.facts import Facts, hub_id
from model_cards.score_table import arrow, comparable_score, told

MARKERS = ("<!-- beside:begin -->", "<!-- beside:end -->")
MARKS = {"better": "▲", "worse": "▼", "differs": "≠", "no difference": "≈"}


def beside_lines(facts: Facts) -> list[str]:
    """A column for each other model, marked by what a paired test says of this one against it, and who they are.

    Raises UsageError where a model beside it cannot be compared any more, as after another evaluation of the run.
    """
    card = facts.card
    if card is None or not facts.beside:
        return []
    compared = [_verdicts(compare(one.folder, facts.folder)) for one in facts.beside]
    names = _names(facts.beside)
    lines = [
        "| Score | This model | " + " | ".join(markdown_text(name) for name in names) + " |",
        "|---" * (len(names) + 2) + "|",
    ]
    for score in headlines(card.scores):
        cells = [_cell(facts, score, one, verdicts) for one, verdicts in zip(facts.beside, compared, strict=True)]
        if any(cells):
            head = f"`{score.task}/{score.metric}` {arrow(score)}".rstrip()
            ours = f"**{figure(score.value, score.unit)}** {interval(score)}"
            lines.append("| " + " | ".join([head, ours, *(cell or "–" for cell in cells)]) + " |")
    return [*lines, "", *(_who(one, name) for one, name in zip(facts.beside, names, strict=True))]


def _cell(facts: Facts, score: Score, other: SavedRun, verdicts: Mapping[tuple[str, str], str]) -> str | None:
    assert facts.card is not None
    theirs = comparable_score(facts.card, other.scorecard, score)
    if theirs is None:
        return None
    verdict = verdicts.get((score.task, score.metric))
    return f"{told(theirs)} {MARKS[verdict]}" if verdict else told(theirs)


def _verdicts(found: Comparison) -> dict[tuple[str, str], str]:
    return {(row.task, row.metric): row.verdict for row in found.rows}


def _names(runs: Sequence[SavedRun]) -> list[str]:
    """What people know them by; with their digests where two are called the same."""
    models = [run.scorecard.model for run in runs]
    names = [
        (hub_id(model.name) if model.revision else None) or model_name(model) for model in models
    ]  # a path looks like an id
    return [
        f"{name} ({short_digest(run.scorecard.model.digest)})" if names.count(name) > 1 else name
        for name, run in zip(names, runs, strict=True)
    ]


def _who(run: SavedRun, name: str) -> str:
    model = run.scorecard.model
    revision = f" at `{model.revision[:12]}`" if model.revision else ""
    return (
        f"- {markdown_text(name)}{revision}: {parameter_count(model.parameters)}, digest `{short_digest(model.digest)}`, "
        f"[scorecard]({FOLDER}/{run.folder.name}/scorecard.json)"
    )
