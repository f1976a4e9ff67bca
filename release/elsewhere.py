"""A checkpoint from elsewhere as a run that can be released: `release plan|publish --checkpoint DIR|ID`.

It is copied into a run directory by what `python -m training base` does, so that what is published cannot change under the
publication, and its record names where it came from. Its authors' card, licence, notices, pictures and other texts come
along (release/carried.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from glob import escape
from pathlib import Path

from release.carried import carry, read, why_left_out
from training.command import log
from training.errors import UsageError
from training.run_record import RunRecord

POLICY = "external"  # where none is named: nothing is known of how it was trained


def run_for(
    checkpoint: str, run: Path | None, repo_id: str, tag: str, license_id: str | None, leave_out: Sequence[str] = ()
) -> Path:
    """The run directory of this checkpoint, made where it is not there yet. Default: runs/NAME-TAG.

    Raises UsageError where the directory holds another checkpoint, or its other files have changed since its publication
    began.
    """
    from training.checkpoint import Checkpoint

    out = run or Path("runs") / f"{repo_id.partition('/')[2]}-{tag}"
    source = Path(checkpoint).expanduser()
    record = _record(checkpoint, source, out, license_id)
    directory = source / "checkpoint" if (source / "checkpoint").is_dir() else source
    now = Checkpoint.open(directory).digest if (directory / "config.json").is_file() else record.checkpoint_digest
    if now != record.checkpoint_digest:
        raise UsageError(
            "this run directory holds another checkpoint, or the checkpoint has changed since",
            where=str(out),
            expected=record.checkpoint_digest,
            found=now,
            next_step="give another --run, or another --tag",
        )
    if (out / "journal.jsonl").is_file():
        _require_unchanged(directory, out, leave_out)
    elif _carry(directory, out, record, leave_out):
        (out / "plan.json").unlink(missing_ok=True)  # it is of other files
    return out


def _record(checkpoint: str, source: Path, out: Path, license_id: str | None) -> RunRecord:
    """The run's record, written where it is not there. It names a directory by its last part: the path is of this machine."""
    from training.pretrained import write_base

    named = source.resolve().name if source.exists() else checkpoint
    record = RunRecord.read(out / "run.json") if (out / "run.json").is_file() else None
    if record is None:
        log(f"copying {checkpoint} to {out}")
        record = write_base(checkpoint, out, license_id)
    elif record.method != "base" or record.recipe.get("source") not in (checkpoint, named):
        raise UsageError(
            "this run directory holds another checkpoint",
            where=str(out),
            expected=checkpoint,
            found=f"{record.recipe.get('source')}, by {record.method}",
            next_step="give another --run, or another --tag",
        )
    parents = [parent.model_copy(update={"name": named}) for parent in record.parents]
    if license_id is not None and parents[0].license not in (None, license_id):
        raise UsageError(
            "the checkpoint has another licence",
            where=str(out),
            expected=parents[0].license,
            found=f"--license {license_id}",
            next_step="leave --license away",
        )
    if license_id is not None:  # perhaps said only after a gate had asked for it
        parents[0] = parents[0].model_copy(update={"license": license_id})
    told = record.model_copy(update={"parents": parents, "recipe": {**record.recipe, "source": named}})
    if told != record:
        told.write(out / "run.json")
    return told


def _carry(directory: Path, out: Path, record: RunRecord, leave_out: Sequence[str]) -> bool:
    """Bring the files beside the weights; whether any has changed since they were brought before."""
    changed = False
    base = record.parent("base")
    if directory.is_dir():
        changed = carry(directory, out, leave_out)
    elif read(out) is None and base is not None and base.hub_id is not None and base.revision is not None:
        _carry_from_hub(base.hub_id, base.revision, out, leave_out)
    carried = read(out)
    if carried is not None:
        log(f"carrying {len(carried.files)} file(s) beside the model: {', '.join(sorted(carried.files)[:6]) or 'none'}")
        if (told := carried.sentence()) is not None:
            log(told)
    return changed


def _carry_from_hub(hub_id: str, revision: str, out: Path, leave_out: Sequence[str]) -> None:
    from release.hub_client import HubClient
    from training.checkpoint import changes_behaviour

    hub = HubClient.connect()
    names = list(hub.tree(hub_id, revision))
    wanted = [escape(name) for name in names if not changes_behaviour(Path(name)) and why_left_out(name) is None]
    with tempfile.TemporaryDirectory(prefix="slipway-carried-") as cache:
        snapshot = hub.download(hub_id, revision, Path(cache), patterns=wanted) if wanted else Path(cache)
        carry(snapshot, out, leave_out, unseen=names, gated=hub.gate(hub_id))


def _require_unchanged(directory: Path, out: Path, leave_out: Sequence[str]) -> None:
    """Raises UsageError where the source has other files than those whose publication has begun."""
    carried = read(out)
    if carried is None or not directory.is_dir():
        return
    with tempfile.TemporaryDirectory(prefix="slipway-carried-") as scratch:
        carry(directory, Path(scratch), leave_out)
        now = read(Path(scratch))
    if now is not None and now.files != carried.files:
        changed = sorted(set(now.files.items()) ^ set(carried.files.items()))
        raise UsageError(
            "the checkpoint's files have changed since this run's publication began",
            where=str(directory),
            found=", ".join(dict.fromkeys(path for path, _ in changed)),
            next_step="give another --tag for what it is now, or put the files back to repeat the command",
        )
