"""The one holder of HfApi: everything that a release asks of a Hub, in a release's own words.

    hub = HubClient.connect()                     # HF_ENDPOINT; HF_TOKEN, or the token file of huggingface_hub
    hub.tree("org/name", "v1.0.0")                # {path: HubFile}
    hub.commit("org/name", "main", parent=..., additions=..., deletions=..., ...)

Reads and repeatable writes are tried again after a failure that passes; a commit whose answer was lost is looked for
before it is sent again. Whatever remains is a HubError that names the Hub and the next step, never the token.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from release.hub_errors import is_passing, retry_after, translated
from release.hub_files import HubFile, LocalFile
from release.hub_transport import prepare_transport
from training.errors import GateRefused, HubError, UsageError

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, HfApi
    from huggingface_hub.hf_api import GitCommitInfo, RepoFile

Kind = Literal["model", "space", "dataset"]
T = TypeVar("T")
PUBLIC_HUB = "https://huggingface.co"
INLINE = 10_000_000  # bytes up to which a file is held in memory, so that what is sent is what was hashed
PATIENCE = 60.0  # the longest wait, in seconds, that a busy Hub may ask for


@dataclass(frozen=True)
class HubRepository:
    repo_id: str
    private: bool
    branches: dict[str, str]  # name -> commit
    tags: dict[str, str]
    gated: str | bool = False
    sdk: str | None = None  # of a Space

    @property
    def main(self) -> str:
        return self.branches["main"]


@dataclass(frozen=True)
class HubCommit:
    commit: str
    title: str
    message: str
    author: str  # the first, where there are several
    date: str  # ISO 8601, UTC


@dataclass
class HubClient:
    """`pauses` are the seconds waited before each further try."""

    endpoint: str
    api: HfApi
    pauses: Sequence[float] = field(default=(0.5, 1.0, 2.0, 4.0))

    @classmethod
    def connect(cls, endpoint: str | None = None, token: str | None = None, *, anonymous: bool = False) -> Self:
        """The Hub of HF_ENDPOINT with the user's token. Without a token only public repositories can be read."""
        from huggingface_hub import HfApi, get_token

        prepare_transport()
        chosen = endpoint or chosen_endpoint()
        own = None if anonymous else token or get_token()
        return cls(chosen, HfApi(endpoint=chosen, token=own or False, library_name="slipway"))

    # -- reading -------------------------------------------------------------------------------------------------

    def user(self) -> str:
        """The name behind the token. Raises HubError where there is no token or the Hub does not accept it."""
        if not self.api.token:
            raise HubError(
                "publishing needs a token",
                where=self.endpoint,
                expected="HF_TOKEN, or the token file that `hf auth login` writes",
                found="neither",
                next_step="set HF_TOKEN to a token with write access",
            )
        return str(self._again("ask who the token belongs to", lambda: self.api.whoami())["name"])

    def repository(self, repo_id: str, kind: Kind = "model") -> HubRepository | None:
        """The repository with its branches and tags; None where there is none, or none that the token may see."""
        from huggingface_hub.errors import RepositoryNotFoundError

        def read() -> HubRepository | None:
            try:
                info = self.api.repo_info(repo_id, repo_type=kind)
                refs = self.api.list_repo_refs(repo_id, repo_type=kind)
            except RepositoryNotFoundError:
                return None
            return HubRepository(
                repo_id=info.id,
                private=bool(info.private),
                branches={ref.name: ref.target_commit for ref in refs.branches},
                tags={ref.name: ref.target_commit for ref in refs.tags},
                gated=getattr(info, "gated", None) or False,
                sdk=getattr(info, "sdk", None),
            )

        return self._again(f"look at {repo_id}", read)

    def resolve(self, repo_id: str, revision: str, kind: Kind = "model") -> str:
        """The commit behind a branch, tag or commit id. Raises HubError where there is none."""
        doing = f"find {repo_id}@{revision}"
        sha = self._again(doing, lambda: self.api.repo_info(repo_id, revision=revision, repo_type=kind).sha)
        return str(sha)

    def tree(self, repo_id: str, revision: str, kind: Kind = "model") -> dict[str, HubFile]:
        """Every file of a revision by its path."""
        from huggingface_hub.hf_api import RepoFile

        def read() -> dict[str, HubFile]:
            entries = self.api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type=kind)
            return {entry.path: _hub_file(entry) for entry in entries if isinstance(entry, RepoFile)}

        return self._again(f"list {repo_id}@{revision}", read)

    def history(self, repo_id: str, revision: str = "main", kind: Kind = "model") -> list[HubCommit]:
        """Commits from the newest to the oldest."""

        def read() -> list[HubCommit]:
            commits = self.api.list_repo_commits(repo_id, revision=revision, repo_type=kind)
            return [_hub_commit(commit) for commit in commits]

        return self._again(f"read the history of {repo_id}", read)

    def models_of(self, author: str) -> list[str]:
        """The ids of every model of a user or organisation that the token may see, sorted."""
        found = self._again(f"list the models of {author}", lambda: list(self.api.list_models(author=author)))
        return sorted(model.id for model in found)

    def download(
        self, repo_id: str, revision: str, cache: Path, kind: Kind = "model", patterns: list[str] | None = None
    ) -> Path:
        """Every file of a revision (or those of the patterns) into `cache`, which should be empty; the directory."""
        doing = f"download {repo_id}@{revision}"
        return Path(
            self._again(
                doing,
                lambda: self.api.snapshot_download(
                    repo_id, revision=revision, repo_type=kind, cache_dir=cache, allow_patterns=patterns
                ),
            )
        )

    def text(self, repo_id: str, revision: str, path: str, kind: Kind = "model") -> str:
        """A small text file of a revision. Raises UsageError where there is none."""
        from huggingface_hub.errors import EntryNotFoundError

        def read() -> str | None:
            with tempfile.TemporaryDirectory(prefix="slipway-file-") as cache:
                try:
                    file = self.api.hf_hub_download(repo_id, path, revision=revision, repo_type=kind, cache_dir=cache)
                except EntryNotFoundError:
                    return None
                return Path(file).read_text(encoding="utf-8")

        found = self._again(f"read {path} of {repo_id}@{revision}", read)
        if found is None:
            raise UsageError(f"there is no {path}", where=f"{self.endpoint}/{repo_id}@{revision}")
        return found

    # -- writing -------------------------------------------------------------------------------------------------

    def create_repository(self, repo_id: str, kind: Kind = "model", *, private: bool, sdk: str | None = None) -> None:
        """Create it if it is not there."""
        self._again(
            f"create {repo_id}",
            lambda: self.api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True, space_sdk=sdk),
        )

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

        return self._again(f"collect {len(items)} repositories in {title!r}", gather)

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
                time.sleep(_pause(error, pause))

    def head(self, repo_id: str, branch: str, kind: Kind = "model") -> str:
        return self.resolve(repo_id, branch, kind)

    # -- trying again --------------------------------------------------------------------------------------------

    def _again(self, doing: str, call: Callable[[], T]) -> T:
        """Make a call that may be repeated, until it answers or the pauses are used up."""
        for pause in self.pauses:
            try:
                with translated(self.endpoint, doing, self.api.token):
                    return call()
            except HubError as error:
                if not is_passing(error):
                    raise
                time.sleep(_pause(error, pause))
        with translated(self.endpoint, doing, self.api.token):
            return call()


def chosen_endpoint() -> str:
    """The address of the Hub that HF_ENDPOINT chooses."""
    return (os.environ.get("HF_ENDPOINT") or PUBLIC_HUB).rstrip("/")


def check_repo_id(repo_id: str) -> None:
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
            next_step="give e.g. --repo your-name/my-model",
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


def _pause(error: HubError, pause: float) -> float:
    """What the Hub asked to wait, within PATIENCE, or else our own pause."""
    asked = retry_after(error)
    return min(asked, PATIENCE) if asked is not None else pause


def _hub_commit(commit: GitCommitInfo) -> HubCommit:
    date = f"{commit.created_at:%Y-%m-%dT%H:%M:%S}.000Z"  # the client reads UTC, and git keeps whole seconds
    return HubCommit(commit.commit_id, commit.title, commit.message, next(iter(commit.authors), "unknown"), date)


def _hub_file(entry: RepoFile) -> HubFile:
    return HubFile(entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None)
