"""Suites: which tasks are run, how, and what each of their figures speaks of. YAML in evals/suites/, or a path.

    tasks:
      - task: starter_truthfulness
        group: truthfulness
        headline: [mc1, mc2]
        required: true

A task's prompts, shots and metrics are lm-eval's (its own tasks by their ids, ours in evals/tasks/, yours in a `file`
of lm-eval's format beside the suite); a suite says only what lm-eval leaves open. `scoring` names who turns responses into
values: the task itself, scorers of toxicity or profanity over several samples a prompt, a reward model that judges against the
parent's responses, judges of truthfulness, or the task with the figures of bias beside its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import Field, PrivateAttr

from training.counted import counted
from training.errors import UsageError
from training.yaml_file import Settings, line_of, load

FOLDER = Path(__file__).parent / "suites"
TASK_NAME = r"^[A-Za-z0-9][\w.+-]*$"  # it names files
Group = Literal["helpfulness", "truthfulness", "toxicity", "bias", "other"]


class Generation(Settings):
    """What a suite may set of a generation; the rest stays as the task has it."""

    max_gen_toks: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    do_sample: bool | None = None
    until: list[str] | None = None


class TruthJudges(Settings):
    """Who judges generated answers: folders that `train-scorer` wrote, or the Hub's judges as org/name@revision."""

    truthful: str
    informative: str


class SuiteTask(Settings):
    """One task of a suite."""

    task: str = Field(pattern=TASK_NAME)
    group: Group
    file: str | None = None  # the task's definition in lm-eval's format, beside the suite's file; its functions are run
    scoring: Literal["task", "profanity", "toxicity", "judge", "truthfulness", "bias"] = "task"
    scorers: list[
        str
    ] = []  # of scoring: toxicity, by the names that `evals.text_scorer` knows; ngram and profanity where unset
    judges: TruthJudges | None = None  # of scoring: truthfulness
    reference: str | None = (
        None  # of scoring: judge: a file of a baseline's answers beside the suite; the parent's where unset
    )
    follows: str | None = (
        None  # of scoring: judge: the task before it here, whose answers are the first turn of its conversations
    )
    chat_template: bool = False
    num_fewshot: int | None = Field(default=None, ge=0)
    samples: int | None = Field(default=None, ge=1)  # continuations of each prompt; the task's `repeats` where unset
    generation: Generation = Generation()
    batch_size: int | None = Field(default=None, ge=1)  # for this task; --batch-size wins
    limit: int | None = Field(default=None, ge=1)  # a seeded sample of the items; --limit may only make it smaller
    stratum: str | None = None  # the field of a document by which a sample is stratified and figures are broken down
    required: bool = False  # without its scores the command fails at the end
    minimum_coverage: float = Field(default=1.0, ge=0, le=1)  # of items that must have a value, or there is no figure
    headline: list[str] = []  # metrics that stand on the leaderboard
    metrics: list[str] | None = None  # only these; all where unset
    _stands: tuple[Path, int] | None = PrivateAttr(default=None)  # in which file, as which of its tasks

    def at(self, key: str) -> str:
        """Where what the suite says under `key` stands, for an error: file and line of a user's suite, the name of one of ours."""
        if self._stands is None or self._stands[0].parent == FOLDER:
            return f"{key} of {self.task} in the suite" + (f" {self._stands[0].stem}" if self._stands else "")
        file, number = self._stands
        return f"{file}, line {line_of(file, ('tasks', number, key))}: {key} of {self.task}"

    def from_file(self, file: Path, number: int) -> SuiteTask:
        """The same task, which knows where it stands: the file, and its place among the tasks there, from 0."""
        known = self.model_copy()
        known._stands = (file, number)
        return known

    @property
    def text_scorers(self) -> list[str]:
        """Who scores generated texts one by one, by the names that `evals.text_scorer.open_scorer` knows."""
        return ["profanity"] if self.scoring == "profanity" else self.scorers or ["ngram", "profanity"]


class Suite(Settings):
    """A suite as its file says it."""

    description: str
    tasks: list[SuiteTask] = Field(min_length=1)


@dataclass(frozen=True)
class NamedSuite:
    """A suite with the name and hash that its scorecards carry."""

    name: str
    sha256: str
    suite: Suite
    file: Path  # beside it its tasks' files are looked for

    def with_chat_template(self, on: bool) -> NamedSuite:
        """The same suite with the chat template on, or off, for every task."""
        tasks = [task.model_copy(update={"chat_template": on}) for task in self.suite.tasks]
        return replace(self, suite=self.suite.model_copy(update={"tasks": tasks}))

    def with_truth_judges(self, judges: TruthJudges) -> NamedSuite:
        """The same suite with these judges for every task that is scored for truthfulness.

        Raises UsageError where there is no such task.
        """
        if not any(task.scoring == "truthfulness" for task in self.suite.tasks):
            raise UsageError(
                "no task of the suite is scored by judges of truthfulness",
                where=f"--truth-judges, {self.file}",
                expected="a task with scoring: truthfulness",
                found="scoring: " + ", ".join(sorted({task.scoring for task in self.suite.tasks})),
                next_step="--suite truthfulness, or scoring: truthfulness for a task in a suite of your own",
            )
        tasks = [
            task.model_copy(update={"judges": judges}) if task.scoring == "truthfulness" else task
            for task in self.suite.tasks
        ]
        return replace(self, suite=self.suite.model_copy(update={"tasks": tasks}))


def known_suites() -> list[str]:
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def open_suite(name: str) -> NamedSuite:
    """A suite of ours by name, or a YAML file by path.

    Raises UsageError for an unknown name (listing those known), and for a malformed file with its line.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if path.parent == FOLDER and not path.is_file():
        raise UsageError(
            "there is no suite of this name",
            expected=", ".join(known_suites()) + ", or the path of a YAML file",
            where=str(FOLDER),
            found=name,
            next_step="python -m evals run CHECKPOINT --suite starter --out runs/ID",
        )
    suite = load(path, Suite)
    tasks = [task.from_file(path, number) for number, task in enumerate(suite.tasks)]
    suite = suite.model_copy(update={"tasks": tasks})
    names = [task.task for task in tasks]
    for place, twice in enumerate(names):
        if twice in names[:place]:
            raise UsageError(
                f"the task {twice} stands twice in the suite",
                where=tasks[place].at("task"),
                expected="each task once",
                found=f"{counted(names.count(twice), 'task')} of this name",
                next_step="remove one; a task in two settings needs two suites",
            )
    return NamedSuite(path.stem, hashlib.sha256(path.read_bytes()).hexdigest(), suite, path)
