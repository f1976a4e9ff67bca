"""A checkpoint from elsewhere as a run that can be released: `release plan|publish --checkpoint DIR|ID`.

It is copied into a run directory by what `python -m training base` does, so that what is published cannot change under the
publication, and its record names where it came from. Its authors' card, licence, notices, pictures and other texts come
along (release/carried.py).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from difflib import get_close_matches
from glob import escape
from pathlib import Path

from model_cards.author import licence_of, read_author_card
from release.carried import carry, read, why_left_out
from release.gates.licences import MADE_FROM
from training.command import log
from training.counted import counted, shortened
from training.errors import HubError, SlipwayError, UsageError
from training.records import Record
from training.run_record import RunRecord

SAID = "named_licence.json"
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
    if source.is_dir():
        require_whole(source / "checkpoint" if (source / "checkpoint").is_dir() else source)
    if license_id is not None:
        _require_known(license_id)
    record = _record(checkpoint, source, out, license_id)
    directory = source / "checkpoint" if (source / "checkpoint").is_dir() else source
    now = Checkpoint.open(directory).digest if (directory / "config.json").is_file() else record.checkpoint_digest
    if now != record.checkpoint_digest:
        raise UsageError(
            "this run directory holds another checkpoint, or the checkpoint has changed since",
            where=str(out),
            expected=record.checkpoint_digest,
            found=now,
            next_step="give another --run, or another --tag"
            if (out / "journal.jsonl").is_file()
            else f"nothing was published from it: rm -r {out}, scores of the old bytes included, and the same command copies the "
            "checkpoint as it is now; or give another --run",
        )
    if (out / "journal.jsonl").is_file():
        _require_unchanged(directory, out, leave_out)
    elif _carry(directory, out, record, leave_out):
        (out / "plan.json").unlink(missing_ok=True)  # it is of other files
    return out


def _record(checkpoint: str, source: Path, out: Path, license_id: str | None) -> RunRecord:
    """The run's record, written where it is not there. It names a directory by its last part: the path is of this machine."""
    named = source.resolve().name if source.exists() else checkpoint
    record = RunRecord.read(out / "run.json") if (out / "run.json").is_file() else None
    if record is None:
        log(f"copying {checkpoint} to {out}")
        record = _copied(checkpoint, source, out, license_id)
    elif record.method != "base" or record.recipe.get("source") not in (checkpoint, named):
        raise UsageError(
            "this run directory holds another checkpoint",
            where=str(out),
            expected=checkpoint,
            found=f"{record.recipe.get('source')}, by {record.method}",
            next_step="give another --run, or another --tag",
        )
    parents = [parent.model_copy(update={"name": named}) for parent in record.parents]
    parents[0] = parents[0].model_copy(update={"license": _licence(source, out, parents[0].license, license_id)})
    told = record.model_copy(update={"parents": parents, "recipe": {**record.recipe, "source": named}})
    if told != record:
        told.write(out / "run.json")
    return told


def require_whole(directory: Path) -> None:
    """Raises UsageError where the directory holds an adapter, or the checkpoint lies in one of its folders."""
    if (directory / "config.json").is_file():
        return
    if (directory / "adapter_config.json").is_file():
        base = json.loads((directory / "adapter_config.json").read_text(encoding="utf-8")).get(
            "base_model_name_or_path"
        )
        raise UsageError(
            "this directory holds an adapter, not a whole model",
            where=str(directory),
            expected="config.json and model.safetensors",
            found="adapter_config.json",
            next_step=f"python -m training merge {directory} --base {base or 'BASE'} --out runs/merged, then give "
            "--run runs/merged --license ID instead of --checkpoint",
        )
    inside = sorted(file.parent for file in directory.glob("*/config.json"))
    if inside:
        raise UsageError(
            "there is no checkpoint here, but in a folder of it",
            where=str(directory),
            expected="config.json",
            found=", ".join(str(folder) for folder in inside[:3]),
            next_step=f"give {inside[0]} instead",
        )


