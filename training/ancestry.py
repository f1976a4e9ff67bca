"""The stages before a run: whose weights it began with, and how these were made, as far as records lead.

for stage in stages_before(RunRecord.read(Path("runs/ppo/run.json"))):
    stage.parent.name, stage.made.method       # the nearest first
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from training.errors import UsageError
from training.run_record import Made, ParentCheckpoint, RunRecord

WEIGHTS_FROM = ("base", "adapter")  # roles of parents whose weights go on in the run's own


@dataclass(frozen=True)
class Stage:
    """A parent; how it was made, None where nothing says it; and its run's own record, where that is on this disk."""

    parent: ParentCheckpoint
    made: Made | None
    record: RunRecord | None

    @property
    def is_origin(self) -> bool:
        """Whether it is where the stages begin: a model from a Hub, or copied from elsewhere, that nothing here trained."""
        return self.made is None and (self.parent.hub_id is not None or self.parent.note is not None)


def stages_before(record: RunRecord | Made) -> Iterator[Stage]:
    """Every parent whose weights went on, the nearest first, and theirs."""
    for parent in record.parents:
        if parent.role not in WEIGHTS_FROM:
            continue
        own = record_beside(parent)
        made = parent.made or (Made.of(own) if own is not None and own.method != "base" else None)
        yield Stage(parent, made, own if made is not None else None)
        if own is not None and made is not None:
            yield from stages_before(own)
        elif made is not None:
            yield from stages_before(made)


def record_beside(parent: ParentCheckpoint) -> RunRecord | None:
    """The record of a parent that is still where it was, by its digest."""
    directory = Path(parent.name).expanduser()
    for file in (directory / "run.json", directory.parent / "run.json"):
        try:
            record = RunRecord.read(file) if file.is_file() else None
        except UsageError:
            record = None
        if record is not None and record.checkpoint_digest == parent.digest:
            return record
    return None
