"""The stages before a run, as its record tells them: from where its weights come, and on what they were trained.

Read from run.json alone, so that a stranger who has nothing but the release reads the same.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from model_cards.methods import method_words
from training.ancestry import WEIGHTS_FROM
from training.run_record import DataSource, Made, ParentCheckpoint, RunRecord


def stages(run: RunRecord) -> list[ParentCheckpoint]:
    """Parents that were trained on the way to the run's own base, the first of them first."""
    found: list[ParentCheckpoint] = []
    at: RunRecord | Made | None = run
    while at is not None:
        before = next((parent for parent in at.parents if parent.role in WEIGHTS_FROM[:1]), None)
        at = before.made if before is not None else None
        if before is not None and at is not None:
            found.append(before)
    return found[::-1]


def origin(run: RunRecord) -> ParentCheckpoint | None:
    """Where the stages begin; the run's own base where nothing was trained before it."""
    first = stages(run)
    if not first:
        return run.parent("base")
    made = first[0].made
    return next((parent for parent in made.parents if parent.role == "base"), None) if made is not None else None


def stage_rows(run: RunRecord, name_of: Any) -> list[dict[str, str]]:
    """A row for each stage: what it is called, how it was made, on what, and its digest. `name_of` names data."""
    rows = []
    for stage in stages(run):
        assert stage.made is not None
        rows.append(
            {
                "name": stage.hub_id or PurePosixPath(stage.name).name,
                "method": method_words(stage.made),
                "data": "; ".join(_data(source, name_of) for source in stage.made.data) or "–",
                "digest": stage.digest,
            }
        )
    return rows


def _data(source: DataSource, name_of: Any) -> str:
    return f"{name_of(source)}, {source.rows:,} rows, {source.sha256[:12]}"
