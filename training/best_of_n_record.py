"""best_of_n.json: which answers were chosen by what; and what the record of a run that learns from them keeps of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.energy_record import Energy, Price
from training.errors import UsageError
from training.records import Record, sha256_of_file
from training.run_record import DataSource, Hardware, ParentCheckpoint, RewardSource, SampledAnswers

RECORD, DEMONSTRATIONS, SAMPLES = "best_of_n.json", "demonstrations.jsonl", "samples.jsonl"
PREFERENCES = "preferences.jsonl"


class BestOf(Record):
    """What the best of n answers are worth, and how far from the policy choosing them leads at most."""

    n: int
    reward: float  # expected, over prompts
    stderr: float | None  # of `reward`, over prompts; None of a single one
    gain: float  # over n = 1
    gain_stderr: float | None  # paired by prompt
    kl_bound: float  # nats


class BestOfNRecord(Record):
    """best_of_n.json: which answers were chosen by what, and what choosing gained."""

    schema_version: int = 1
    recipe: dict[str, Any]
    policy: ParentCheckpoint
    reward_models: list[ParentCheckpoint]
    rewards: list[RewardSource]
    data: DataSource
    samples_sha256: str
    demonstrations_sha256: str
    demonstrations: int
    preferences_sha256: str | None = None  # None in records that were written before there were preferences
    preferences: int = 0
    prompts_without_a_whole_answer: int  # none of the n ended within max_new_tokens; they have no demonstration
    ended: float  # share of all answers that ended by themselves
    best_of: list[BestOf]  # n = 1, 2, 4, ... and the recipe's own
    packages: dict[str, str]
    git_revision: str | None
    hardware: Hardware
    started: str
    seconds: float
    energy: Energy | None = None
    price: Price | None = None

    @property
    def files(self) -> dict[str, str | None]:
        """The files of answers beside the record -> the SHA-256 of each."""
        return {
            SAMPLES: self.samples_sha256,
            DEMONSTRATIONS: self.demonstrations_sha256,
            PREFERENCES: self.preferences_sha256,
        }


def sampled_answers(data: Path) -> SampledAnswers | None:
    """What a run's record keeps of the answers behind `data`, a file or folder that `python -m training best-of-n` wrote.

    None where no best_of_n.json stands beside it. Raises UsageError where one does, and the data is not what it names.
    """
    folder = data if data.is_dir() else data.parent
    record_file = folder / RECORD
    if not record_file.is_file():
        return None
    record = BestOfNRecord.read(record_file)
    for file in sorted(folder.glob("*.jsonl")) if data.is_dir() else [data]:
        named, found = record.files.get(file.name), sha256_of_file(file)
        if named != found:
            raise UsageError(
                "this data is not what was sampled",
                where=str(file),
                expected=f"sha256 {named or 'none: no such file'}, as {record_file} has it",
                found=f"sha256 {found}",
                next_step="run python -m training best-of-n again with another --out, or move the changed file elsewhere",
            )
    return SampledAnswers(
        record=f"sha256:{sha256_of_file(record_file)}",
        n=record.best_of[-1].n,
        policy=record.policy,
        reward_models=record.reward_models,
        rewards=record.rewards,
        prompts=record.data,
    )
