"""Everything that a card may say, read from the files of one run and checked to speak of one checkpoint.

    facts = read_facts(Path("runs/ppo"))

What is not there is None and the card says so: a checkpoint from elsewhere has no run.json, a fresh one no scorecard.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from evals.beside import models_beside
from evals.presentation import samples_of
from evals.saved import SavedRun
from evals.scorecard import Sample, Scorecard
from model_cards.author import AuthorCard, read_author_card
from model_cards.stages import origin
from training.checkpoint import Checkpoint, read_safetensors_header, weight_files
from training.errors import UsageError
from training.records import sha256_of_file
from training.run_record import DataSource, ParentCheckpoint, RunRecord

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")
# The first directories of a machine's own paths. A path like /v1/models in a text about an API is not one.
PLACES = "home|tmp|work|root|Users|mnt|var|opt|srv|data|scratch|content|private"
LOCAL_PATH = re.compile(rf"(?<![\w.:/-])(?:file://|(?:/(?:{PLACES})/)|~/|[A-Za-z]:\\)[^\s`'\"|)>]*")
# Of safetensors' headers, as torch calls them.
TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "U8": "uint8", "I8": "int8"}
TASKS_BY_CLASS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "LMHeadModel": "text-generation",
    "Model": "feature-extraction",  # a body without a head
}


@dataclass(frozen=True)
class Facts:
    """A run as values. `steps` are the lines of metrics.jsonl; `samples` and `parent_samples` are by task."""

    digest: str
    config: dict[str, Any]
    chat_template: bool
    run: RunRecord | None
    card: Scorecard | None
    parent_card: Scorecard | None
    samples: dict[str, list[Sample]]
    parent_samples: dict[str, list[Sample]]
    steps: list[dict[str, Any]]
    author: AuthorCard | None = None  # what came with a checkpoint that was trained elsewhere
    stored: dict[str, int] = field(
        default_factory=dict
    )  # values in the weight files, by their type: {"bfloat16": 134515008}
    folder: Path = Path()
    beside: tuple[SavedRun, ...] = ()  # other models that were measured like this one

    @property
    def base(self) -> ParentCheckpoint | None:
        return self.run.parent("base") if self.run else None

    @property
    def base_hub_id(self) -> str | None:
        """The base model's id on the Hub; never a path."""
        return hub_id(self.base.hub_id) if self.base else None

    @property
    def origin_hub_id(self) -> str | None:
        """The id of the model on the Hub that the stages began with: the base's own, or that of the first of its parents."""
        first = origin(self.run) if self.run else None
        return self.base_hub_id or (hub_id(first.hub_id) if first else None)

    @property
    def copied(self) -> bool:
        """Whether the checkpoint was trained elsewhere: copied, or made of a GGUF file."""
        return self.run is not None and self.run.method == "base"

    @property
    def parameters(self) -> int | None:
        """The values in the weight files, which the digest covers. Packed ones are no parameters: of a quantised checkpoint it is
        what was counted when it was scored."""
        if "quantization_config" in self.config:
            return self.card.model.parameters if self.card is not None else None
        return sum(self.stored.values()) or None

    @property
    def architecture(self) -> str:
        return str((self.config.get("architectures") or ["unknown"])[0])

    @property
    def is_generative(self) -> bool:
        """Whether it writes text; what is not known is taken for a language model."""
        return task_of(self.architecture) == "text-generation"


