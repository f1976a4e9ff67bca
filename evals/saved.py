"""Scorecards on disk with their samples, and what differs between the settings of two.

run = SavedRun.open(Path("runs/base"))       # a run's directory, or a scorecard.json
run.samples("starter_toxicity")               # checked against the hash in the scorecard
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from evals.scorecard import Sample, Scorecard, Settings, TaskSettings
from training.checkpoint import Checkpoint
from training.counted import shortened
from training.errors import UsageError

# What moves figures beside a task's own settings. Device, batch size and packages move them too little to forbid a
# comparison; they are reported.
DECISIVE = ("backend", "dtype", "seed")
# The hash of the data decides; the commit that they came from is where they were found. And every engine gives the same
# log-likelihoods up to rounding, or it would not be used.
REPORTED_OF_TASK = ("data_revision", "engine")
DECISIVE_OF_TASK = tuple(name for name in TaskSettings.model_fields if name not in REPORTED_OF_TASK)
REPORTED = ("device", "batch_size", "suite", "suite_sha256")


@dataclass(frozen=True)
class SavedRun:
    """A scorecard and the folder it lies in."""

    folder: Path
    scorecard: Scorecard
    published_as: str | None = None  # the Hub id, where it came from there

    @classmethod
    def open(cls, path: Path, published_as: str | None = None) -> SavedRun:
        """Raises UsageError where there is no scorecard, or it cannot be read."""
        file = path / "scorecard.json" if path.is_dir() else path
        if not file.is_file():
            raise UsageError(
                "there is no scorecard here",
                where=str(path),
                expected="a run's directory with scorecard.json, or the path of one",
                next_step="python -m evals run CHECKPOINT --suite starter --out RUN",
            )
        return cls(file.parent, Scorecard.read(file), published_as)

    def require_own_checkpoint(self) -> None:
        """Raise UsageError where the checkpoint beside the scorecard is not the one that was scored."""
        directory = self.folder / "checkpoint"
        if directory.is_dir() and (found := Checkpoint.open(directory).digest) != self.scorecard.model.digest:
            raise UsageError(
                "the scorecard is of another checkpoint than the one beside it",
                where=str(self.folder / "scorecard.json"),
                expected=self.scorecard.model.digest,
                found=found,
                next_step=f"python -m evals run {self.folder} --suite {self.scorecard.settings.suite} --out {self.folder}",
            )

    def sample_file(self, task: str) -> Path:
        return self.folder / "samples" / f"{task}.jsonl"

    def samples(self, task: str) -> list[Sample]:
        """The items of a task. Raises UsageError where they are missing or are not those of the scorecard."""
        file = self.sample_file(task)
        expected = self.scorecard.samples.get(task)
        if expected is None or not file.is_file():
            raise UsageError(
                f"the samples of {task} are missing beside the scorecard",
                where=str(file),
                next_step="copy the folder samples/ along with scorecard.json, or run the evaluation again",
            )
        content = file.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise UsageError(
                f"the samples of {task} are not those of the scorecard",
                where=str(file),
                expected=f"sha256 {expected}",
                found=f"sha256 {found}",
                next_step="run the evaluation again",
            )
        try:
            return [Sample.model_validate_json(line) for line in content.splitlines()]
        except ValidationError as error:
            raise UsageError("a line of the samples is not a valid Sample", where=str(file)) from error

    def copy_to(self, folder: Path) -> None:
        """Copy the samples, then the scorecard, to another folder."""
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        for task in self.scorecard.samples:
            self.samples(task)  # only what belongs to the scorecard travels with it
            if self.sample_file(task) != folder / "samples" / f"{task}.jsonl":
                shutil.copyfile(self.sample_file(task), folder / "samples" / f"{task}.jsonl")
        self.scorecard.write(folder / "scorecard.json")


def samples_as_bytes(samples: Sequence[Sample]) -> bytes:
    """One JSON object a line, in the order given."""
    return "".join(sample.model_dump_json() + "\n" for sample in samples).encode()


def decisive_differences(a: Settings, b: Settings) -> list[str]:
    """What differs between two settings and forbids comparing their scores, e.g. "dtype: bfloat16 / float32"."""
    found = _differences(a, b, DECISIVE)
    others = {task.task: task for task in b.tasks}
    for task in a.tasks:
        if task.task in others:
            found += [f"{task.task}: {line}" for line in _differences(task, others[task.task], DECISIVE_OF_TASK)]
    return found


def reported_differences(a: Scorecard, b: Scorecard) -> list[str]:
    """What differs but does not forbid it: device, batch size, engine, packages."""
    found = _differences(a.settings, b.settings, REPORTED)
    others = {task.task: task for task in b.settings.tasks}
    for task in a.settings.tasks:
        if task.task in others:
            found += [f"{task.task}: {line}" for line in _differences(task, others[task.task], REPORTED_OF_TASK)]
    for name in sorted({*a.packages, *b.packages}):
        if a.packages.get(name) != b.packages.get(name):
            found.append(f"{name}: {a.packages.get(name)} / {b.packages.get(name)}")
    return found


def require_comparable(a: Settings, b: Settings, where: str) -> None:
    """Raise UsageError naming everything decisive that differs."""
    differing = decisive_differences(a, b)
    if differing:
        raise UsageError(
            "the two were evaluated under different settings, so their scores are not comparable",
            where=where,
            expected="equal settings",
            found=shortened(differing, lines=True),
            next_step="evaluate both with the same suite, --backend, --dtype, --seed and --limit",
        )


def _differences(a: Settings | TaskSettings, b: Settings | TaskSettings, fields: Sequence[str]) -> list[str]:
    return [
        f"{field}: {getattr(a, field)} / {getattr(b, field)}"
        for field in fields
        if getattr(a, field) != getattr(b, field)
    ]
