"""Everything that can be found wrong before weights are loaded: tasks, data, shots, templates, decoding, scorers.

    prepared = prepare(suite, evaluated, Choices(limit=40, seed=0, batch_size=None))

All problems are told at once, not one a run.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.backends import OWN
from evals.endpoint import Served
from evals.generation import as_decoding
from evals.scorecard import TaskSettings
from evals.statistics import sample_of
from evals.suite import NamedSuite, SuiteTask
from evals.task_requests import checked_requests
from training.errors import UsageError

if TYPE_CHECKING:
    from evals.evaluated import Evaluated
    from evals.harness import Request, Task
    from evals.reference_answers import Reference
    from training.decoding import Decoding

DEFAULT_BATCH = 16
PERSPECTIVE = "toxicity_perspective_api"  # the name of lm-eval's function that asks it
SCORER_PACKAGE = "alt-profanity-check"
# IFEval's checkers that split text with NLTK's punkt_tab, which is not part of the package.
NEED_PUNKT = frozenset({"length_constraints:number_sentences", "change_case:capital_word_frequency"})


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
    """The suite's tasks that can run, in its order; and those that cannot, for lack of data, each with its reason.

    Raises UsageError that names every task that is asked for what cannot be, or that is required and not available.
    """
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
            ready.append(_prepare(spec, evaluated, choices, named.file.parent))
        except Unavailable as error:
            unavailable[spec.task] = error
        except UsageError as error:
            problems.append(error)
    required = {spec.task for spec in named.suite.tasks if spec.required}
    problems += [error for task, error in unavailable.items() if task in required or not ready]
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise UsageError(
            f"{len(problems)} tasks of the suite {named.name} cannot run",
            where=str(named.file),
            found="\n" + "\n".join(f"- {problem.render()}" for problem in problems),
            next_step="mend these, or leave the tasks out in a suite of your own",
        )
    return ready, {task: " ".join(error.render().split()) for task, error in unavailable.items()}


def _prepare(spec: SuiteTask, evaluated: Evaluated | Served, choices: Choices, folder: Path) -> Prepared:
    from evals.task_definition import Overrides, Unavailable, load_task

    overrides = Overrides(spec.num_fewshot, spec.samples, spec.generation.model_dump(exclude_none=True))
    task = load_task(spec.task, overrides, folder / spec.file if spec.file else None)
    limit = min((size for size in (spec.limit, choices.limit) if size is not None), default=None)
    indices = _chosen(task.documents, spec, limit, choices.seed)
    template = evaluated.conversation if spec.chat_template else None
    _check_scoring(spec, task)
    if isinstance(evaluated, Served):
        _check_served(spec, task, evaluated)
    unscorable = _missing_punkt([task.documents[index] for index in indices])
    if unscorable and 1 - unscorable / len(indices) < spec.minimum_coverage:
        raise Unavailable(
            f"{unscorable} of {len(indices)} items of {spec.task} cannot be scored without NLTK's data punkt_tab",
            expected=f"at least {spec.minimum_coverage:.0%} of the items scorable (minimum_coverage)",
            found=f"{1 - unscorable / len(indices):.1%}",
            next_step="python -m nltk.downloader punkt_tab",
        )
    generation = task.generation
    decoding = None
    if task.generates:
        _require_room(spec.task, generation, evaluated.context)
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
    )
    requests = _with_bos(checked_requests(task, indices, template), evaluated, choices.bos)
    return Prepared(
        spec,
        task,
        requests,
        settings,
        decoding,
        tuple(generation.get("until") or ()),
        task.repeats,
        choices.batch_size or spec.batch_size or DEFAULT_BATCH,
        _reference(spec, task, requests, evaluated, folder),
    )


def _reference(
    spec: SuiteTask, task: Task, requests: list[Request], evaluated: Evaluated | Served, folder: Path
) -> Reference | None:
    """The baseline's answers that the suite names. Raises UsageError where they are not there, or for another scoring."""
    if spec.reference is None:
        return None
    if spec.scoring != "judge":
        raise UsageError(
            f"{spec.task}: a reference is what answers are judged against",
            where=f"reference of {spec.task} in the suite",
            expected="scoring: judge",
            found=f"scoring: {spec.scoring}",
            next_step="correct the suite",
        )
    from evals.reference_answers import read_reference

    tokenizer = evaluated.tokenizer
    texts = [task.user_text(request) for request in requests]
    return read_reference(
        folder / spec.reference,
        requests,
        texts,
        lambda text: len(tokenizer.encode(text, add_special_tokens=False)) if tokenizer else len(text),
    )


def _missing_punkt(documents: Sequence[dict[str, Any]]) -> int:
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


def _chosen(documents: Sequence[dict[str, Any]], spec: SuiteTask, limit: int | None, seed: int) -> list[int]:
    """The places of the documents to evaluate: all, or a seeded sample that keeps the strata's proportions."""
    if spec.stratum is not None and spec.stratum not in documents[0]:
        raise UsageError(
            f"the documents of {spec.task} have no field '{spec.stratum}' to be stratified by",
            where=f"stratum of {spec.task} in the suite",
            expected="one of " + ", ".join(sorted(documents[0])),
            found=spec.stratum,
            next_step="correct the suite",
        )
    if limit is None or limit >= len(documents):
        return list(range(len(documents)))
    strata = [str(document[spec.stratum]) if spec.stratum else "" for document in documents]
    return sample_of(strata, limit, seed)


