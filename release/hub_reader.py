"""The one holder of HfApi, and everything that a release reads of a Hub; hub_client.py is what it writes.

    hub = HubReader.connect(anonymous=True)       # HF_ENDPOINT; HF_TOKEN, or the token file of huggingface_hub
    hub.tree("org/name", "v1.0.0")                # {path: HubFile}

Calls are tried again after a failure that passes. Whatever remains is a HubError that names the Hub and the next step,
never the token.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from release.hub_errors import is_passing, retry_after, translated
from release.hub_files import HubFile
from release.hub_transport import prepare_transport
from training.command import log
from training.errors import HubError, UsageError

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import GitCommitInfo, RepoFile

Kind = Literal["model", "space", "dataset"]
T = TypeVar("T")
PUBLIC_HUB = "https://huggingface.co"
DOWNLOADS_AT_ONCE = 8  # as huggingface_hub's own
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
class HubReader:
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

    def origin(self, repo_id: str) -> tuple[str | None, list[str]] | None:
        """The licence and the `base_model`s that the card of a model names; None where there is none that the token may see."""
        from huggingface_hub.errors import RepositoryNotFoundError

        def read() -> tuple[str | None, list[str]] | None:
            try:
                card = self.api.model_info(repo_id).card_data
            except RepositoryNotFoundError:
                return None
            licence = (card.get("license_name") or card.get("license")) if card else None
            bases = card.get("base_model") if card else None
            named = [one for one in (bases if isinstance(bases, list) else [bases]) if isinstance(one, str) and one]
            return licence if isinstance(licence, str) else None, named

        return self._again(f"look at the card of {repo_id}", read)

    def gate(self, repo_id: str) -> str | None:
        """`auto` or `manual` where its authors choose who reads the model, else ``; None where there is none to be seen."""
        from huggingface_hub.errors import RepositoryNotFoundError

        def read() -> str | None:
            try:
                return str(self.api.model_info(repo_id).gated or "")
            except RepositoryNotFoundError:
                return None

        return self._again(f"look whether {repo_id} is gated", read)

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

    def models_of(self, author: str, *, private: bool = True) -> list[str]:
        """The ids of every model of a user or organisation that the token (or without `private`: anyone) may see, sorted."""
        found = self._again(f"list the models of {author}", lambda: list(self.api.list_models(author=author)))
        return sorted(model.id for model in found if private or not model.private)

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

    def files(
        self, repo_id: str, commit: str, paths: Sequence[str], cache: Path, kind: Kind = "model"
    ) -> dict[str, Path]:
        """These files of a commit, several at once, into `cache`; where each lies."""

        def fetch(path: str) -> Path:
            def once() -> str:
                return str(self.api.hf_hub_download(repo_id, path, revision=commit, repo_type=kind, cache_dir=cache))

            return Path(self._again(f"download {path} of {repo_id}@{commit}", once))

        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE, "download") as pool:
            return dict(zip(paths, pool.map(fetch, paths), strict=True))

    def text(self, repo_id: str, revision: str, path: str, kind: Kind = "model") -> str:
        """A small text file of a revision. Raises UsageError where there is none."""
        from huggingface_hub.errors import RemoteEntryNotFoundError

        def read() -> str | None:
            with tempfile.TemporaryDirectory(prefix="slipway-file-") as cache:
                try:
                    file = self.api.hf_hub_download(repo_id, path, revision=revision, repo_type=kind, cache_dir=cache)
                except RemoteEntryNotFoundError:  # and not LocalEntryNotFoundError: the Hub did not answer
                    return None
                return Path(file).read_text(encoding="utf-8")

        found = self._again(f"read {path} of {repo_id}@{revision}", read)
        if found is None:
            raise UsageError(f"there is no {path}", where=f"{self.endpoint}/{repo_id}@{revision}")
        return found

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
                wait_before_trying_again(error, pause)
        with translated(self.endpoint, doing, self.api.token):
            return call()


def chosen_endpoint() -> str:
    """The address of the Hub that HF_ENDPOINT chooses."""
    return (os.environ.get("HF_ENDPOINT") or PUBLIC_HUB).rstrip("/")


def wait_before_trying_again(error: HubError, pause: float) -> None:
    """Say so, for a Hub that has died is silent otherwise, and wait."""
    seconds = pause_before(error, pause)
    log(f"{error.what}; trying again" + (f" in {seconds:g} s" if seconds else ""))
    time.sleep(seconds)


def pause_before(error: HubError, pause: float) -> float:
    """What the Hub asked to wait, within PATIENCE, or else our own pause."""
    asked = retry_after(error)
    return min(asked, PATIENCE) if asked is not None else pause


def _hub_commit(commit: GitCommitInfo) -> HubCommit:
    date = f"{commit.created_at:%Y-%m-%dT%H:%M:%S}.000Z"  # the client reads UTC, and git keeps whole seconds
    return HubCommit(commit.commit_id, commit.title, commit.message, next(iter(commit.authors), "unknown"), date)


def _hub_file(entry: RepoFile) -> HubFile:
    return HubFile(entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None)
