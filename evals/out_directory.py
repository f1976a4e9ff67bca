"""The directory that an evaluation writes to: whether it can, and whether it may.

writable(Path("runs/base"))
require_no_other_model(Path("runs/base"), "runs/base/checkpoint", digest)
"""

from __future__ import annotations

import os
from pathlib import Path

from evals.scorecard import Scorecard
from training.checkpoint import Checkpoint
from training.errors import UsageError


def writable(out: Path) -> None:
    """Raise UsageError where `out` cannot be written to, before anything is computed."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".writable-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(
            "the output directory is a file", where=str(out), next_step="choose another directory with --out"
        ) from error


def require_no_other_model(out: Path, source: str, digest: str) -> None:
    """Raise UsageError where `out` is of another model: its scorecard and samples would be replaced without a word.

    The run directory of a checkpoint is that checkpoint's, and one of the same `source` is its own: it was trained anew.
    """
    card = out / "scorecard.json"
    if (out / "checkpoint").is_dir():
        found, what = Checkpoint.open(out / "checkpoint").digest, "checkpoint"
    elif card.is_file():
        try:
            scored = Scorecard.read(card).model
        except UsageError:  # damaged, or of another version: nothing is lost
            return
        found, what = digest if scored.name == source else scored.digest, "scorecard"
    else:
        return
    if found != digest:
        raise UsageError(
            f"the directory holds the {what} of another model",
            where=str(out),
            expected=digest,
            found=found,
            next_step="choose another directory with --out" + (f", or move {card} away" if what == "scorecard" else ""),
        )
