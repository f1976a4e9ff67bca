"""run.json: how a checkpoint was made. Written last by every training command; its existence means the run is complete.

A checkpoint from elsewhere has none: that is for a release policy's gate to judge.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path, PurePath
from typing import Any

from pydantic import Field

from training.energy_record import Energy, Price
from training.records import Record, is_none

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "safetensors")


class FeedbackSource(Record):
    """The votes behind some data: the feedback.json that they were counted in, by hash, and what it says of them."""

    record: str
    votes: int
    people: int
    scripts: int  # rule-following labellers, which are not people
    alpha: float | None  # Krippendorff's, nominal, with its 95% interval
    alpha_low: float | None
    alpha_high: float | None
    # Whose votes they were, each as training.votes.labeller_mark of `record`: a deletion request finds the run by it, also where
    # the analysis is not there any more. [] in records from before 2026-11-29
    labellers: list[str] = []


class ParentCheckpoint(Record):
    """A checkpoint that went into the run: the base, the reward model, the critic's start, a merged adapter."""

    role: str  # "base" | "reward_model" | "critic" | "adapter"
    name: str  # the id or path as given in the recipe
    hub_id: str | None = None  # what the card may name as base_model; None where the parent is on no Hub
    revision: str | None = None
    digest: str
    license: str | None = None
    note: str | None = None  # e.g. that the weights were dequantised from a GGUF
    feedback: list[FeedbackSource] = []  # the votes that the parent itself was trained on
    made: Made | None = None  # how, where it was trained by Slipway; None in records from before 2026-11-29


class RewardSource(Record):
    """What gave the rewards where no reward model did: a function's file by its hash, or a server, which nothing pins."""

    kind: str  # "function" | "url"
    name: str  # file.py:name, or the URL
    sha256: str | None = None  # of the function's file
    from_update: int = 1  # the first update that it scored: a function that was mended within a run has several entries


class DataSource(Record):
    """Rows that went into the run, by id, revision, content hash and count."""

    id: str
    revision: str | None = None
    split: str
    sha256: str
    rows: int
    rows_dropped: int = 0
    why_dropped: dict[str, int] = {}
    formats: dict[str, int] = {}  # the formats that rows were recognised in -> how many
    columns: list[str] = []  # of the rows as they were read
    heldout_rows: int = 0
    heldout_sha256: str | None = (
        None  # of the rows held out, as `sha256`; None where there are none, and in older records
    )
    prompts_cut: int = 0  # rows whose oldest turns were left out, so that they fit
    special_tokens: int = 0  # rows in whose words special tokens were broken, so that they are no turns
    license: str | None = None
    feedback: FeedbackSource | None = None  # where the rows were made from votes
    sampled: SampledAnswers | None = None  # where they are answers that `python -m training best-of-n` sampled

    def feedback_behind(self) -> list[FeedbackSource]:
        """The votes behind the rows: those that they were made from, and those behind whoever sampled and scored them."""
        return [*([self.feedback] if self.feedback else []), *(self.sampled.feedback_behind() if self.sampled else [])]


class SampledAnswers(Record):
    """The best_of_n.json behind some data, by hash: which policy gave the answers, to which prompts, and what scored them."""

    record: str
    n: int  # answers to each prompt
    policy: ParentCheckpoint
    reward_models: list[ParentCheckpoint]
    rewards: list[RewardSource]
    prompts: DataSource

    def feedback_behind(self) -> list[FeedbackSource]:
        """The votes that the policy or a reward model learned from, and those behind the prompts."""
        learned = [feedback for parent in (self.policy, *self.reward_models) for feedback in parent.feedback]
        return learned + self.prompts.feedback_behind()


class Made(Record):
    """How a parent was made, by its own run.json: the stages before a run, of which each names the one before it."""

    method: str
    data: list[DataSource]
    rewards: list[RewardSource] = []
    parents: list[ParentCheckpoint]

    @classmethod
    def of(cls, record: RunRecord) -> Made:
        """What a later record tells of this one: names instead of a machine's own paths."""
        data = [source.model_copy(update={"id": _name(source.id)}) for source in record.data]
        parents = [parent.model_copy(update={"name": _name(parent.name)}) for parent in record.parents]
        rewards = [source.model_copy(update={"name": _name(source.name)}) for source in record.rewards]
        return cls(method=record.method, data=data, rewards=rewards, parents=parents)


for _record in (DataSource, ParentCheckpoint, SampledAnswers):  # they name each other
    _record.model_rebuild()


class Hardware(Record):
    machine: str
    processor: str
    cores: int
    device: str
    memory_gib: float


class RunRecord(Record):
    """How a checkpoint was made, in the words of its recipe."""

    schema_version: int = 1
    method: str  # "reward" | "ppo" | ...
    checkpoint_digest: str
    beside: dict[str, str] = {}  # files in the checkpoint's directory that `from_pretrained` does not read -> SHA-256
    recipe: dict[str, Any]
    parents: list[ParentCheckpoint]
    data: list[DataSource]
    measured_on: list[
        DataSource
    ] = []  # prompts beside rows held out of `data`: ILQL's evaluation; nothing was learned from them
    rewards: list[RewardSource] = []
    seed: int
    packages: dict[str, str]
    git_revision: str | None
    hardware: Hardware
    started: str
    seconds: float
    metrics: dict[
        str, float | None
    ]  # null: a standard error or an end of an interval that a single value does not have
    stopped: str | None = None  # why the run ended before its last update, in figures
    energy: Energy | None = None  # None: not measured
    price: Price | None = None  # of an hour of the machine, where the user said it
    # Of metrics.jsonl as it was when the run ended. None where there is none, and in older records, whose JSON stays as it was.
    metrics_sha256: str | None = Field(default=None, exclude_if=is_none)

    def parent(self, role: str) -> ParentCheckpoint | None:
        return next((parent for parent in self.parents if parent.role == role), None)


def package_versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Installed versions of the packages that move a result."""
    return {name: importlib.metadata.version(name) for name in names}


def git_revision() -> str | None:
    """The commit of the working directory's repository, with `+changes` where it is dirty; None outside of one."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        status = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "")


def hardware(device: str) -> Hardware:
    """The machine, without its name or address."""
    return Hardware(
        machine=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        device=device,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    )


def now() -> str:
    """The time in UTC, ISO 8601, whole seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _name(source: str) -> str:
    """The last part of an absolute path; ids, relative paths and addresses as they are."""
    return PurePath(source).name if PurePath(source).is_absolute() else source


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def kept(source: DataSource, rows: int, too_long: int, max_length: int, cut: int = 0) -> DataSource:
    """The record of the data when `too_long` rows of more than `max_length` tokens were left out, and `cut` prompts cut."""
    dropped = {f"longer than {max_length} tokens": too_long} if too_long else {}
    return source.model_copy(
        update={
            "rows": rows,
            "rows_dropped": source.rows_dropped + too_long,
            "why_dropped": {**source.why_dropped, **dropped},
            "prompts_cut": cut,
        }
    )
