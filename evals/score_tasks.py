"""The tasks of an evaluation one after the other: answered, scored, and none of them takes another's results with it.

outcome = score_tasks(prepared, backend, circumstances, processes, judges, parent, Path("runs/a/.evals"))
outcome.scores, outcome.samples, outcome.failed
"""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evals.keys import hide_keys
from evals.scorecard import Sample, Score
from training.command import log, os_error_in
from training.counted import counted
from training.errors import UsageError

if TYPE_CHECKING:
    from evals.backends import Backend
    from evals.prepare import Prepared
    from evals.processes import Processes
    from evals.respond import Circumstances, Responses
    from evals.saved import SavedRun
    from evals.score_answers import Judges
    from evals.scoring import Figure


@dataclass
class Outcome:
    """What came of the tasks, each under its name. In other processes than the first there is nothing but the answers on disk."""

    scores: list[Score] = field(default_factory=list)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    engines: dict[str, str | None] = field(default_factory=dict)  # how log-likelihoods were computed
    failed: dict[str, str] = field(default_factory=dict)  # why

    def in_order(self, tasks: Sequence[str]) -> Outcome:
        """The same, the tasks in this order."""
        return Outcome(
            sorted(self.scores, key=lambda score: tasks.index(score.task)),
            {task: self.samples[task] for task in tasks if task in self.samples},
            {task: self.engines[task] for task in tasks if task in self.engines},
            {task: self.failed[task] for task in tasks if task in self.failed},
        )


def score_tasks(
    prepared: Sequence[Prepared],
    backend: Backend,
    circumstances: Circumstances,
    processes: Processes,
    judges: Judges,
    parent: SavedRun | None,
    folder: Path,
    say: Callable[[str], None] = log,
) -> Outcome:
    """Answers, then scores. An error that would meet every task (a full disk, weights that cannot be used) is raised."""
    from evals.known_answers import answering_order
    from evals.scoring import as_scores

    outcome = Outcome()
    said: dict[str, tuple[Prepared, list[str]]] = {}  # each item's text, of tasks that second turns may follow
    for one in answering_order(prepared):
        name = one.settings.task
        began = time.monotonic()
        try:
            answered = _answer_and_score(one, said, backend, circumstances, processes, judges, parent, folder)
            if answered is None:
                continue
            responses, (outcome.samples[name], figures) = answered
            outcome.engines[name] = responses.engine
            made, refused = as_scores(one, outcome.samples[name], figures, circumstances.seed)
        except Exception as error:
            if _not_of_the_task(error):
                raise
            outcome.samples.pop(name, None)
            outcome.failed[name] = _reason(error)
            say(f"{name} failed: {outcome.failed[name]}")
            if not isinstance(error, UsageError):
                log(hide_keys(traceback.format_exc()))
            continue
        outcome.scores += made
        if refused:
            outcome.failed[name] = "; ".join(refused)
            say(f"{name}: {outcome.failed[name]}")
        say(f"{name}  {counted(one.settings.items, 'item')}, {time.monotonic() - began:.1f} s")
    return outcome.in_order([one.settings.task for one in prepared])


def _answer_and_score(
    one: Prepared,
    said: dict[str, tuple[Prepared, list[str]]],
    backend: Backend,
    circumstances: Circumstances,
    processes: Processes,
    judges: Judges,
    parent: SavedRun | None,
    folder: Path,
) -> tuple[Responses, tuple[list[Sample], list[Figure]]] | None:
    """The answers, and the first process's scores of them; None in the others."""
    from evals.respond import respond
    from evals.score_answers import score_answers
    from evals.second_turn import after_answers

    if one.spec.follows:
        if one.spec.follows not in said:
            raise UsageError(f"it follows {one.spec.follows}, which has no answers")
        one = after_answers(one, *said[one.spec.follows], backend.asked)
    responses = respond(one, backend, circumstances, folder, processes)
    if one.task.generates:
        said[one.settings.task] = one, [str(answer[0]["text"]) for answer in responses.answers]
    if not processes.first:
        return None
    samples, figures = score_answers(one, responses.answers, judges, parent, folder, circumstances)
    return responses, (_with_own_words(one, samples), figures)


def _with_own_words(one: Prepared, samples: list[Sample]) -> list[Sample]:
    """The samples of a task with shots, each with what its own item says: in the prompt nothing tells it from the shots.

    Left as they are where the context is no text but one of several, as WinoGrande's.
    """
    from evals.second_turn import ASKED

    if not one.settings.num_fewshot or one.spec.follows:
        return samples
    said = {request.item: one.task.raw.doc_to_text(request.document) for request in one.requests}
    return [
        sample.model_copy(update={"detail": {**sample.detail, ASKED: said[sample.item]}})
        if isinstance(said[sample.item], str)
        else sample
        for sample in samples
    ]


def _not_of_the_task(error: Exception) -> bool:
    """Whether the error would meet every task: no space, no permission, or weights that cannot be used."""
    refusal = os_error_in(error)
    if refusal is not None and refusal.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return True
    from evals.endpoint import EndpointError

    return isinstance(error, EndpointError) or (isinstance(error, UsageError) and error.what.startswith("the weights"))


def _reason(error: Exception) -> str:
    if isinstance(error, UsageError):
        return hide_keys(error.render())
    text = str(error).strip().splitlines()
    return hide_keys(f"{type(error).__name__}: {text[0] if text else ''}")
