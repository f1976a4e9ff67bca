"""Publish an export directory as a repository of its own: staged, downloaded, hashed, and only then on main and visible.

    receipt = publish_export(Path("runs/a/gguf"), checkpoint, "org/name-GGUF", HubClient.connect())

It shows what the released model shows: that must be there, with these bytes, and no less open than its files. Staged as
releases are (release/staging.py), in a private repository where this one is public. The same command again does nothing where
the repository holds these files, and continues where it was interrupted.
"""

from __future__ import annotations

from pathlib import Path

from release.downloaded import compare_files, describe, fresh_download
from release.exports.card import render_card
from release.exports.record import CARD, EXPORT, RECEIPT, ExportReceipt, ExportRecord
from release.exports.record_check import check_figures
from release.exports.scores import files_of
from release.foreign_files import holds_nothing
from release.gates.candidate import Candidate
from release.gates.private import no_local_paths, no_secrets
from release.hub_client import HubClient, HubRepository, check_repo_id
from release.hub_files import MEND, LocalFile, changes, difference
from release.policy import load_policy
from release.staging import Staging, apart
from training.checkpoint import Checkpoint, FileEntry
from training.command import log
from training.counted import counted, shortened
from training.errors import GateRefused, HubError, UsageError, VerificationMismatch
from training.records import sha256_of_file
from training.run_record import now

BRANCH = "export-staging"


def publish_export(
    directory: Path, checkpoint: Checkpoint, repo_id: str, hub: HubClient, *, private: bool = False
) -> ExportReceipt:
    """Bring the recorded files, export.json and README.md to the Hub, with the scorecards behind what it says.

    Raises UsageError, GateRefused, VerificationMismatch, HubError.
    """
    check_repo_id(repo_id)
    record = ExportRecord.read(directory / EXPORT)
    files = _files(directory, record, repo_id, hub.endpoint)
    _require_nothing_private(directory, files, repo_id)
    require_released(hub, record, checkpoint, private=private)
    log(f"publishing {counted(len(files), 'file')} to {hub.endpoint}/{repo_id} as {hub.user()}")
    repository = _open(hub, repo_id)
    head = repository.main
    there = hub.tree(repo_id, head)
    if EXPORT not in there and not holds_nothing(hub, repo_id, head):
        raise UsageError(
            "this repository holds something else than an export, which would be replaced as a whole",
            where=f"{hub.endpoint}/{repo_id}",
            expected=f"a repository of its own: a new one, or one with {EXPORT}",
            found=shortened(sorted(there)),
            next_step=f"name another: --repo {repo_id}-GGUF",
        )
    differs = difference(files, there) is not None
    if repository.private and EXPORT in there and (differs or (directory / RECEIPT).is_file()):
        private = True  # an earlier export, which its owner keeps so; a new one is private until it is checked
    if differs:
        _stage_and_check(hub, _staging(repository, record), repository, files, record)
        head = _commit(hub, repo_id, hub.head(repo_id, "main"), "main", files, record)
    _staging(repository, record).remove(hub, hub.repository(repo_id))
    hub.set_private(repo_id, private)
    receipt = ExportReceipt(
        endpoint=hub.endpoint,
        repo_id=repo_id,
        commit=head,
        export_digest=record.content_digest(),
        files=[FileEntry(path=path, size=file.size, sha256=file.sha256) for path, file in sorted(files.items())],
        created=now(),
    )
    receipt.write(directory / RECEIPT)
    return receipt


def _files(directory: Path, record: ExportRecord, repo_id: str, endpoint: str) -> dict[str, LocalFile]:
    """What is pushed, with the scorecards and samples behind each change of scores.

    Raises UsageError where a file is not the one that was measured, figures cannot be, or its origin is not known.
    """
    if not record.files:
        raise UsageError("no file of this export passed, so there is nothing to publish", where=str(directory))
    if record.base_model is None:
        raise UsageError(
            "the export does not say which released model it was made of, and its card has to",
            where=str(directory / EXPORT),
            next_step="release the run first, or name it with --base-model ORG/NAME",
        )
    for file in record.files:
        path = directory / file.path
        found = sha256_of_file(path) if path.is_file() else "no such file"
        if found != file.sha256:
            raise UsageError(
                "a file is not the one that was measured",
                where=str(path),
                expected=f"sha256 {file.sha256}",
                found=found,
                next_step="export it again",
            )
    for finding in check_figures(directory, record):
        if not finding.ok:
            raise UsageError(
                f"{EXPORT} does not agree with itself or with what lies beside it",
                where=str(directory / finding.subject),
                expected=finding.expected,
                found=finding.found,
                next_step="figures are measured, never typed in: export to a new --out",
            )
    files = {file.path: LocalFile(directory / file.path, file.sha256) for file in record.files}
    behind = [path for file in record.files for path in files_of(directory, file)]
    files |= {name: LocalFile.of((directory / name).read_bytes()) for name in (EXPORT, *behind)}
    files[CARD] = LocalFile.of(render_card(record, repo_id=repo_id, endpoint=endpoint).encode())
    return files


