"""Publish an export directory as a repository of its own: staged, downloaded, hashed, and only then on main and visible.

    receipt = publish_export(Path("runs/a/gguf"), "org/name-GGUF", HubClient.connect())

The same command again does nothing where the repository holds these files, and continues where it was interrupted.
"""

from __future__ import annotations

from pathlib import Path

from release.downloaded import compare_files, describe, fresh_download
from release.exports.record import CARD, EXPORT, RECEIPT, ExportReceipt, ExportRecord
from release.exports.scores import files_of
from release.gates.candidate import Candidate
from release.gates.private import no_local_paths, no_secrets
from release.hub_client import HubClient, HubRepository, check_repo_id
from release.hub_files import LocalFile, changes, difference
from release.policy import load_policy
from training.checkpoint import FileEntry
from training.command import log
from training.errors import GateRefused, HubError, UsageError, VerificationMismatch
from training.records import sha256_of_file
from training.run_record import now

BRANCH = "export-staging"


def publish_export(directory: Path, repo_id: str, hub: HubClient, *, private: bool = False) -> ExportReceipt:
    """Bring the recorded files, export.json and README.md to the Hub, with the scorecards behind what it says.

    Raises UsageError, GateRefused, VerificationMismatch, HubError.
    """
    check_repo_id(repo_id)
    record = ExportRecord.read(directory / EXPORT)
    files = _files(directory, record)
    _require_nothing_private(directory, files, repo_id)
    log(f"publishing {len(files)} files to {hub.endpoint}/{repo_id} as {hub.user()}")
    repository = _open(hub, repo_id)
    head = repository.main
    if difference(files, hub.tree(repo_id, head)) is not None:
        staged = _commit(hub, repo_id, _branch(hub, repo_id, repository), BRANCH, files, record)
        _check(hub, repo_id, staged, files)
        head = _commit(hub, repo_id, hub.head(repo_id, "main"), "main", files, record)
    if BRANCH in repository.branches or BRANCH in (hub.repository(repo_id) or repository).branches:
        hub.delete_branch(repo_id, BRANCH)
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


def _files(directory: Path, record: ExportRecord) -> dict[str, LocalFile]:
    """What is pushed, with the scorecards and samples behind each change of scores.

    Raises UsageError where a file is not the one that was measured, figures are not, or its origin is not known.
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
    files = {file.path: LocalFile(directory / file.path, file.sha256) for file in record.files}
    behind = [path for file in record.files for path in files_of(directory, file)]
    files |= {name: LocalFile.of((directory / name).read_bytes()) for name in (EXPORT, CARD, *behind)}
    return files


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


def _branch(hub: HubClient, repo_id: str, repository: HubRepository) -> str:
    """The head of a staging branch that stands on main."""
    if BRANCH in repository.branches:
        hub.delete_branch(repo_id, BRANCH)
    hub.create_branch(repo_id, BRANCH, repository.main)
    return repository.main


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


def _check(hub: HubClient, repo_id: str, staged: str, files: dict[str, LocalFile]) -> None:
    """Download what was staged into an empty cache and hash it. Raises VerificationMismatch and unstages it."""
    expected = [FileEntry(path=path, size=file.size, sha256=file.sha256) for path, file in files.items()]
    log("downloading what the Hub stored into an empty cache")
    with fresh_download(hub, repo_id, staged) as snapshot:
        findings = compare_files(snapshot, expected)
    wrong = [describe(finding) for finding in findings if not finding.ok]
    if wrong:
        hub.delete_branch(repo_id, BRANCH)
        raise VerificationMismatch(
            "the Hub gave back something else than it was given; nothing was published\n  " + "\n  ".join(wrong),
            where=f"{hub.endpoint}/{repo_id}, commit {staged}",
            next_step="publish again; if it stays, the Hub's storage is damaged",
        )
