"""A run that stands for a checkpoint which was trained elsewhere."""

from __future__ import annotations

from pathlib import Path

from training.run_record import RunRecord


def copied(run: Path, card: str | None) -> Path:
    """The run, as a checkpoint that was trained elsewhere and came with this card."""
    record = RunRecord.read(run / "run.json")
    parents = [record.parents[0].model_copy(update={"digest": record.checkpoint_digest, "hub_id": None, "note": None})]
    record.model_copy(update={"method": "base", "parents": parents, "data": [], "metrics": {}}).write(run / "run.json")
    if card is not None:
        (run / "checkpoint" / "README.md").write_text(card)
    return run
