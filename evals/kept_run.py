"""`python -m evals rescore`: a run scored again from the answers that it kept, without the weights that gave them.

    rescore_run(Path("runs/a"), suite="mine.yaml", judge=Path("runs/reward/checkpoint"))

The digest, and all settings that decide answers, are those of the run's scorecard. An answer is found by them and by the very
request, so what is scored is what that checkpoint said. Where a request has no kept answer the weights are asked for by name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.evaluated import Evaluated, Weights, open_tokenizer
from evals.out_directory import require_judges
from evals.prepare import DEFAULT_BATCH
from evals.run import Request, evaluate
from evals.saved import SavedRun
from evals.scorecard import Scorecard
from evals.stated_task import stated_suite
from evals.suite import NamedSuite, open_suite
from training.checkpoint import Checkpoint
from training.errors import UsageError
from training.pretrained import download

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KEPT = ".evals"


@dataclass(frozen=True)
class KeptAnswers(Evaluated):
    """A checkpoint of which the tokenizer and config are there, and what its scorecard says of the rest."""

    card: Scorecard

    @property
    def digest(self) -> str:
        return self.card.model.digest

    @cached_property
    def parameters(self) -> int | None:
        return self.card.model.parameters


@dataclass(frozen=True)
class NoWeights(Weights):
    """Stands where weights stand, and is asked for them only where an answer is not kept."""

    run: Path

    @cached_property
    def model(self) -> PreTrainedModel:
        card = self.evaluated.card if isinstance(self.evaluated, KeptAnswers) else None
        suite = card.settings.suite if card else "SUITE"
        raise UsageError(
            "the weights are needed, for an answer is not among those that were kept",
            where=str(self.run / KEPT),
            expected="an answer to every request of the suite, in batches of the same size, by these versions of the packages",
            found="at least one request without",
            next_step=f"python -m evals run {self.evaluated.name} --suite {suite} --out {self.run}, where the weights are",
        )


def rescore_run(run: Path, suite: str | None = None, **judges: Any) -> Scorecard:
    """Score the kept answers of a run again, and write its samples/ and scorecard.json. `judges`: fields of Request.

    Raises UsageError where the run has no scorecard, where an answer is not kept, or where a figure of the scorecard would be lost
    because nobody is named who judged.
    """
    saved = SavedRun.open(run)
    card = saved.scorecard
    if card.model.endpoint is not None:
        raise UsageError(
            "answers of a model behind an endpoint are not kept",
            where=str(saved.folder / "scorecard.json"),
            expected="a scorecard of a checkpoint",
            found=card.model.endpoint,
            next_step="python -m evals run NAME --backend openai-endpoint --endpoint URL ...",
        )
    named = _in_the_same_batches(_suite(card, suite), card)
    request = replace(as_it_was(saved, named), **{name: value for name, value in judges.items() if value})
    if request.baseline is None and (saved.folder / "baseline" / "scorecard.json").is_file():
        request = replace(request, baseline=saved.folder / "baseline")
    require_judges(card, named, request)
    path = _files(saved.folder, card)
    checkpoint = Checkpoint(path)
    evaluated = KeptAnswers(card.model.name, checkpoint, card.model.revision, open_tokenizer(checkpoint), card)
    return evaluate(request, NoWeights(evaluated, card.settings.dtype, card.settings.device, saved.folder), named)


def _suite(card: Scorecard, suite: str | None) -> NamedSuite:
    if suite is not None:
        return open_suite(suite)
    found = stated_suite(card, None)
    if isinstance(found, str):
        raise UsageError(found, where="the scorecard", found=card.settings.suite, next_step="--suite FILE")
    return found


def _in_the_same_batches(named: NamedSuite, card: Scorecard) -> NamedSuite:
    """The suite with the batch sizes that its tasks had, where it gives none and the suite of the scorecard is one of ours."""
    stated = stated_suite(card, None)
    known = {} if isinstance(stated, str) else {task.task: task.batch_size for task in stated.suite.tasks}
    tasks = [
        task.model_copy(update={"batch_size": task.batch_size or known.get(task.task)}) for task in named.suite.tasks
    ]
    return replace(named, suite=named.suite.model_copy(update={"tasks": tasks}))


def _batch_size(card: Scorecard, named: NamedSuite) -> int | None:
    """What --batch-size was: unset where the suites' own sizes come to what the scorecard says, which is the largest."""
    stated = stated_suite(card, None)
    specs = {task.task: task for task in (named if isinstance(stated, str) else stated).suite.tasks}
    sizes = [specs[task.task].batch_size or DEFAULT_BATCH for task in card.settings.tasks if task.task in specs]
    return None if sizes and max(sizes) == card.settings.batch_size else card.settings.batch_size


def as_it_was(saved: SavedRun, named: NamedSuite) -> Request:
    """The evaluation that the scorecard states: what was chosen for all tasks is read from what its tasks have."""
    settings = saved.scorecard.settings
    specs = {task.task: task for task in named.suite.tasks}
    tasks = [task for task in settings.tasks if task.task in specs]
    if not tasks:
        raise UsageError(
            "the suite has no task of the scorecard",
            where=str(named.file),
            expected="one of " + ", ".join(task.task for task in settings.tasks),
            found=", ".join(specs),
            next_step="--suite FILE with tasks that were answered",
        )
    limits = [task.limit for task in tasks]
    templates = {task.chat_template for task in tasks}
    other = any(task.chat_template != specs[task.task].chat_template for task in tasks)
    return Request(
        source=saved.scorecard.model.name,
        suite=str(named.file),
        out=saved.folder,
        limit=None if None in limits else max(limit for limit in limits if limit is not None),
        dtype=settings.dtype,
        batch_size=_batch_size(saved.scorecard, named),
        device=settings.device,
        seed=settings.seed,
        backend=settings.backend,
        chat_template=templates.pop() if len(templates) == 1 and other else None,
        bos=tasks[0].bos,
    )


def _files(run: Path, card: Scorecard) -> Path:
    """Where the tokenizer and config lie: beside the scorecard, where the model was, or on the Hub."""
    name = Path(card.model.name).expanduser()
    for path in (run / "checkpoint", name / "checkpoint", name):
        if (path / "config.json").is_file():
            return path
    if card.model.revision is None:
        raise UsageError(
            "the tokenizer of the model that answered is not there",
            where=str(run),
            expected=f"config.json and tokenizer in {run / 'checkpoint'} or {name}; the weights need not be there",
            found="neither",
            next_step="copy them back",
        )
    return download(f"{card.model.name.partition('@')[0]}@{card.model.revision}")[0]
