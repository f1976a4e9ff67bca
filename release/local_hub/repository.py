"""One repository on disk: immutable commits, and refs that move by one atomic replacement.

repository.commit("refs/heads/main", [Put("README.md", entry)], author="slipway", title="Add a card")
repository.resolve("main").tree["README.md"]

<folder>/repo.json      settings: kind, visibility, gated, created
         commits/X.json commit X with its whole tree, X being git's own id of it; written before any ref names it, never
                        changed
         refs.json      all refs; replacing this one file is the moment at which a commit becomes visible
         lock           taken by whoever moves a ref, so that a stale parent is noticed
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from release.local_hub.commits import HEADS, Commit, Head, checksum, head_of, read_commit
from release.local_hub.git_objects import git_commit, git_id, trees
from release.local_hub.records import read_record, write_record
from release.local_hub.refusals import Conflict, Damaged, Refusal, RevisionNotFound, StaleParent
from release.local_hub.storage import Blobs, create_json, locked, make_folder, read_json
from release.local_hub.tree import Change, Put, Tree, apply, refuse_lookalikes

log = logging.getLogger("slipway.hub")
MAIN = "refs/heads/main"
_FULL_OID = re.compile(r"[0-9a-f]{40}")
_SHORT_OID = re.compile(r"[0-9a-f]{7,39}")
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[/.-]|[/.]$|/\.|\.lock$|\.lock/")


def now() -> str:
    """The time in the Hub's notation: 2026-11-23T23:26:00.123Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Repository:
    """A model, dataset or Space; `id` is `namespace/name` as its owner spells it."""

    def __init__(self, folder: Path, kind: str, repo_id: str, blobs: Blobs) -> None:
        self.folder, self.kind, self.id, self.blobs = folder, kind, repo_id, blobs

    @classmethod
    def initialise(cls, folder: Path, kind: str, settings: dict[str, Any]) -> None:
        """Write the folder of a repository without commits; it is nobody's until the store gives it a name."""
        make_folder(folder)
        make_folder(folder / "commits")
        write_record(
            folder / "repo.json", {"kind": kind, "created": now(), "private": False, "gated": False, **settings}
        )
        write_record(folder / "refs.json", {"refs": {}, "messages": {}})

    @property
    def namespace(self) -> str:
        return self.id.partition("/")[0]

    @property
    def settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = read_record(self.folder / "repo.json", {"private": True})
        return settings

    @property
    def private(self) -> bool:
        return bool(self.settings.get("private", True))

    def change_settings(self, **changes: Any) -> None:
        self.edit_settings(lambda settings: settings.update(changes))

    def edit_settings(self, edit: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Let `edit` change the settings while nobody else does; the settings afterwards."""
        with self._locked():
            settings = self.settings
            edit(settings)
            write_record(self.folder / "repo.json", settings)
            return settings

    # Reading

    def refs(self) -> dict[str, str]:
        """Full ref name (refs/heads/main, refs/tags/v1, refs/pr/1) -> commit id."""
        refs = read_record(self.folder / "refs.json", {"refs": {}}).get("refs")
        if not isinstance(refs, dict):
            raise Damaged(self.folder / "refs.json", "it lists no refs")
        return refs

    def resolve(self, revision: str) -> Commit:
        """The commit that a tag, branch, full ref or commit id names. Raises RevisionNotFound.

        A tag comes before a branch of its name, as in git (gitrevisions(7)), so that no branch takes a release's place; but
        `main`, which every client asks for unless told otherwise, is the branch.
        """
        refs = self.refs()
        names = [f"refs/tags/{revision}", f"refs/heads/{revision}"]
        for name in (*(names[::-1] if revision == "main" else names), revision):
            if name in refs:
                return self.commit_of(refs[name])
        if self.has_commit(revision):
            return self.commit_of(revision)
        if _SHORT_OID.fullmatch(revision):
            found = list((self.folder / "commits").glob(f"{revision}*.json"))
            if len(found) == 1:
                return self.commit_of(found[0].stem)
        raise RevisionNotFound(revision)

    def commit_of(self, oid: str) -> Commit:
        try:
            return read_commit(self._commit_file(oid))
        except FileNotFoundError as error:
            raise RevisionNotFound(oid) from error  # the repository was deleted meanwhile
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(self._commit_file(oid), "it cannot be read as a commit") from error

    def history(self, oid: str) -> Iterator[Commit]:
        """Commits from `oid` back to the first."""
        current: str | None = oid
        while current is not None:
            commit = self.commit_of(current)
            yield commit
            current = commit.parent

    def heads(self, oid: str) -> Iterator[Head]:
        """As `history`, without the files: of a thousand commits those are a thousand lists."""
        current: str | None = oid
        while current is not None:
            head = HEADS.get(self._commit_file(current), partial(self._head, current))
            yield head
            current = head.parent

    def _head(self, oid: str) -> Head:
        return head_of(self.commit_of(oid))

    # Writing

    def commit(
        self,
        ref: str,
        changes: Sequence[Change],
        *,
        author: str,
        title: str,
        message: str = "",
        parent: str | None = None,
        create_ref: str | None = None,
    ) -> Commit:
        """Add a commit on top of `ref`, or on a new ref `create_ref` that starts there.

        `parent` (full, or at least 7 characters) must be the current commit of `ref`, or StaleParent is raised. Changes after
        which the files are what they were make no commit, and the current one is returned: so content that was lost is sent again.
        Otherwise 422 where the content of a file is not here, of those too that the commit leaves as they are.
        """
        with self._locked():
            refs = self.refs()
            head = refs.get(ref)
            if head is None and (ref != MAIN or refs):
                raise RevisionNotFound(ref)
            if parent is not None and not (head or "").startswith(parent if len(parent) >= 7 else "?"):
                raise StaleParent
            before: Tree = self.commit_of(head).tree if head else {}
            target = create_ref or ref
            if create_ref and create_ref in refs:
                raise Conflict(f"{create_ref} exists already")
            with self.blobs.in_use():
                after = apply(before, changes)
                if head and changes and after == before and not create_ref:
                    return self.commit_of(head)
                refuse_lookalikes(before, after)
                self._require_content(after)
                commit = self._write_commit(head, after, author, title, message)
                self._write_refs({**refs, target: commit.oid})
            return commit

    def take_in(
        self, oid: str, parent: str | None, author: str, date: str, title: str, message: str, tree: Tree
    ) -> None:
        """Write a commit that was made elsewhere, under its id there. No ref leads to it yet; content is here already."""
        body: dict[str, Any] = {"parent": parent, "author": author, "date": date, "title": title, "message": message}
        body["tree"] = {path: asdict(entry) for path, entry in apply({}, [Put(*item) for item in tree.items()]).items()}
        before = git_id(self, self.commit_of(parent)) if parent else None
        if git_commit(before, author, date, title, message, trees(tree)[""].id).id.decode() != oid:
            body["foreign"] = True
        create_json(self._commit_file(oid), {**body, "check": checksum(body, oid)})

    def has_commit(self, oid: str) -> bool:
        return bool(_FULL_OID.fullmatch(oid)) and self._commit_file(oid).is_file()

    def _commit_file(self, oid: str) -> Path:
        """Raises RevisionNotFound for what is no id of a commit: it becomes a name of a file."""
        if not _FULL_OID.fullmatch(oid):
            raise RevisionNotFound(oid)
        return self.folder / "commits" / f"{oid}.json"

    def replace_refs(self, refs: dict[str, str]) -> None:
        """Let branches and tags be exactly these; pull requests stay. Raises 422 where content has been collected."""
        with self._locked(), self.blobs.in_use():
            for oid in set(refs.values()):
                for commit in self.history(oid):
                    self._require_content(commit.tree)
            pulls = {ref: oid for ref, oid in self.refs().items() if ref.startswith("refs/pr/")}
            self._write_refs({**pulls, **refs})

    def copy_history(self, source: Repository) -> None:
        """Take the branches and tags of another repository of this Hub, with all their commits, into this one that has none.
        Raises 422 where content of theirs has been lost."""
        with source._locked():  # of both files, refs and messages, one state
            found = read_record(source.folder / "refs.json", {"refs": {}, "messages": {}})
        refs = {ref: oid for ref, oid in found["refs"].items() if not ref.startswith("refs/pr/")}
        with self.blobs.in_use():
            for oid in set(refs.values()):
                for commit in source.history(oid):
                    if self.has_commit(commit.oid):
                        break  # and so what came before it
                    self._require_content(commit.tree)
                    create_json(self._commit_file(commit.oid), read_json(source._commit_file(commit.oid)))
            self._write_refs(refs, found["messages"])

    def squash(self, ref: str, author: str, title: str) -> Commit:
        """Replace the history of a branch by one commit with its files."""
        with self._locked():
            refs = self.refs()
            if ref not in refs:
                raise RevisionNotFound(ref)
            with self.blobs.in_use():
                self._require_content(tree := self.commit_of(refs[ref]).tree)
                commit = self._write_commit(None, tree, author, title, "")
                self._write_refs({**refs, ref: commit.oid})
            return commit

    def create_ref(self, ref: str, oid: str, message: str | None = None) -> None:
        """Add a branch or a tag. Raises Conflict if it exists, 422 if the other kind has one of its name."""
        name = ref.split("/", 2)[2]
        check_ref_name(name)
        with self._locked():
            refs = self.refs()
            if ref in refs:
                raise Conflict(f"Reference already exists: {ref}")
            if not ref.startswith("refs/pr/"):
                _refuse_ambiguous(name, refs)
            with self.blobs.in_use():
                if not self.has_commit(oid):
                    raise RevisionNotFound(oid)
                self._write_refs({**refs, ref: oid}, {ref: message} if message else {})

    def delete_ref(self, ref: str) -> None:
        if ref == MAIN:
            raise Refusal(403, "The default branch cannot be deleted")
        with self._locked():
            refs = self.refs()
            if refs.pop(ref, None) is None:
                raise RevisionNotFound(ref.split("/", 2)[-1])
            self._write_refs(refs)

    def _require_content(self, tree: Tree) -> None:
        """Raises 422 where content was collected between its upload and its commit, or was lost from commits before it."""
        for path, entry in tree.items():
            if not self.blobs.has(entry.sha256, entry.size):
                raise Refusal(422, f"The content of {path} is not here any more; send it again")

    def _write_commit(self, parent: str | None, tree: Tree, author: str, title: str, message: str) -> Commit:
        body = {
            "parent": parent,
            "author": author,
            "date": f"{now()[:-5]}.000Z",  # git keeps whole seconds, so the Hub's dates of commits look like this
            "title": title,
            "message": message,
            "tree": {path: asdict(entry) for path, entry in tree.items()},
        }
        before = git_id(self, self.commit_of(parent)) if parent else None
        details = (str(body["author"]), str(body["date"]), title, message)
        oid = git_commit(before, *details, trees(tree)[""].id).id.decode()
        body["check"] = checksum(body, oid)
        path = self._commit_file(oid)
        create_json(path, body)
        return read_commit(path)

    def _write_refs(self, refs: dict[str, str], messages: dict[str, str] | None = None) -> None:
        old = read_record(self.folder / "refs.json", {}).get("messages", {})
        kept = {ref: text for ref, text in {**old, **(messages or {})}.items() if ref in refs}
        write_record(self.folder / "refs.json", {"refs": refs, "messages": kept})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            lock = locked(self.folder / "lock")
            with lock:
                yield
        except (FileNotFoundError, NotADirectoryError) as error:
            if self.folder.is_dir():
                raise
            raise Refusal(404, "Repository not found", "RepoNotFound") from error  # deleted meanwhile


def passed_over(repository: Repository, error: Exception) -> None:
    """Note in the log that a list leaves a repository out: it is damaged, and the others are to be told of all the same. One that
    was deleted at this moment, or is just being created, is not worth a word."""
    if isinstance(error, Damaged):
        log.error("%s %s is left out of a list: %s", repository.kind, repository.id, error)


def check_ref_name(name: str) -> None:
    """Raises 422 for what no branch or tag is called: git could not have it, or it would be taken for something else."""
    if _BAD_REF.search(name) or len(name) > 200 or _FULL_OID.fullmatch(name) or name.startswith("refs/"):
        raise Refusal(422, f"Invalid reference name: {name[:200]!r}")


def _refuse_ambiguous(name: str, refs: dict[str, str]) -> None:
    """Raises 422, and not 409, which clients take for "it is there" when told `exist_ok`."""
    for kind, other in (("tag", f"refs/tags/{name}"), ("branch", f"refs/heads/{name}")):
        if other in refs:
            raise Refusal(422, f"There is a {kind} {name} already, and a revision must say which commit it means")
