"""scorecard.json: scores pinned to the digest of one checkpoint.

    card = Scorecard.read(Path("runs/a/scorecard.json"))
    card.score("starter_truthfulness", "mc2").value

An item that could not be scored is missing, never zero: it counts in `unscored`. Per-item values, by which two
scorecards are compared in pairs, lie in `samples/` beside the scorecard, and their hash stands in it.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_serializer

from training.energy_record import Energy, Price
from training.errors import UsageError
from training.records import Record, is_none


class Interval(Record):
    """A 95% confidence interval and how it was made, e.g. "bootstrap over documents, 10,000 resamples".

    Infinite ends: the items do not give one. JSON has no such numbers; they are written as the strings "-Infinity" and "Infinity".
    """

    low: float
    high: float
    method: str

    @property
    def ends(self) -> list[float | None]:
        """Low and high for JSON of another form than this record's: None where the items do not give one."""
        return [end if math.isfinite(end) else None for end in (self.low, self.high)]

    @field_serializer("low", "high", when_used="json")
    def _as_json(self, end: float) -> float | str:
        return end if math.isfinite(end) else str(end).replace("inf", "Infinity").replace("nan", "NaN")


class Score(Record):
    """One figure. `group` is what it speaks of in the announcement's words."""

    task: str
    metric: str
    group: Literal["helpfulness", "truthfulness", "toxicity", "bias", "other"]
    value: float
    stderr: float
    interval: Interval
    n: int
    unscored: int
    higher_is_better: bool
    headline: bool = False  # stands on the leaderboard and in the gates
    unit: str = "fraction"
    scorer: str | None = None  # name and version of what judged, where a model or classifier judged
    description: str = ""
    baseline: dict[str, float] = {}  # figures to read it beside, e.g. {"longer answer wins": .55}
    # The digest of the checkpoint that a win rate is against. None where it is against nobody or a file of answers, which `scorer`
    # names, and in older records. Left out of the JSON then, so that a record written before keeps its digest.
    against: str | None = Field(default=None, exclude_if=is_none)


def against_others(one: Score, other: Score) -> bool:
    """Whether two win rates are against other checkpoints, as far as both say, so that the one says nothing of the other."""
    return one.against is not None and other.against is not None and one.against != other.against


class TaskSettings(Record):
    """Everything that moves a task's figures; two scores are comparable only where these are equal."""

    task: str
    version: str
    data_id: str
    data_sha256: str
    data_revision: str | None = None
    num_fewshot: int = 0
    chat_template: bool
    bos: str = "tokenizer"  # as the tokenizer has it; or "added" to prompts that lack it, or "none"
    generation: dict[str, Any] = {}
    limit: int | None = None
    items: int
    # Of the ids of the items that a limit left, for a stratum chooses others; None where all were evaluated, and in older records.
    items_sha256: str | None = Field(default=None, exclude_if=is_none)
    engine: str | None = None  # how log-likelihoods were computed: "prefix tree", or "plain: REASON"


class Settings(Record):
    """What holds for the whole scorecard."""

    suite: str
    suite_sha256: str
    backend: str
    dtype: str
    device: str
    batch_size: int
    seed: int
    tasks: list[TaskSettings]


class EvaluatedModel(Record):
    name: str  # as given: directory or Hub id
    # "sha256:..." of a checkpoint, or of a GGUF file; "unpinned:..." of an address and a name, where an endpoint served it
    digest: str
    revision: str | None = None
    parameters: int | None  # None where an endpoint served the model
    endpoint: str | None = None  # its address: nothing pins what was served there
    tokenizer: str | None = None  # by which an endpoint's tokens were counted


class Scorecard(Record):
    """Scores of one checkpoint, by its digest."""

    schema_version: int = 1
    model: EvaluatedModel
    scores: list[Score]
    failed_tasks: dict[str, str] = {}  # task -> why; one failing task never takes another's results
    settings: Settings
    samples: dict[str, str]  # task -> hex SHA-256 of samples/TASK.jsonl
    packages: dict[str, str]
    git_revision: str | None
    created: str
    seconds: float  # of the command that wrote it, and what kept answers took in earlier ones
    energy: Energy | None = None  # of the command that wrote it; None: not measured, or the model ran elsewhere
    price: Price | None = None
    labellers: list[str] = []  # whose votes made its win rates, each as training.votes.labeller_mark; [] in older ones

    def score(self, task: str, metric: str) -> Score:
        """The score of that task and metric. Raises UsageError where there is none."""
        for score in self.scores:
            if (score.task, score.metric) == (task, metric):
                return score
        known = ", ".join(f"{score.task}/{score.metric}" for score in self.scores)
        raise UsageError(
            f"the scorecard has no score {task}/{metric}", expected=f"one of {known}", found=f"{task}/{metric}"
        )

    def task_settings(self, task: str) -> TaskSettings:
        for settings in self.settings.tasks:
            if settings.task == task:
                return settings
        raise UsageError(f"the scorecard has no task {task}")


class Sample(Record):
    """One line of samples/TASK.jsonl: an item, what the model did, and its value under each metric (None: unscored)."""

    item: str  # stable id of the item, or its index
    prompt: str
    target: str | None = None
    response: str | None = None
    values: dict[str, float | None]
    detail: dict[str, Any] = {}