def read_facts(run: Path) -> Facts:
    """Read a run directory, or a bare checkpoint directory.

    Raises UsageError where run.json or scorecard.json speak of other bytes than those of the checkpoint, where samples
    are not those that were scored, where the baseline is not the parent, or where metrics.jsonl is not that of run.json.
    """
    directory = run / "checkpoint" if (run / "checkpoint").is_dir() else run
    checkpoint = Checkpoint.open(directory)
    record = RunRecord.read(run / "run.json") if (run / "run.json").is_file() else None
    scored = _scored(run)
    parent_scored = _scored(run / "baseline")
    card = scored.scorecard if scored else None
    parent_card = parent_scored.scorecard if parent_scored else None
    if record:
        _require_digest(
            checkpoint.digest, record.checkpoint_digest, run / "run.json", "train again, or remove run.json"
        )
    if card:
        again = f"python -m evals run {directory} --suite {card.settings.suite} --out {run}"
        _require_digest(checkpoint.digest, card.model.digest, run / "scorecard.json", again)
    parent = record.parent("base") if record else None
    if parent and parent_card:
        again = "evaluate the parent, then give it as --baseline"
        _require_digest(parent.digest, parent_card.model.digest, run / "baseline" / "scorecard.json", again)
    return Facts(
        digest=checkpoint.digest,
        config=checkpoint.config,
        chat_template=checkpoint.chat_template is not None,
        run=record,
        card=card,
        parent_card=parent_card,
        samples=_samples(scored),
        parent_samples=_samples(parent_scored),
        steps=_steps(run / "metrics.jsonl", record.metrics_sha256 if record else None),
        stored=_stored(directory),
        folder=run,
        beside=tuple(models_beside(run)),
        author=read_author_card(directory / "README.md") if record is None or record.method == "base" else None,
    )


def _stored(directory: Path) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for name in weight_files(directory):
        for entry in read_safetensors_header(directory / name).values():
            counts[TYPES.get(entry["dtype"], str(entry["dtype"]).lower())] += prod(entry["shape"])
    return dict(counts.most_common())


def task_of(architecture: str) -> str:
    """The Hub's task of a model class of transformers, by the end of its name."""
    return next((task for ending, task in TASKS_BY_CLASS.items() if architecture.endswith(ending)), "text-generation")


def hub_id(text: str | None) -> str | None:
    """The `org/name` of a Hub id with an optional @revision; None for anything else, such as a path."""
    if text is None:
        return None
    name = text.partition("@")[0]
    return (
        name
        if HUB_ID.match(name) and PurePosixPath(name).suffix not in (".json", ".jsonl", ".csv", ".parquet")
        else None
    )


def dataset_hub_id(source: DataSource) -> str | None:
    """The data's id on the Hub. A directory `data/train` looks like an id too, but only the Hub gives a revision."""
    return hub_id(source.id) if source.revision else None


def without_place(text: str) -> str:
    """A path of this machine reduced to its last part; other text as it is."""
    return LOCAL_PATH.sub(lambda found: re.split(r"[\\/]", found.group().rstrip("\\/"))[-1], text)


def _require_digest(of_checkpoint: str, said: str, where: Path, next_step: str) -> None:
    if of_checkpoint != said:
        raise UsageError(
            "this record speaks of another checkpoint, so its numbers cannot stand on this card",
            where=str(where),
            expected=of_checkpoint,
            found=said,
            next_step=next_step,
        )


def _scored(directory: Path) -> SavedRun | None:
    return SavedRun.open(directory) if (directory / "scorecard.json").is_file() else None


def _samples(run: SavedRun | None) -> dict[str, list[Sample]]:
    if run is None:
        return {}
    read = {task: samples_of(run, task) for task in run.scorecard.samples}
    return {task: samples for task, samples in read.items() if samples is not None}


def _steps(file: Path, pinned: str | None) -> list[dict[str, Any]]:
    """The course of training. Raises UsageError where it is not the one that run.json pins; older ones pin none."""
    if not file.is_file():
        return []
    if pinned is not None and (found := sha256_of_file(file)) != pinned:
        raise UsageError(
            "this is not the course of training that run.json speaks of, so no card can draw it",
            where=str(file),
            expected=f"sha256 {pinned}",
            found=f"sha256 {found}",
            next_step="bring back the file as the run wrote it, or train again",
        )
    steps = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            step = json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError("this line is not JSON", where=f"{file}, line {number}", found=line[:120]) from error
        steps.append(step if isinstance(step, dict) else {})
    return steps
