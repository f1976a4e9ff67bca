"""Copy repositories of another Hub into this one, whole: every branch and tag with its history, under the same commit ids.

mirror(store, HubClient.connect("https://..."), "datasets/openai/gsm8k")       # -> Mirrored(...)

Every file is compared with the SHA-256 or the git id that the source lists, and every commit id that is git's own is computed
again. What is here already is not asked for; refs move last and together, so that a mirror that was broken off
shows what it showed before, and the same command goes on where it stopped.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release.hub_client import HubClient, HubCommit, HubRepository, Kind
from release.hub_files import HubFile
from release.local_hub.mirror_checks import check_commit, check_repository, check_tree
from release.local_hub.refusals import RevisionNotFound
from release.local_hub.repository import Repository
from release.local_hub.store import Store, split_id
from release.local_hub.tree import Entry, large, regular
from training.command import log
from training.errors import UsageError, VerificationMismatch

AUTHOR = "mirror"


@dataclass(frozen=True)
class Mirrored:
    """What was copied of one repository by this run; `refs` is how many branches and tags it has now."""

    repository: str
    refs: int
    commits: int
    files: int
    size: int  # bytes


def mirror(store: Store, source: HubClient, named: str) -> Mirrored:
    """Bring a repository here to what the source has. Raises UsageError, HubError or VerificationMismatch."""
    kind, repo_id = source_id(named)
    there = source.repository(repo_id, kind)
    if there is None:
        raise UsageError(
            f"there is no {kind} {repo_id}, or none that the token may see",
            where=source.endpoint,
            next_step="check the name; datasets/ORG/NAME and spaces/ORG/NAME are those of the other types",
        )
    check_repository(there, source.endpoint)
    repository = _here(store, there, kind, source.endpoint)
    copy = _Copy(source, repository, there.repo_id, kind, store.root / "mirroring" / repository.folder.name)
    heads = {f"refs/heads/{name}": oid for name, oid in there.branches.items()}
    heads |= {f"refs/tags/{name}": oid for name, oid in there.tags.items()}
    for oid in dict.fromkeys(heads.values()):
        copy.history(oid)
    if {ref: oid for ref, oid in repository.refs().items() if not ref.startswith("refs/pr/")} != heads:
        repository.replace_refs(heads)
    shutil.rmtree(copy.scratch, ignore_errors=True)
    return Mirrored(f"{kind} {repository.id}", len(heads), copy.commits, copy.files, copy.size)


def source_id(named: str) -> tuple[Kind, str]:
    """`org/name`, `datasets/org/name` or `spaces/org/name`. Raises UsageError."""
    kinds: dict[str, Kind] = {"models": "model", "datasets": "dataset", "spaces": "space"}
    first, _, rest = named.partition("/")
    kind, repo_id = (kinds[first], rest) if first in kinds and "/" in rest else ("model", named)
    if repo_id.count("/") != 1:
        raise UsageError("not the id of a repository", expected="[datasets/|spaces/]ORG/NAME", found=named)
    return kind, repo_id


def _here(store: Store, there: HubRepository, kind: Kind, endpoint: str) -> Repository:
    """The repository of that name; made if it is missing. Raises UsageError where it is no mirror of that Hub."""
    namespace, _ = split_id(there.repo_id)
    settings: dict[str, Any] = {"private": there.private, "gated": there.gated, "mirror_of": endpoint}
    if kind == "space":
        settings["sdk"] = there.sdk
    found = store.find(kind, there.repo_id)
    if found is not None:
        if found.settings.get("mirror_of") != endpoint:
            raise UsageError(
                f"{kind} {found.id} is here already, and is no mirror of that Hub",
                where=str(store.root),
                expected=f"a mirror of {endpoint}",
                found=str(found.settings.get("mirror_of") or "a repository of its own"),
                next_step="use another --root, or delete or move that repository",
            )
        if found.settings | settings != found.settings:
            found.change_settings(**settings)
        return found
    if store.accounts.kind_of(namespace) is None:
        store.create_organisation(namespace)
    return store.create_repository(kind, there.repo_id, AUTHOR, initialise=False, **settings)


class _Copy:
    """One repository on its way: what has been copied so far, counted."""

    def __init__(self, source: HubClient, repository: Repository, repo_id: str, kind: Kind, scratch: Path) -> None:
        self.source, self.repository, self.repo_id, self.kind, self.scratch = source, repository, repo_id, kind, scratch
        self.commits = self.files = self.size = 0
        self._known: dict[tuple[str, int], Entry] = {}  # (git id, size) of files that are here

    def history(self, head: str) -> None:
        """Copy the commits from the first to `head` that are not here."""
        if self._is_whole(head):
            return
        listed = self.source.history(self.repo_id, head, self.kind)
        parent: str | None = None
        for commit in listed:
            check_commit(commit, f"{self.source.endpoint}/{self.repo_id}")
        for commit in reversed(listed):
            if self._stands(commit.commit):
                files = self.repository.commit_of(commit.commit).tree.values()
                self._known.update({(entry.oid, entry.size): entry for entry in files})
            else:
                self._commit(commit, parent)
            parent = commit.commit

    def _is_whole(self, head: str) -> bool:
        try:
            return all(self._stands(commit.oid) for commit in self.repository.history(head))
        except RevisionNotFound:
            return False

    def _stands(self, oid: str) -> bool:
        """Whether a commit is here with all its content: of a mirror that was broken off, `hub gc` may have taken a part."""
        if not self.repository.has_commit(oid):
            return False
        blobs = self.repository.blobs
        return all(blobs.has(entry.sha256, entry.size) for entry in self.repository.commit_of(oid).tree.values())

    def _commit(self, commit: HubCommit, parent: str | None) -> None:
        listed = self.source.tree(self.repo_id, commit.commit, self.kind)
        check_tree(listed, f"{self.source.endpoint}/{self.repo_id}@{commit.commit}")
        missing = {path: file for path, file in listed.items() if not self._is_here(file)}
        if missing:
            log(f"{self.repo_id}@{commit.commit[:12]}: {len(missing)} of {len(listed)} files")
            self._download(commit.commit, missing)
        tree = {path: self._known[file.git_oid, file.size] for path, file in listed.items()}
        self.repository.take_in(commit.commit, parent, commit.author, commit.date, commit.title, commit.message, tree)
        self.commits += 1

    def _is_here(self, file: HubFile) -> bool:
        if (file.git_oid, file.size) not in self._known and file.sha256 is not None:
            if not self.repository.blobs.has(file.sha256, file.size):
                return False
            self.repository.blobs.keep(file.sha256)
            self._known[file.git_oid, file.size] = large(file.sha256, file.size)
        return (file.git_oid, file.size) in self._known

    def _download(self, commit: str, missing: dict[str, HubFile]) -> None:
        """Through the client's cache, in which what was broken off continues. File by file, for the client's download of a whole
        revision reads the list again, and takes names of files from it that nobody has checked."""
        places = self.source.files(self.repo_id, commit, list(missing), self.scratch, self.kind)
        for path, file in missing.items():
            self._known[file.git_oid, file.size] = self._stored(path, places[path], file)
            self.files += 1
            self.size += file.size
        shutil.rmtree(self.scratch)

    def _stored(self, path: str, downloaded: Path, listed: HubFile) -> Entry:
        blobs, size = self.repository.blobs, downloaded.stat().st_size
        entry: Entry | None = None
        if size != listed.size:
            expected, found = f"{listed.size} bytes", f"{size} bytes"
        elif listed.sha256 is None:
            entry = regular(blobs, downloaded.read_bytes())
            expected, found = listed.git_oid, entry.oid
        else:
            blob = blobs.add_file(downloaded)
            entry = large(blob.sha256, blob.size)
            expected, found = listed.sha256, blob.sha256
        if expected != found or entry is None:
            shutil.rmtree(self.scratch)
            raise VerificationMismatch(
                "a file arrived with other bytes than the source lists",
                where=f"{self.source.endpoint}/{self.repo_id}: {path}",
                expected=expected,
                found=found,
                next_step="the same command again downloads it anew",
            )
        return entry
