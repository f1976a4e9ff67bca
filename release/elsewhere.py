"""A checkpoint from elsewhere as a run that can be released: `release plan|publish --checkpoint DIR|ID`.

It is copied into a run directory by what `python -m training base` does, so that what is published cannot change under the
publication, and its record names where it came from.
"""

from __future__ import annotations

from pathlib import Path

from training.command import log
from training.errors import UsageError

POLICY = "external"  # where none is named: nothing is known of how it was trained


def run_for(checkpoint: str, run: Path | None, repo_id: str, tag: str, license_id: str | None) -> Path:
    """The run directory of this checkpoint, made where it is not there yet. Default: runs/NAME-TAG.

    Raises UsageError where the directory holds another checkpoint.
    """
    from training.checkpoint import Checkpoint
    from training.pretrained import write_base

    out = run or Path("runs") / f"{repo_id.partition('/')[2]}-{tag}"
    if not (out / "run.json").is_file():
        log(f"copying {checkpoint} to {out}")
    record = write_base(checkpoint, out, license_id)
    base = record.parent("base")
    if license_id is not None and base is not None and base.license is None:  # said only after a gate had asked for it
        parents = [base.model_copy(update={"license": license_id})]
        record.model_copy(update={"parents": parents}).write(out / "run.json")
    source = Path(checkpoint)
    now = Checkpoint.open(source).digest if (source / "config.json").is_file() else record.checkpoint_digest
    if now != record.checkpoint_digest:
        raise UsageError(
            "this run directory holds another checkpoint, or the checkpoint has changed since",
            where=str(out),
            expected=record.checkpoint_digest,
            found=now,
            next_step="give another --run, or another --tag",
        )
    return out
