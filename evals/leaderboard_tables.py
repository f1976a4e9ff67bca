"""Which scorecards stand in one table of a leaderboard, why others do not, and which are left out.

tables = group(runs)
why_separate(tables[0][0].scorecard, tables[1][0].scorecard)    # "Not comparable with the first table: dtype is ..."
not_shown(runs, tables)                                         # a line for each older scorecard of a checkpoint
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from evals.presentation import headlines, run_name
from evals.saved import DECISIVE, SavedRun
from evals.scorecard import Scorecard, TaskSettings


def group(entries: Sequence[SavedRun]) -> list[list[SavedRun]]:
    """The entries by table: equal settings for every task that two of a table share. A digest is in a table once.

    The newest scorecard of a digest is kept. The order given decides which settings make the first table.
    """
    tables: list[list[SavedRun]] = []
    for entry in entries:
        for table in tables:
            if all(_comparable(entry.scorecard, other.scorecard) for other in table):
                table.append(entry)
                break
        else:
            tables.append([entry])
    return [_newest_of_each_digest(table) for table in tables]


def _comparable(one: Scorecard, other: Scorecard) -> bool:
    return bool(_tasks(one).keys() & _tasks(other).keys()) and not _differences(one, other)


def _differences(one: Scorecard, other: Scorecard) -> dict[str, list[str]]:
    """What differs in the settings of the tasks that both have: "field is X, not Y" (X is of `other`) -> the tasks."""
    differences: dict[str, list[str]] = defaultdict(list)
    theirs = _tasks(other)
    for field in DECISIVE:
        mine, yours = getattr(one.settings, field), getattr(other.settings, field)
        if mine != yours:
            differences[f"{field} is {yours}, not {mine}"].append("all tasks")
    for task, settings in sorted(_tasks(one).items()):
        if task not in theirs:
            continue
        own, others = _flat(settings), _flat(theirs[task])
        for field in sorted(own.keys() | others.keys()):
            if own.get(field) != others.get(field):
                differences[f"{field} is {_shown(others.get(field))}, not {_shown(own.get(field))}"].append(task)
        units, their_units = _units(one, task), _units(other, task)
        for metric in sorted(units.keys() & their_units.keys()):
            if units[metric] != their_units[metric]:
                differences[f"{metric} is in {their_units[metric]}, not {units[metric]}"].append(task)
        scorers, their_scorers = _scorers(one, task), _scorers(other, task)
        for metric in sorted(scorers.keys() & their_scorers.keys()):
            if scorers[metric] != their_scorers[metric]:
                judges = f"{metric} is judged by {their_scorers[metric] or 'none'}, not {scorers[metric] or 'none'}"
                differences[judges].append(task)
    return dict(differences)


def why_separate(first: Scorecard, card: Scorecard) -> str:
    differences = _differences(first, card)
    if not differences:
        return "No task is shared with the first table."
    told = "; ".join(f"{what} ({', '.join(tasks)})" for what, tasks in differences.items())
    return f"Not comparable with the first table: {told}."


def _flat(settings: TaskSettings) -> dict[str, object]:
    """The fields, with the generation's settings one by one."""
    fields = settings.model_dump()
    generation = fields.pop("generation")
    return fields | {f"generation.{key}": value for key, value in generation.items()}


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {True: "on", False: "off", None: "unset"}[value]
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _tasks(card: Scorecard) -> dict[str, TaskSettings]:
    return {settings.task: settings for settings in card.settings.tasks}


def _scorers(card: Scorecard, task: str) -> dict[str, str | None]:
    return {score.metric: score.scorer for score in card.scores if score.task == task}


def _units(card: Scorecard, task: str) -> dict[str, str]:
    return {score.metric: score.unit for score in card.scores if score.task == task}


def not_shown(entries: Sequence[SavedRun], grouped: Sequence[Sequence[SavedRun]]) -> list[str]:
    """A line for each scorecard that is not shown, for a newer one of its checkpoint is in the table, and what only it has."""
    shown: dict[str, list[SavedRun]] = {entry.scorecard.model.digest: [] for entry in entries}
    for table in grouped:
        for entry in table:
            shown[entry.scorecard.model.digest].append(entry)
    lines = []
    for entry in entries:
        card, newer = entry.scorecard, shown[entry.scorecard.model.digest]
        if any(entry is one for one in newer):
            continue
        known = {(score.task, score.metric) for one in newer for score in one.scorecard.scores}
        only = [
            f"{score.task}/{score.metric}"
            for score in headlines(card.scores)
            if (score.task, score.metric) not in known
        ]
        lines.append(
            f"{run_name(entry)}: the scorecard of {card.created} (suite {card.settings.suite}) is not shown, for a newer one of "
            "this checkpoint is" + (f"; only it has {', '.join(only)}" if only else "")
        )
    return lines


def _newest_of_each_digest(table: Sequence[SavedRun]) -> list[SavedRun]:
    newest: dict[str, SavedRun] = {}
    for entry in table:
        known = newest.get(entry.scorecard.model.digest)
        if known is None or entry.scorecard.created > known.scorecard.created:
            newest[entry.scorecard.model.digest] = entry
    return list(newest.values())
