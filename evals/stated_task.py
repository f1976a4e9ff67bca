"""A task as a scorecard states it, prepared here once more; or why that cannot be.

suite = stated_suite(card, None)                          # a suite of ours, or the given file
prepared = stated_task(run, suite, settings, evaluated)   # a reason in words where something is not the same here
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from evals.saved import SavedRun, decisive_differences
from evals.scorecard import Scorecard, TaskSettings
from evals.suite import NamedSuite, known_suites, open_suite
from training.errors import UsageError

if TYPE_CHECKING:
    from evals.evaluated import Evaluated
    from evals.prepare import Prepared


def stated_suite(card: Scorecard, file: str | None) -> NamedSuite | str:
    """The suite of the scorecard: the given file, else ours of that name; or why there is none here."""
    stated = card.settings
    if file is not None:
        named = open_suite(file)
        if named.sha256 != stated.suite_sha256:
            raise UsageError(
                "this is not the suite of the scorecard",
                where=file,
                expected=f"{stated.suite}, SHA-256 {stated.suite_sha256}",
                found=f"SHA-256 {named.sha256}",
                next_step="give the file that `evals run --suite` was given",
            )
        return named
    if stated.suite not in known_suites():
        return f"its suite {stated.suite} is none of those installed here; --suite FILE takes another"
    return open_suite(stated.suite)


def stated_task(run: SavedRun, suite: NamedSuite, settings: TaskSettings, evaluated: Evaluated) -> Prepared | str:
    """The task as the scorecard states it; or what is not the same here. A second turn goes on from the recorded answers."""
    from evals.prepare import Choices, prepare
    from evals.second_turn import after_answers

    card = run.scorecard
    spec = next((task for task in suite.suite.tasks if task.task == settings.task), None)
    if spec is None:
        return f"the suite {suite.name} as it is here has no such task"
    needed = [task for task in suite.suite.tasks if task.task in (spec.follows, spec.task)]
    alone = replace(suite, suite=suite.suite.model_copy(update={"tasks": needed}))
    choices = Choices(
        settings.limit, card.settings.seed, None, card.settings.backend, settings.chat_template, settings.bos
    )
    ready, unavailable = prepare(alone, evaluated, choices)
    if spec.task in unavailable:
        return " ".join(unavailable[spec.task].split())
    *firsts, prepared = ready
    here = card.settings.model_copy(update={"tasks": [prepared.settings]})
    differing = decisive_differences(card.settings.model_copy(update={"tasks": [settings]}), here)
    if differing:
        return f"stated / here: {'; '.join(differing)}"
    for first in firsts:
        said = {sample.item: sample.response or "" for sample in run.samples(first.settings.task)}
        prepared = after_answers(prepared, first, [said.get(r.item, "") for r in first.requests], evaluated)
    return prepared
