"""export.json: which GGUF files were made of which checkpoint, and what each of them loses against it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from evals.scorecard import Interval
from release.exports.parity import Loss
from training.checkpoint import FileEntry
from training.records import Record, is_none

EXPORT = "export.json"
CARD = "README.md"
RECEIPT = "export-receipt.json"


class ScoreDifference(Record):
    """One figure of the checkpoint and of the file, over the `n` items that both have a value for; difference is file - checkpoint.

    `verdict` is by the p value that Holm's method corrected over all rows of the file.
    """

    task: str
    metric: str
    scorer: str | None
    unit: str
    higher_is_better: bool
    checkpoint: float
    file: float
    difference: float
    interval: Interval
    p_holm: float
    n: int
    verdict: Literal["better", "worse", "differs", "no difference"]


class ScoreChange(Record):
    """How the scores change from the checkpoint to the weights of one file, and everything that they were measured with."""

    suite: str
    suite_sha256: str
    limit: int | None  # items of each task at most
    seed: int
    dtype: str  # of both
    judge: str | None  # digest of the reward model
    rows: list[ScoreDifference]
    left_out: dict[str, str]  # task or task/metric -> why it was not to be measured here
    failed: dict[str, str]  # task -> why it has no scores
    scorecards: dict[str, str]  # path in the export -> SHA-256; each names its samples by their hashes


class ExportedFile(Record):
    """A GGUF file that passed its bound. `tensors` counts them by type; `sha256` is of its bytes, in hex."""

    path: str
    size: int
    sha256: str
    precision: str
    tensors: dict[str, int]
    loss: Loss
    # Left out of the JSON where there is nothing to say, so that the digest of an older record stays what it was.
    scores: ScoreChange | None = Field(default=None, exclude_if=is_none)
    scores_not_measured: str | None = Field(default=None, exclude_if=is_none)  # why


class ExportRecord(Record):
    """Every file of an export directory. `prompts_digest` and `packages` say what the losses were measured with."""

    schema_version: int = 1
    name: str
    checkpoint_digest: str
    base_model: str | None
    base_revision: str | None
    license: str | None
    reference: str
    prompts_digest: str
    files: list[ExportedFile]
    packages: dict[str, str]
    created: str

    def file(self, precision: str) -> ExportedFile | None:
        return next((file for file in self.files if file.precision == precision), None)


class ExportReceipt(Record):
    """What stands on the Hub of an export: the repository, its commit, and every file by its hash."""

    schema_version: int = 1
    endpoint: str
    repo_id: str
    commit: str
    export_digest: str
    files: list[FileEntry]
    created: str
