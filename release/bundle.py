"""The bundle: a directory with exactly the files of a release, beside the run that they come from.

    build_bundle(run, repo_id="org/name", tag="v1.0.0", space_id=None, endpoint=HUB, target=run / "bundle")
    files_of(run / "bundle")          # [FileEntry(path, size, sha256), ...]

Large files are hard links where the disk allows it, so a bundle of gigabytes costs nothing. Of the checkpoint's
directory everything comes along but hidden files and its own README, which the rendered card replaces.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from evals.beside import FOLDER
from model_cards.policy_shown import PolicyShown
from model_cards.signer import Signer
from training.checkpoint import FileEntry
from training.errors import SlipwayError, UsageError
from training.records import sha256_of_file, write_atomically

PLAN = "plan.json"
COURSE = "metrics.jsonl"  # of which the card's picture of training is drawn; in releases since 2026-11-29
RECORDS = ("run.json", COURSE, "reference.json", "scorecard.json", "baseline/scorecard.json", "contamination.json")


def sources_of(run: Path) -> dict[str, Path]:
    """Path inside the bundle -> the run's file that it is a copy of. The card's files are rendered, not copied.

    Raises UsageError where the run has no checkpoint.
    """
    checkpoint = run / "checkpoint"
    if not run.is_dir():
        raise UsageError("there is no such run", where=str(run), next_step="give the directory of a run as --run")
    if not checkpoint.is_dir():
        bare = (run / "config.json").is_file()
        raise UsageError(
            "this is a bare checkpoint, not a run" if bare else "the run has no checkpoint",
            where=str(run),
            expected="a directory with checkpoint/ in it",
            next_step=f"give it as --checkpoint {run} instead of --run"
            if bare
            else "train one with `python -m training`, or give another --run",
        )
    sources = {name: file for name, file in _visible_files(checkpoint) if name != "README.md"}
    for name in RECORDS:
        if (run / name).is_file():
            sources[name] = run / name
    others = [file.parent.relative_to(run).as_posix() + "/" for file in sorted((run / FOLDER).glob("*/scorecard.json"))]
    sources.update({f"{other}scorecard.json": run / other / "scorecard.json" for other in others})
    for scored in ("", "baseline/", *others):
        for task in _scored_tasks(run / f"{scored}scorecard.json"):
            name = f"{scored}samples/{task}.jsonl"
            if (run / name).is_file():
                sources[name] = run / name
    return sources


def _scored_tasks(scorecard: Path) -> list[str]:
    """The tasks whose samples a scorecard names: those of another suite that lie there still are no evidence of this one's."""
    from evals.scorecard import Scorecard

    try:
        return sorted(Scorecard.read(scorecard).samples) if scorecard.is_file() else []
    except UsageError:  # the gate on the scorecard says what is wrong with it
        return []


def build_bundle(
    run: Path,
    *,
    repo_id: str,
    tag: str,
    space_id: str | None,
    endpoint: str,
    target: Path,
    signer: Signer | None = None,
    waivers: Mapping[str, str] | None = None,
    policy: PolicyShown | None = None,
) -> SlipwayError | None:
    """Write the bundle to `target`, replacing what was there; the error if no card could be rendered.

    `signer` is who will sign the release, `waivers` the gates whose refusals are
    accepted, with the reasons, and `policy` what let it through where that is not the default; the card names them.
    """
    from model_cards.card import render_card

    sources = sources_of(run)
    rendered, error = {}, None
    try:
        rendered = render_card(
            run,
            repo_id=repo_id,
            tag=tag,
            space_id=space_id,
            endpoint=endpoint,
            signer=signer,
            waivers=waivers,
            policy=policy,
        ).files
    except SlipwayError as refusal:  # a gate's decision, which names it
        error = refusal
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".bundle-"))
    try:
        for name, source in sources.items():
            if name not in rendered:
                _link_or_copy(source.resolve(), scratch / name)
        for name, content in rendered.items():
            write_atomically(scratch / name, content)
        scratch.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return error


def files_of(directory: Path, *, without: tuple[str, ...] = ()) -> list[FileEntry]:
    """Every file beneath a directory with its size and SHA-256, sorted by path; hidden ones too."""
    names = sorted(file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file())
    return [
        FileEntry(path=name, size=(directory / name).stat().st_size, sha256=sha256_of_file(directory / name))
        for name in names
        if name not in without
    ]


def _visible_files(directory: Path) -> list[tuple[str, Path]]:
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    names = [(file.relative_to(directory), file) for file in files]
    return [(name.as_posix(), file) for name, file in names if not any(part.startswith(".") for part in name.parts)]


def _link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES):
            raise
        shutil.copy2(source, target)
