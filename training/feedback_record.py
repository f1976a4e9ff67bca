"""feedback.json: which votes became which data, by hash, and who gave them; and what a training run's record keeps of it."""

from __future__ import annotations

from pathlib import Path

from training.errors import UsageError
from training.records import Record, sha256_of_file
from training.run_record import FeedbackSource
from training.vote_checks import Rules
from training.votes import labeller_mark

RECORD = "feedback.json"


class InputFile(Record):
    """A file of votes, by its hash."""

    name: str
    sha256: str
    rows: int
    repo_id: str | None
    revision: str | None


class OutputFile(Record):
    path: str
    sha256: str
    rows: int | None  # of the .jsonl files


class Labeller(Record):
    kind: str
    votes: int


class FeedbackRecord(Record):
    """feedback.json: which votes became which data, and how far their labellers agree."""

    schema_version: int = 1
    inputs: list[InputFile]
    forgotten: int  # labellers that asked to be forgotten
    rules: Rules
    heldout_fraction: float
    seed: int
    votes_read: int
    votes: int  # that count, gold items left out
    gold_votes: int
    why_excluded: dict[str, int]
    labellers: dict[str, Labeller]  # those whose votes count, by their hash
    alpha: float | None
    alpha_low: float | None
    alpha_high: float | None
    pairs: int
    pairs_undecided: dict[str, int]
    outputs: list[OutputFile]

    @property
    def people(self) -> int:
        return sum(labeller.kind == "person" for labeller in self.labellers.values())

    @property
    def scripts(self) -> int:
        return sum(labeller.kind == "script" for labeller in self.labellers.values())


def feedback_source(data: Path) -> FeedbackSource | None:
    """What a run's record keeps of the votes behind `data`, a file or folder that `python -m training feedback` wrote.

    None where no feedback.json stands beside it. Raises UsageError where one does, and the data is not what it names.
    """
    folder = data if data.is_dir() else data.parent
    record_file = folder.parent / RECORD
    if not record_file.is_file():
        return None
    record = FeedbackRecord.read(record_file)
    named = {output.path: output.sha256 for output in record.outputs}
    for file in sorted(folder.glob("*.jsonl")) if data.is_dir() else [data]:
        path = file.relative_to(folder.parent).as_posix()
        if named.get(path) != sha256_of_file(file):
            raise UsageError(
                "this data is not what its votes gave",
                where=str(file),
                expected=f"sha256 {named.get(path, 'none: no such file')}, as {record_file} has it",
                found=f"sha256 {sha256_of_file(file)}",
                next_step="run python -m training feedback again, or move the changed file elsewhere",
            )
    digest = f"sha256:{sha256_of_file(record_file)}"
    return FeedbackSource(
        record=digest,
        votes=record.votes,
        people=record.people,
        scripts=record.scripts,
        alpha=record.alpha,
        alpha_low=record.alpha_low,
        alpha_high=record.alpha_high,
        labellers=sorted(labeller_mark(labeller, digest) for labeller in record.labellers),
    )
