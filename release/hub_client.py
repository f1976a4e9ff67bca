"""Everything that a release asks of a Hub, in a release's own words: hub_reader.py's reading, and the writing.

    hub = HubClient.connect()                     # HF_ENDPOINT; HF_TOKEN, or the token file of huggingface_hub
    hub.commit("org/name", "main", parent=..., additions=..., deletions=..., ...)

Writes that may be repeated are tried again after a failure that passes; a commit whose answer was lost is looked for before it
is sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from release.hub_errors import is_passing, translated
from release.hub_files import LocalFile
from release.hub_reader import HubCommit, HubReader, HubRepository, Kind, chosen_endpoint, wait_before_trying_again
from training.counted import counted
from training.errors import GateRefused, HubError, UsageError

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy

__all__ = ["HubClient", "HubCommit", "HubRepository", "Kind", "check_repo_id", "chosen_endpoint", "source_changed"]
INLINE = 10_000_000  # bytes up to which a file is held in memory, so that what is sent is what was hashed


@dataclass
class HubClient(HubReader):
    """A reader that also writes."""

    def create_repository(self, repo_id: str, kind: Kind = "model", *, private: bool, sdk: str | None = None) -> None:
        """Create it if it is not there."""
        self._again(
            f"create {repo_id}",
            lambda: self.api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True, space_sdk=sdk),
        )

    def delete_repository(self, repo_id: str) -> None:
        """Gone, or was not there."""
        self._again(f"delete {repo_id}", lambda: self.api.delete_repo(repo_id, missing_ok=True))

    def create_branch(self, repo_id: str, branch: str, commit: str) -> None:
        self._again(
            f"create the branch {branch} of {repo_id}",
            lambda: self.api.create_branch(repo_id, branch=branch, revision=commit, exist_ok=True),
        )

    def delete_branch(self, repo_id: str, branch: str) -> None:
        from huggingface_hub.errors import RevisionNotFoundError

        def delete() -> None:
            try:
                self.api.delete_branch(repo_id, branch=branch)
            except RevisionNotFoundError:
                return  # a try whose answer was lost has deleted it

        self._again(f"delete the branch {branch} of {repo_id}", delete)

    def create_tag(self, repo_id: str, tag: str, commit: str, message: str) -> None:
        """Tag a commit; the caller checks afterwards that the tag is where it should be."""
        self._again(
            f"tag {repo_id} as {tag}",
            lambda: self.api.create_tag(repo_id, tag=tag, revision=commit, tag_message=message, exist_ok=True),
        )

    def set_private(self, repo_id: str, private: bool, kind: Kind = "model") -> None:
        self._again(
            f"make {repo_id} {'private' if private else 'public'}",
            lambda: self.api.update_repo_settings(repo_id, private=private, repo_type=kind),
        )

    def set_gated(self, repo_id: str, gated: Literal["auto", "manual", False]) -> None:
        self._again(
            f"make {repo_id} {'gated' if gated else 'open to all'}",
            lambda: self.api.update_repo_settings(repo_id, gated=gated),
        )

    def collect(
        self,
        namespace: str,
        title: str,
        items: Sequence[tuple[str, Kind, str]],
        *,
        description: str | None = None,
        private: bool = False,
    ) -> str:
        """The slug of the namespace's collection of this title, made if it is not there, with these (id, kind, note) in it."""

        def gather() -> str:
            made = self.api.create_collection(
                title, namespace=namespace, description=description, private=private, exists_ok=True
            )
            for repo_id, kind, note in items:
                self.api.add_collection_item(made.slug, repo_id, kind, note=note, exists_ok=True)
            return str(made.slug)

        return self._again(f"collect {counted(len(items), 'repository', 'repositories')} in {title!r}", gather)

    def commit(
        self,
        repo_id: str,
        branch: str,
        *,
        parent: str,
        additions: Mapping[str, LocalFile],
        deletions: Sequence[str],
        title: str,
        message: str,
        landed: Callable[[str], bool],
        kind: Kind = "model",
    ) -> str:
        """One commit on top of `parent`, or the one that landed although its answer was lost; its id.

        `landed(commit)` says whether a commit holds what was wanted. Raises HubError where somebody else's commit
        came first.
        """
        from huggingface_hub import CommitOperationDelete

        doing = f"commit to {repo_id} ({branch})"
        pauses = iter(self.pauses)
        while True:
            operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
                *(_operation(path, addition) for path, addition in additions.items()),
                *(CommitOperationDelete(path) for path in deletions),
            ]
            try:
                with translated(self.endpoint, doing, self.api.token):
                    done = self.api.create_commit(
                        repo_id,
                        operations,
                        commit_message=title,
                        commit_description=message,
                        revision=branch,
                        parent_commit=parent,
                        repo_type=kind,
                    )
                return done.oid
            except HubError as error:
                head = self.head(repo_id, branch, kind)
                if head != parent and landed(head):
                    return head
                if head != parent:
                    raise HubError(
                        f"somebody else committed to {branch} meanwhile",
                        where=f"{self.endpoint}/{repo_id}",
                        expected=f"{branch} at {parent}",
                        found=f"{branch} at {head}",
                        next_step="look at their commit; the same command again puts this release on top of it",
                    ) from error
                pause = next(pauses, None)
                if pause is None or not is_passing(error):
                    raise
                wait_before_trying_again(error, pause)


def check_repo_id(repo_id: str, option: str = "--repo") -> None:
    """Raises UsageError for what no Hub takes as the id of a repository. Needs no network."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    found = None
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        found = str(error)
    if found or "/" not in repo_id:
        raise UsageError(
            "not the id of a repository",
            expected="OWNER/NAME in letters, digits, '-', '_' and '.'",
            found=found or repo_id,
            next_step=f"give e.g. {option} your-name/my-model",
        )


def _operation(path: str, addition: LocalFile) -> CommitOperationAdd:
    """The addition, with small files read into memory: what is hashed here is then what is sent."""
    from huggingface_hub import CommitOperationAdd

    source = addition.source
    if isinstance(source, Path) and source.stat().st_size <= INLINE:
        source = source.read_bytes()
    operation = CommitOperationAdd(path, str(source) if isinstance(source, Path) else source)
    found = operation.upload_info.sha256.hex()
    if found != addition.sha256:
        raise source_changed(
            str(addition.source) if isinstance(addition.source, Path) else path, addition.sha256, found
        )
    return operation


def source_changed(where: str, expected: str, found: str) -> GateRefused:
    return GateRefused(
        "a file changed after the plan was made, so its verdicts speak of other bytes",
        where=where,
        expected=f"sha256 {expected}",
        found=found if found.startswith("no ") else f"sha256 {found}",
        next_step="python -m release plan again, then publish",
    )
