"""Everything that can be found wrong before weights are loaded: tasks, data, shots, templates, decoding, scorers.

    prepared = prepare(suite, evaluated, Choices(limit=40, seed=0, batch_size=None))

All problems are told at once, not one a run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from evals.backends import OWN
from evals.endpoint import Served
from evals.generation import as_decoding
from evals.scorecard import TaskSettings
from evals.scoring_checks import check_scoring, check_served, missing_punkt
from evals.statistics import sample_of
from evals.suite import NamedSuite, SuiteTask
from evals.task_requests import checked_requests
from training.counted import counted
from training.errors import UsageError

if TYPE_CHECKING:
    from evals.evaluated import Evaluated
    from evals.harness import Request, Task
    from evals.reference_answers import Reference
    from training.decoding import Decoding

DEFAULT_BATCH = 16
Problem = TypeVar("Problem", bound=UsageError)


@dataclass(frozen=True)
class Choices:
    """What the command line chooses for all tasks."""

    limit: int | None
    seed: int
    batch_size: int | None
    backend: str = OWN
    chat_template: bool | None = None  # what the suite says of each task, where unset
    bos: str = "tokenizer"


@dataclass(frozen=True)
class Prepared:
    """A task that is ready to run: its requests and everything that moves its figures."""

    spec: SuiteTask
    task: Task
    requests: list[Request]
    settings: TaskSettings
    decoding: Decoding | None
    until: tuple[str, ...]
    samples: int
    batch_size: int
    reference: Reference | None = None  # the baseline's answers that the suite names


def prepare(
    named: NamedSuite, evaluated: Evaluated | Served, choices: Choices
) -> tuple[list[Prepared], dict[str, str]]:
    """The suite's tasks that can run, in its order; and those that cannot, for lack of data or of context, each with its reason.

    Raises UsageError that names every task that is asked for what cannot be, or that is required and not available.
    """
    from evals.second_turn import followed
    from evals.task_definition import Unavailable

    if choices.chat_template is not None:
        named = named.with_chat_template(choices.chat_template)
    templated = any(spec.chat_template for spec in named.suite.tasks)
    if templated and not isinstance(evaluated, Served) and evaluated.tokenizer.chat_template is None:
        raise UsageError(
            "the suite asks for a chat template, and the tokenizer has none",
            where=str(evaluated.checkpoint.path),
            expected="chat_template.jinja, or chat_template in tokenizer_config.json, for "
            + ", ".join(spec.task for spec in named.suite.tasks if spec.chat_template),
            found="neither",
            next_step="save the tokenizer with its template, or use a suite with chat_template: false",
        )
    if templated:
        evaluated.require_template()
    ready: list[Prepared] = []
    problems: list[UsageError] = []
    unavailable: dict[str, UsageError] = {}
    for spec in named.suite.tasks:
        try:
            without = choices.chat_template is False
            first = followed(spec, ready, unavailable, without) if spec.follows else None
            ready.append(_prepare(spec, evaluated, choices, named.file.parent, first))
        except Unavailable as error:
            unavailable[spec.task] = _placed(error, named, spec)
        except UsageError as error:
            problems.append(_placed(error, named, spec))
    required = {spec.task for spec in named.suite.tasks if spec.required}
    problems += [error for task, error in unavailable.items() if task in required or not ready]
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise UsageError(
            f"{counted(len(problems), 'task')} of the suite {named.name} cannot run",
            where=str(named.file),
            found="\n" + "\n".join(f"- {problem.render()}" for problem in problems),
            next_step="mend these, or leave the tasks out in a suite of your own",
        )
    return ready, {task: error.render() for task, error in unavailable.items()}


def _placed(error: Problem, named: NamedSuite, spec: SuiteTask) -> Problem:
    """The error of a task, with the place in the user's suite where the task stands."""
    stands = spec.at("task")
    if str(named.file) in (error.where or "") or not stands.startswith(str(named.file)):
        return error
    error.put_at(stands)
    return error


