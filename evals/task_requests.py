"""A task's requests, with every row refused by its number that lm-eval would turn into a wrong number, or into an exception.

requests = checked_requests(task, [0, 5], template=None)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from training.errors import UsageError

if TYPE_CHECKING:
    from evals.harness import Request, Task, Template

ASKED = ("multiple_choice", "loglikelihood", "generate_until")


def checked_requests(task: Task, indices: Sequence[int], template: Template | None) -> list[Request]:
    """The requests of these documents. Raises UsageError naming the row that cannot be asked, or not be scored."""
    if task.raw.OUTPUT_TYPE not in ASKED:
        raise UsageError(
            f"the task {task.name} is of a kind that is not run here",
            where=f"output_type of {task.name}",
            expected=", ".join(ASKED),
            found=str(task.raw.OUTPUT_TYPE),
            next_step="run it with lm-eval itself: python -m evals.prefix_tree run --model slipway ...",
        )
    fields = _fields(task)
    for index in indices:
        for name in fields:
            if task.documents[index].get(name) is None:
                raise _bad_row(task, index, f"has no '{name}', which its request is made of", "nothing")
    try:
        requests = task.requests(indices, template)
    except Exception as error:
        for index in indices:
            try:
                task.requests([index], template)
            except Exception as cause:  # noqa: BLE001 - whatever a template or a function raised is told
                raise _bad_row(
                    task, index, "cannot be made into a request", f"{type(cause).__name__}: {cause}"
                ) from error
        raise
    for request in requests:
        _check(task, request)
    return requests


def _check(task: Task, request: Request) -> None:
    if task.generates:
        if not request.prompt:
            raise _bad_row(task, request.index, "has an empty prompt, which nothing can follow", "''")
        return
    if task.raw.OUTPUT_TYPE != "multiple_choice":
        return
    delimiter = task.raw.config.target_delimiter
    choices = [choice.removeprefix(delimiter) for choice in request.choices]
    if "" in choices:
        raise _bad_row(task, request.index, "has an empty choice, which would always be the likeliest", repr(choices))
    if task.raw.config.process_results is not None:
        return
    if len(choices) < 2:
        raise _bad_row(task, request.index, "has fewer than two choices, so every answer is right", repr(choices))
    target = task.raw.doc_to_target(request.document)
    for one in target if isinstance(target, list) else [target]:
        known = one in choices if isinstance(one, str) else isinstance(one, int) and 0 <= one < len(choices)
        if not known:
            raise _bad_row(
                task,
                request.index,
                "has a target that is none of its choices: it would always count as wrong",
                repr(one),
            )


def _fields(task: Task) -> list[str]:
    """The fields of a document that its request is made of, as far as templates and columns tell."""
    from jinja2 import Environment, meta

    columns = set(task.documents[0])
    found: set[str] = set()
    for value in (task.raw.config.doc_to_text, task.raw.config.doc_to_choice, task.raw.config.doc_to_target):
        if not isinstance(value, str):
            continue
        names = {value} if value in columns else meta.find_undeclared_variables(Environment().parse(value))
        optional = value not in columns and "{%" in value  # a template with conditions may do without a field
        found |= set() if optional else names & columns
    return sorted(found)


def _bad_row(task: Task, index: int, what: str, found: str) -> UsageError:
    return UsageError(
        f"row {index + 1} of the data of {task.name} {what}",
        where=f"{task.data_id}, row {index + 1}",
        expected=f"a row that the task's definition fits, such as {_shown(task.documents[0 if index else -1])}",
        found=found[:200],
        next_step="correct the row, or the task's definition",
    )


def _shown(document: dict[str, Any]) -> str:
    text = repr(document)
    return text if len(text) <= 200 else text[:197] + "..."