def _copied(checkpoint: str, source: Path, out: Path, license_id: str | None) -> RunRecord:
    """The copy's record. Where there is nothing to copy, nothing stays of the run directory, and a path is not taken for an id."""
    from training.base_run import write_base

    try:
        return write_base(checkpoint, out, license_id)
    except SlipwayError as error:
        if out.is_dir() and not any(out.iterdir()):
            out.rmdir()
        if isinstance(error, HubError) and not source.exists():
            error.what = f"there is no directory {checkpoint}, and as an id: {error.what}"
        raise


def _require_known(license_id: str) -> None:
    """Raises UsageError for a licence that the Hub has no name for: nothing could be released under it."""
    from model_cards.hub_vocabulary import LICENSES

    names = [name for name in LICENSES if name not in ("other", "unknown")]
    if license_id.lower() in names:
        return
    near = get_close_matches(license_id.lower(), names)
    raise UsageError(
        "not a licence that the Hub has a name for",
        expected=f"one like {', '.join(near)}" if near else "an id such as apache-2.0, mit or llama3.1",
        found=f"--license {license_id}",
        next_step=f"the same command with --license {near[0]}, if that is meant"
        if near
        else "for a licence of its own write license: other, license_name and "
        "license_link between the --- lines of the README.md beside the weights, and leave --license out",
    )


def _licence(source: Path, out: Path, recorded: str | None, said: str | None) -> str | None:
    """The licence of the copy: what the card beside the weights names now, or else --license, or what was known before.

    Raises UsageError where the card names another than --license, or where it is changed under a publication.
    """
    directory = source / "checkpoint" if (source / "checkpoint").is_dir() else source
    card = licence_of(read_author_card((directory if directory.is_dir() else out / "checkpoint") / "README.md"))
    if said is not None and card not in (None, said):
        raise UsageError(
            "the checkpoint's card names another licence",
            where=str(directory if directory.is_dir() else out / "checkpoint"),
            expected=card,
            found=f"--license {said}",
            next_step="leave --license out, or correct the card",
        )
    now = card or said or recorded
    if now != recorded and (out / "journal.jsonl").is_file():
        raise UsageError(
            "the publication of this run began under another licence",
            where=str(out),
            expected=str(recorded),
            found=str(now),
            next_step="give another --tag, or another --run",
        )
    return now


class NamedLicence(Record):
    """named_licence.json: what --license said of the parents, by digest, of which the record knew no licence. It can be said
    again otherwise until the run's publication begins; a licence that the record knows cannot."""

    license: str
    parents: list[str]


def name_licence(run: Path, license_id: str) -> None:
    """Let the record of a run name the licence of the parents of which it knows none, such as an adapter and its base.

    Raises UsageError where it knows others, where no record is there, or where a publication of the run has begun.
    """
    _require_known(license_id)
    if not (run / "run.json").is_file():
        raise UsageError(
            "there is no run with a record", where=str(run), next_step="give another --run, or a --checkpoint"
        )
    record, said = RunRecord.read(run / "run.json"), _said_before(run)
    made_from = [parent for parent in record.parents if parent.role in MADE_FROM]
    open_ones = {
        parent.digest for parent in made_from if parent.license is None or (parent.digest, parent.license) in said
    }
    others = sorted({str(one.license) for one in made_from if one.digest not in open_ones} - {license_id})
    named = [
        parent.model_copy(update={"license": license_id})
        if parent.role in MADE_FROM and parent.digest in open_ones
        else parent
        for parent in record.parents
    ]
    begun = (run / "journal.jsonl").is_file() and named != record.parents
    if others or begun:
        raise UsageError(
            "the publication of this run has begun" if begun else "the run's record names the licence",
            where=str(run / "run.json"),
            expected=", ".join(others) or "no other --license than it began with",
            found=f"--license {license_id}",
            next_step="leave --license out",
        )
    if named != record.parents:
        NamedLicence(license=license_id, parents=sorted(open_ones)).write(run / SAID)
        record.model_copy(update={"parents": named}).write(run / "run.json")


def _said_before(run: Path) -> set[tuple[str, str]]:
    """Parents by digest, with the licence that an earlier --license gave them."""
    said = NamedLicence.read(run / SAID) if (run / SAID).is_file() else None
    return {(digest, said.license) for digest in said.parents} if said else set()


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
        if carried.files:
            log(f"carrying {counted(len(carried.files), 'file')} beside the model: {shortened(sorted(carried.files))}")
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