def _prepare(
    spec: SuiteTask, evaluated: Evaluated | Served, choices: Choices, folder: Path, first: Prepared | None
) -> Prepared:
    """`first` is the task whose answers are the first turn of this one's conversations, if there is one."""
    from evals.context_room import require_fit, require_room
    from evals.second_turn import require_same_items
    from evals.task_definition import Overrides, Unavailable, load_task

    overrides = Overrides(spec.num_fewshot, spec.samples, spec.generation.model_dump(exclude_none=True))
    task = load_task(spec.task, overrides, folder / spec.file if spec.file else None)
    limit = min((size for size in (spec.limit, choices.limit) if size is not None), default=None)
    indices = _chosen(task.documents, spec, limit, choices.seed)
    template = evaluated.conversation if spec.chat_template else None
    check_scoring(spec, task)
    if isinstance(evaluated, Served):
        check_served(spec, task, evaluated)
    unscorable = missing_punkt([task.documents[index] for index in indices])
    if unscorable and 1 - unscorable / len(indices) < spec.minimum_coverage:
        raise Unavailable(
            f"{unscorable} of {counted(len(indices), 'item')} of {spec.task} cannot be scored without NLTK's data punkt_tab",
            expected=f"at least {spec.minimum_coverage:.0%} of the items scorable (minimum_coverage)",
            found=f"{1 - unscorable / len(indices):.1%}",
            next_step="python -m nltk.downloader punkt_tab",
        )
    generation = task.generation
    decoding = None
    if task.generates:
        require_room(spec.task, generation, evaluated.context)
        decoding = as_decoding(generation, spec.task) if choices.backend == OWN else None
        generation = {**generation, "samples": task.repeats}
    settings = TaskSettings(
        task=spec.task,
        version=f"{task.version}, definition {task.definition}",
        data_id=task.data_id,
        data_sha256=task.data_sha256,
        data_revision=task.data_revision,
        num_fewshot=task.num_fewshot,
        chat_template=spec.chat_template,
        bos=choices.bos,
        generation=generation,
        limit=limit,
        items=len(indices),
        items_sha256=_chosen_sha256(task, indices),
    )
    requests = with_bos(checked_requests(task, indices, template), evaluated, choices.bos)
    if not isinstance(evaluated, Served):
        require_fit(spec.task, requests, evaluated, int(generation["max_gen_toks"]) if task.generates else 0)
    if first is not None:
        require_same_items(spec, settings, requests, first)
    return Prepared(
        spec,
        task,
        requests,
        settings,
        decoding,
        tuple(generation.get("until") or ()),
        task.repeats,
        choices.batch_size or spec.batch_size or DEFAULT_BATCH,
        _reference(spec, task, requests, evaluated, folder, first),
    )


def _reference(
    spec: SuiteTask,
    task: Task,
    requests: list[Request],
    evaluated: Evaluated | Served,
    folder: Path,
    first: Prepared | None,
) -> Reference | None:
    """The baseline's answers that the suite names. Raises UsageError where they are not there, or for another scoring."""
    if spec.reference is None:
        return None
    if spec.scoring != "judge":
        raise UsageError(
            f"{spec.task}: a reference is what answers are judged against",
            where=spec.at("reference"),
            expected="scoring: judge",
            found=f"scoring: {spec.scoring}",
            next_step="correct the suite",
        )
    from evals.reference_answers import read_reference

    tokenizer = evaluated.tokenizer
    turns: list[tuple[str, ...]] = [(task.user_text(request),) for request in requests]
    if first is not None:
        turns = [(first.task.user_text(one), *texts) for one, texts in zip(first.requests, turns, strict=True)]
    return read_reference(
        folder / spec.reference,
        requests,
        turns,
        lambda text: len(tokenizer.encode(text, add_special_tokens=False)) if tokenizer else len(text),
    )


def _chosen(documents: Sequence[dict[str, Any]], spec: SuiteTask, limit: int | None, seed: int) -> list[int]:
    """The places of the documents to evaluate: all, or a seeded sample that keeps the strata's proportions."""
    if spec.stratum is not None and spec.stratum not in documents[0]:
        raise UsageError(
            f"the documents of {spec.task} have no field '{spec.stratum}' to be stratified by",
            where=spec.at("stratum"),
            expected="one of " + ", ".join(sorted(documents[0])),
            found=spec.stratum,
            next_step="correct the suite",
        )
    if limit is None or limit >= len(documents):
        return list(range(len(documents)))
    strata = [str(document[spec.stratum]) if spec.stratum else "" for document in documents]
    return sample_of(strata, limit, seed)


def _chosen_sha256(task: Task, indices: Sequence[int]) -> str | None:
    """Which items a sample has; None where all are evaluated."""
    if len(indices) == len(task.documents):
        return None
    return hashlib.sha256(json.dumps([task.ids[index] for index in indices]).encode()).hexdigest()


def with_bos(requests: list[Request], evaluated: Evaluated | Served, bos: str) -> list[Request]:
    """The requests, each of whose contexts begins with the tokenizer's BOS token where `bos` is "added"."""
    if bos != "added":
        return requests
    token = str(evaluated.tokenizer.bos_token) if evaluated.tokenizer else ""
    return [
        request.with_contexts(lambda context: context if context.startswith(token) else token + context)
        for request in requests
    ]