def require_released(hub: HubClient, record: ExportRecord, checkpoint: Checkpoint, *, private: bool) -> None:
    """Raise UsageError where the model that the files are made of is not on this Hub, has other bytes there, or is less open.

    So what the gates of a release refused, and what its owner keeps to some, is not shown by way of its GGUF files.
    """
    name, revision = record.base_model or "", record.base_revision or "main"
    where = f"{hub.endpoint}/{name}, {revision}"
    base = hub.repository(name)
    if base is None:
        raise UsageError(
            "the model that the files are made of is not on this Hub, so nobody could hold them against it",
            where=where,
            next_step=f"release it first: python -m release publish --run RUN --repo {name}",
        )
    if (base.private or base.gated) and not private:
        raise UsageError(
            f"the model that the files are made of is {'private' if base.private else 'gated'}, and they would show its weights "
            "to everybody",
            where=where,
            next_step="--private keeps the files private as well",
        )
    tree = hub.tree(name, hub.resolve(name, revision))
    for entry in checkpoint.manifest:
        if entry.path not in tree or not LocalFile(checkpoint.path / entry.path, entry.sha256).is_at(tree[entry.path]):
            raise UsageError(
                "what is released under this name is another checkpoint than the one that was exported",
                where=f"{where}, {entry.path}",
                expected=f"the checkpoint {record.checkpoint_digest}",
                found="other bytes" if entry.path in tree else "no such file",
                next_step="name its release with --base-model ORG/NAME@TAG, or release this one first",
            )


def _require_nothing_private(directory: Path, files: dict[str, LocalFile], repo_id: str) -> None:
    """Raise GateRefused where the text that goes out, the model's own words too, holds a secret or a path of this machine."""
    entries = tuple(FileEntry(path=path, size=file.size, sha256=file.sha256) for path, file in files.items())
    candidate = Candidate(directory, directory, entries, load_policy("default"), repo_id)
    for gate in (no_secrets, no_local_paths):
        verdict = gate(candidate)
        if verdict.outcome == "refused":
            raise GateRefused(
                "the export holds what must not leave this machine, so nothing was published",
                where=str(directory),
                found=f"{verdict.gate}: {verdict.explanation}",
                next_step="export to a new --out with relative paths, or without its scores: --no-scores",
            )


def _open(hub: HubClient, repo_id: str) -> HubRepository:
    repository = hub.repository(repo_id)
    if repository is None:
        log(f"creating {repo_id} (private until its files are checked)")
        hub.create_repository(repo_id, private=True)
        repository = hub.repository(repo_id)
    if repository is None:
        raise HubError(
            f"the Hub created {repo_id} but does not show it to this token",
            where=hub.endpoint,
            next_step="give HF_TOKEN the right to read this namespace",
        )
    return repository


def exports_left(hub: HubClient, directory: Path) -> list[str]:
    """A line for people where an export of a run that is rolled back is still shown: nobody but its owner takes it away."""
    if not (directory / RECEIPT).is_file():
        return []
    receipt = ExportReceipt.read(directory / RECEIPT)
    repository = hub.repository(receipt.repo_id) if receipt.endpoint == hub.endpoint else None
    if repository is None or repository.private:
        return []
    return [
        f"  {receipt.repo_id}, GGUF files of these weights, is as public as it was: "
        f"`hf repos settings {receipt.repo_id} --private` hides it"
    ]


def _staging(repository: HubRepository, record: ExportRecord) -> Staging:
    """The repository itself while it is private, else a private one beside it, of the same name for the same export."""
    if repository.private:
        return Staging(repository.repo_id, BRANCH, apart=False)
    return Staging(apart(repository.repo_id, record.content_digest()), BRANCH, apart=True)


def _stage_and_check(
    hub: HubClient, staging: Staging, repository: HubRepository, files: dict[str, LocalFile], record: ExportRecord
) -> None:
    """Commit the files where nobody sees them, and download them from there. Raises VerificationMismatch, HubError."""
    place = staging.open(hub, repository)
    if staging.branch in place.branches:
        hub.delete_branch(staging.repo_id, staging.branch)
    hub.create_branch(staging.repo_id, staging.branch, place.main)
    staged = _commit(hub, staging.repo_id, place.main, staging.branch, files, record)
    _check(hub, staging, staged, files)


def _commit(
    hub: HubClient, repo_id: str, parent: str, branch: str, files: dict[str, LocalFile], record: ExportRecord
) -> str:
    additions, deletions = changes(files, hub.tree(repo_id, parent))
    return hub.commit(
        repo_id,
        branch,
        parent=parent,
        additions=additions,
        deletions=deletions,
        title=f"GGUF of {record.base_model}: {', '.join(file.precision for file in record.files)}",
        message="\n".join(
            [
                f"Checkpoint {record.checkpoint_digest}",
                *(f"{path} sha256:{files[path].sha256}" for path in (EXPORT, CARD)),
            ]
        ),
        landed=lambda commit: difference(files, hub.tree(repo_id, commit)) is None,
    )


def _check(hub: HubClient, staging: Staging, staged: str, files: dict[str, LocalFile]) -> None:
    """Download what was staged into an empty cache and hash it. Raises VerificationMismatch and unstages it."""
    expected = [FileEntry(path=path, size=file.size, sha256=file.sha256) for path, file in files.items()]
    log("downloading what the Hub stored into an empty cache")
    with fresh_download(hub, staging.repo_id, staged) as snapshot:
        findings = compare_files(snapshot, expected)
    wrong = [describe(finding) for finding in findings if not finding.ok]
    if wrong:
        staging.remove(hub, hub.repository(staging.repo_id))
        raise VerificationMismatch(
            "the Hub gave back something else than it was given; nothing was published\n  " + "\n  ".join(wrong),
            where=f"{hub.endpoint}/{staging.repo_id}, commit {staged}",
            next_step=f"publish again; if it stays, the Hub's storage is damaged: {MEND}, and then publish again",
        )
