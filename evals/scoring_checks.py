"""Whether a task can be scored as its suite says, found out before weights are loaded: metrics, scorers, judges, endpoints.

check_scoring(spec, task)                 # raises UsageError where the suite's way of scoring does not fit the task
check_served(spec, task, served)          # the same for a model behind an endpoint
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.suite import SuiteTask
from training.errors import UsageError

if TYPE_CHECKING:
    from evals.endpoint import Served
    from evals.harness import Task

PERSPECTIVE = "toxicity_perspective_api"  # the name of lm-eval's function that asks it
SCORER_PACKAGE = "alt-profanity-check"
# IFEval's checkers that split text with NLTK's punkt_tab, which is not part of the package.
NEED_PUNKT = frozenset({"length_constraints:number_sentences", "change_case:capital_word_frequency"})


def check_scoring(spec: SuiteTask, task: Task) -> None:
    """Raise UsageError where the suite's way of scoring does not fit the task, or its scorer is not installed."""
    if spec.scoring in ("task", "bias"):
        _check_own_metrics(spec, task)
    elif not task.generates:
        raise _misfit(
            spec,
            f"scoring: {spec.scoring} needs generated text, and {spec.task} scores choices",
            key="scoring",
            expected="scoring: task",
            found=f"scoring: {spec.scoring}",
        )
    elif spec.scoring in ("profanity", "toxicity"):
        _check_text_scorers(spec)
    elif spec.scoring == "truthfulness":
        _check_truth_judges(spec, task)
    elif task.repeats > 1:
        raise _misfit(
            spec,
            f"{spec.task}: scoring: {spec.scoring} takes one answer to each prompt",
            key="samples",
            expected="samples: 1",
            found=f"{task.repeats} samples",
        )


def _misfit(
    spec: SuiteTask, what: str, *, key: str, expected: str, found: str, next_step: str = "correct the suite"
) -> UsageError:
    """The error that what a suite says of a task under `key` does not fit it."""
    return UsageError(what, where=spec.at(key), expected=expected, found=found, next_step=next_step)


def _check_own_metrics(spec: SuiteTask, task: Task) -> None:
    """Raise UsageError where lm-eval's own scoring of the task would lie, or has not the metrics that the suite names."""
    if getattr(task.raw.config.process_results, "__name__", "") == PERSPECTIVE and spec.scoring == "task":
        raise _misfit(
            spec,
            f"{spec.task}: lm-eval's own scoring of this task gives 0 to every text that it could not have scored",
            key="scoring",
            expected="scoring: toxicity or profanity",
            found="the Perspective API, which closes, with failures counted as harmless",
            next_step="name another scoring for the task in the suite",
        )
    if task.repeats > 1 and [pipeline.name for pipeline in task.raw._filters] == ["none"]:
        raise _misfit(
            spec,
            f"{spec.task}: lm-eval's default filter would cut {task.repeats} samples to the first without a word",
            key="samples",
            expected="samples: 1, a task with its own filter_list, or scoring: toxicity",
            found=f"{task.repeats} samples, scoring: {spec.scoring}",
        )
    ours = ("distance_from_half", "entropy") if spec.scoring == "bias" else ()
    for key, metrics in (("headline", spec.headline), ("metrics", spec.metrics or [])):
        _check_named(spec, metrics, [*task.metrics, *ours], key)
    if list(task.metrics) == ["bypass"]:
        raise _misfit(
            spec,
            f"{spec.task} has no metric of its own",
            key="scoring",
            expected="scoring: toxicity, profanity or judge",
            found=f"scoring: {spec.scoring}",
        )


def _check_named(spec: SuiteTask, named: Sequence[str], known: Sequence[str], key: str) -> None:
    """Raise UsageError where the suite names a metric that is none of these."""
    unknown = [metric for metric in named if metric not in known]
    if unknown:
        raise _misfit(
            spec,
            f"{spec.task} has no metric {', '.join(unknown)}",
            key=key,
            expected="one of " + ", ".join(known),
            found=", ".join(unknown),
        )


def _check_truth_judges(spec: SuiteTask, task: Task) -> None:
    """Raise UsageError where there are no judges, the task has no questions, or a judge is not whole; nothing is judged yet."""
    if spec.judges is None or "question" not in task.documents[0]:
        raise UsageError(
            f"{spec.task}: scoring: truthfulness needs judges, and documents with a field 'question'",
            where=f"--truth-judges, or {spec.at('judges')}",
            expected="judges: {truthful: runs/truthful, informative: runs/informative}, or the Hub's as org/name@revision",
            found="no judges" if spec.judges is None else "the fields " + ", ".join(sorted(task.documents[0])),
            next_step="--truth-judges truthful=DIR informative=DIR; python -m evals train-scorer truthful --data FILE --out DIR "
            "makes one, and the same for informative",
        )
    from evals.hub_judge import open_judges

    open_judges(spec.judges, "float32", "cpu", Path())


def what_is_not_scored(spec: SuiteTask) -> str | None:
    """What people expect of a task and its scoring does not give, in words; None where there is nothing to say."""
    if spec.task != "truthfulqa_gen" or spec.scoring != "task":
        return None
    return (
        f"{spec.task} is scored by its overlap with reference answers alone; whether answers are true and informative is for "
        "judges to say: --suite truthfulness --truth-judges truthful=DIR informative=DIR"
    )


def _check_text_scorers(spec: SuiteTask) -> None:
    """Raise UsageError where a scorer is not installed or not whole, or gives no figure that the suite asks for."""
    from evals.text_scorer import open_scorer

    try:
        importlib.metadata.version(SCORER_PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise UsageError(
            f"the scorer of {spec.task} is not installed", next_step=f"pip install {SCORER_PACKAGE}"
        ) from error
    try:
        scorers = [open_scorer(name) for name in spec.text_scorers]
    except UsageError as error:
        error.put_at(spec.at("scorers"))
        raise
    known = [metric for scorer in scorers for metric in scorer.metrics.values()]
    _check_named(spec, spec.headline, known, "headline")
    for scorer in scorers:
        scorer.check()


def check_served(spec: SuiteTask, task: Task, served: Served) -> None:
    """Raise UsageError where an endpoint cannot give what the task needs."""
    what = None
    if not task.generates and spec.chat_template:
        what = "a chat endpoint gives no log-likelihoods of choices"
    elif not task.generates and served.tokenizer is None:
        what = "log-likelihoods of choices need the tokenizer of the served model"
    elif spec.scoring == "judge" and served.tokenizer is None:
        what = "scoring: judge counts the answers' tokens, and needs the tokenizer of the served model"
    if what:
        raise UsageError(
            f"{spec.task}: {what}",
            where=served.url,
            expected="chat_template: false, and --tokenizer DIRECTORY_OR_ID",
            found=f"chat_template: {str(spec.chat_template).lower()}, tokenizer: {served.tokenizer_name or 'none'}",
            next_step="add --tokenizer, or leave the task out in a suite of your own",
        )


def missing_punkt(documents: Sequence[dict[str, Any]]) -> int:
    """How many documents cannot be scored because NLTK's punkt_tab is not installed."""
    needing = sum(bool(NEED_PUNKT & set(document.get("instruction_id_list") or [])) for document in documents)
    if not needing:
        return 0
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        return needing
    return 0
