"""Second turns: what a task asks after the answers that another task of the suite was given, as MT-Bench does (Zheng et al. 2023).

    first = followed(spec, ready, unavailable)            # before weights are loaded: the task that it follows
    second = after_answers(second, first, texts, source)  # its questions, each after the model's own first answer

Each model is asked the second question in its own conversation, and so is the baseline: a judge sees both conversations whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from evals.scorecard import Sample, TaskSettings
from training.counted import counted
from training.errors import UsageError

if TYPE_CHECKING:
    from evals.endpoint import Served
    from evals.evaluated import Evaluated
    from evals.harness import Request
    from evals.prepare import Prepared
    from evals.suite import SuiteTask
    from training.data import Messages

BEFORE = "before"  # in a sample's detail: its earlier turns, [[question, answer], ...]
# In the same: what the users of all turns said, without the model's own words; of an item with shots, what it says itself.
ASKED = "asked"


def followed(
    spec: SuiteTask, ready: Sequence[Prepared], unavailable: Mapping[str, UsageError], without_template: bool
) -> Prepared:
    """The prepared task that this one follows. Raises UsageError where it is not one that can be followed; Unavailable
    where that one cannot run, or the command line took the template from both.
    """
    from evals.task_definition import Unavailable

    if without_template:
        raise Unavailable(
            f"{spec.task} goes on from an answer, which needs a chat template", found="--chat-template off"
        )
    first = next((one for one in ready if one.spec.task == spec.follows), None)
    if first is None and spec.follows in unavailable:
        raise Unavailable(f"{spec.task} follows {spec.follows}, which cannot run")
    found = f"no task {spec.follows} before it"
    if first is not None:
        if all(one.scoring == "judge" and one.chat_template for one in (first.spec, spec)):
            return first
        found = ", ".join(
            f"{one.task} with scoring: {one.scoring}, chat_template: {str(one.chat_template).lower()}"
            for one in (first.spec, spec)
        )
    raise UsageError(
        f"{spec.task} cannot be the second turn of {spec.follows}",
        where=spec.at("follows"),
        expected="an earlier task of the suite, and scoring: judge and chat_template: true for both",
        found=found,
        next_step="correct the suite",
    )


def require_same_items(spec: SuiteTask, settings: TaskSettings, requests: Sequence[Request], first: Prepared) -> None:
    """Raise UsageError where the second turns are not of the conversations that were begun."""
    items = [request.item for request in requests]
    begun = [request.item for request in first.requests]
    if settings.data_sha256 == first.settings.data_sha256 and items == begun:
        return
    raise UsageError(
        f"{spec.task} and {spec.follows}, which it follows, are not of the same items",
        where=spec.at("follows"),
        expected=f"the same data, limit and stratum: {counted(len(begun), 'item')}",
        found=f"{counted(len(items), 'item')}, {len(set(items) & set(begun))} of them in both, data "
        + ("equal" if settings.data_sha256 == first.settings.data_sha256 else "not equal"),
        next_step="give both tasks one data set, limit and stratum",
    )


def after_answers(second: Prepared, first: Prepared, answers: Sequence[str], source: Evaluated | Served) -> Prepared:
    """The second task with each question after the first one and its answer, through the chat template."""
    from evals.prepare import with_bos

    made = []
    for request, begun, answer in zip(second.requests, first.requests, answers, strict=True):
        turns = ((first.task.user_text(begun), answer),)
        text = source.conversation(conversation(turns, second.task.user_text(request)))
        made.append(replace(request.with_contexts(lambda _: text), before=turns))  # noqa: B023 - called at once
    return replace(second, requests=with_bos(made, source, second.settings.bos))


def conversation(before: Sequence[Sequence[str]], question: str) -> Messages:
    """Earlier turns and the question after them, as messages."""
    turns = [
        {"role": role, "content": text}
        for asked, answered in before
        for role, text in (("user", asked), ("assistant", answered))
    ]
    return [*turns, {"role": "user", "content": question}]


def told(request: Request, question: str) -> dict[str, object]:
    """What stands in a sample's detail of its earlier turns; nothing for a first turn."""
    if not request.before:
        return {}
    asked = [*(text for text, _ in request.before), question]
    return {BEFORE: [list(turn) for turn in request.before], ASKED: "\n\n".join(asked)}


def earlier(sample: Sample) -> list[list[str]]:
    """The earlier turns that a sample was answered after."""
    return [[str(text) for text in turn] for turn in sample.detail.get(BEFORE, [])]