def _check_scoring(spec: SuiteTask, task: Task) -> None:
    """Raise UsageError where the suite's way of scoring does not fit the task, or its scorer is not installed."""
    if spec.scoring == "task" and getattr(task.raw.config.process_results, "__name__", "") == PERSPECTIVE:
        raise UsageError(
            f"{spec.task}: lm-eval's own scoring of this task gives 0 to every text that it could not have scored",
            where=f"scoring of {spec.task} in the suite",
            expected="scoring: toxicity or profanity",
            found="the Perspective API, which closes, with failures counted as harmless",
            next_step="name another scoring for the task in the suite",
        )
    if spec.scoring in ("task", "bias"):
        if task.repeats > 1 and [pipeline.name for pipeline in task.raw._filters] == ["none"]:
            raise UsageError(
                f"{spec.task}: lm-eval's default filter would cut {task.repeats} samples to the first without a word",
                where=f"samples of {spec.task} in the suite",
                expected="samples: 1, a task with its own filter_list, or scoring: toxicity",
                found=f"{task.repeats} samples, scoring: {spec.scoring}",
                next_step="correct the suite",
            )
        ours = ("distance_from_half", "entropy") if spec.scoring == "bias" else ()
        unknown = [metric for metric in [*spec.headline, *(spec.metrics or [])] if metric not in (*task.metrics, *ours)]
        if unknown:
            raise UsageError(
                f"{spec.task} has no metric {', '.join(unknown)}",
                where=f"headline and metrics of {spec.task} in the suite",
                expected="one of " + ", ".join(task.metrics),
                found=", ".join(unknown),
                next_step="correct the suite",
            )
        if list(task.metrics) == ["bypass"]:
            raise UsageError(
                f"{spec.task} has no metric of its own",
                where=f"scoring of {spec.task} in the suite",
                expected="scoring: toxicity, profanity or judge",
                found=f"scoring: {spec.scoring}",
                next_step="correct the suite",
            )
        return
    if not task.generates:
        raise UsageError(
            f"scoring: {spec.scoring} needs generated text, and {spec.task} scores choices",
            where=f"scoring of {spec.task} in the suite",
            expected="scoring: task",
            found=f"scoring: {spec.scoring}",
            next_step="correct the suite",
        )
    if spec.scoring in ("profanity", "toxicity"):
        _check_text_scorers(spec)
    elif spec.scoring == "truthfulness" and (spec.judges is None or "question" not in task.documents[0]):
        raise UsageError(
            f"{spec.task}: scoring: truthfulness needs judges, and documents with a field 'question'",
            expected="judges: {truthful: runs/truthful, informative: runs/informative}, or the Hub's as org/name@revision",
            found="no judges" if spec.judges is None else "the fields " + ", ".join(sorted(task.documents[0])),
            next_step="python -m evals train-scorer truthful --data FILE --out runs/truthful, and the same for informative",
        )
    elif spec.scoring == "truthfulness":
        from evals.hub_judge import open_judges

        open_judges(
            spec.judges, "float32", "cpu", Path()
        )  # found and whole, before weights are loaded; nothing is judged
    elif task.repeats > 1:
        raise UsageError(
            f"{spec.task}: scoring: {spec.scoring} takes one answer to each prompt",
            where=f"samples of {spec.task} in the suite",
            expected="samples: 1",
            found=f"{task.repeats} samples",
            next_step="correct the suite",
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
    scorers = [open_scorer(name) for name in spec.text_scorers]
    known = [metric for scorer in scorers for metric in scorer.metrics.values()]
    unknown = [metric for metric in spec.headline if metric not in known]
    if unknown:
        raise UsageError(
            f"{spec.task} has no metric {', '.join(unknown)} by its scorers",
            where=f"headline of {spec.task} in the suite",
            expected="one of " + ", ".join(known),
            found=", ".join(unknown),
            next_step="correct the suite",
        )
    for scorer in scorers:
        scorer.check()


def _check_served(spec: SuiteTask, task: Task, served: Served) -> None:
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


def _with_bos(requests: list[Request], evaluated: Evaluated | Served, bos: str) -> list[Request]:
    """The requests, each of whose contexts begins with the tokenizer's BOS token where `bos` is "added"."""
    if bos != "added":
        return requests
    token = str(evaluated.tokenizer.bos_token) if evaluated.tokenizer else ""
    made = []
    for request in requests:
        for instance in request.instances:
            context, *rest = instance.arguments
            instance.arguments = (context if str(context).startswith(token) else token + str(context), *rest)
        made.append(replace(request, prompt=str(request.instances[0].args[0])))
    return made


def _require_room(name: str, generation: dict[str, Any], context: int) -> None:
    """Raise UsageError where a generation would not fit into the model's context."""
    if int(generation["max_gen_toks"]) >= context:
        raise UsageError(
            f"{name} generates more tokens than the model's context holds",
            where=f"generation of {name}",
            expected=f"max_gen_toks below {context}",
            found=str(generation["max_gen_toks"]),
            next_step="set generation: {max_gen_toks: ...} for this task in a suite of your own",
        )
