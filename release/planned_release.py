"""A plan and what a Hub holds of it: its files there, whether it is released already, and one commit with exactly these files.

planned = PlannedRelease(run, plan, hub, journal)
planned.difference(commit)                        # the first file by which it is not this release; None where it is
planned.released(hub.repository(plan.repo_id))    # the commit of main by which it was released; None before that
planned.commit("main", parent, planned.title)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from release.bundle import PLAN
from release.hub_client import HubClient, HubRepository, source_changed
from release.hub_files import MEND, LocalFile, changes, difference
from release.journal import WITHDRAWN, Journal
from release.records import Receipt, ReleasePlan
from release.releases_there import RELEASE
from release.signature import SIGNATURE
from release.staging import Staging
from training.errors import UsageError, VerificationMismatch
from training.records import sha256_of_file

RECEIPT = "receipt.json"


@dataclass(frozen=True)
class PlannedRelease:
    run: Path
    plan: ReleasePlan
    hub: HubClient
    journal: Journal

    def staging(self, repository: HubRepository) -> Staging:
        return Staging.of(self.plan, self.journal.find("repository"), repository)

    @property
    def target(self) -> dict[str, str | None]:
        """What the journal says of where this goes, for plans that come after it (release/earlier.py)."""
        return {"repo_id": self.plan.repo_id, "tag": self.plan.tag, "space": self.plan.space}

    @property
    def title(self) -> str:
        return f"{RELEASE}{self.plan.tag}"

    @cached_property
    def files(self) -> dict[str, LocalFile]:
        """Every file to push, plan.json and the signature too."""
        bundle = self.run / "bundle"
        hashes = {entry.path: entry.sha256 for entry in self.plan.files}
        hashes[PLAN] = self.plan.content_digest().removeprefix("sha256:")
        if self.plan.signer is not None:
            hashes[SIGNATURE] = sha256_of_file(bundle / SIGNATURE)
        return {path: LocalFile(bundle / path, sha256) for path, sha256 in hashes.items()}

    def difference(self, revision: str, repo_id: str | None = None, *, without: str | None = None) -> str | None:
        """The first file by which a revision, of the plan's repository or another, is not this release; None where it is."""
        files, tree = ({**self.files}, self.hub.tree(repo_id or self.plan.repo_id, revision))
        if without is not None:
            files.pop(without, None)
            tree.pop(without, None)
        return difference(files, tree)

    def require_same(self, commit: str, repo_id: str | None = None) -> None:
        found = self.difference(commit, repo_id)
        if found is not None:
            self._require_unchanged()  # git object ids are taken from the files: the fault may be on this side
            raise VerificationMismatch(
                "the commit does not hold the planned files",
                where=f"{self.hub.endpoint}/{repo_id or self.plan.repo_id}, commit {commit}",
                expected="the plan's files",
                found=found,
                next_step=f"publish again; if it stays, the Hub's storage is damaged: {MEND}, and then publish again",
            )

    def _require_unchanged(self) -> None:
        """Raise GateRefused where a file of the bundle is no longer the one that was planned."""
        for file in self.files.values():
            if isinstance(file.source, Path):
                found = sha256_of_file(file.source) if file.source.is_file() else "no file"
                if found != file.sha256:
                    raise source_changed(str(file.source), file.sha256, found)

    def commit(self, branch: str, parent: str, title: str, repo_id: str | None = None) -> str:
        """The planned files and no others on top of `parent`, in one commit (none where they are there already).

        All of them are offered, those too that the Hub lists: it says which it needs, and may have lost what it lists.
        """
        where = repo_id or self.plan.repo_id
        additions, deletions = changes(self.files, self.hub.tree(where, parent))
        if not additions and not deletions:
            return parent
        return self.hub.commit(
            where,
            branch,
            parent=parent,
            additions=self.files,
            deletions=deletions,
            title=title,
            message=f"Plan {self.journal.plan_digest}",
            landed=lambda commit: self.difference(commit, where) is None,
        )

    def released(self, repository: HubRepository | None) -> str | None:
        """The commit of this release on main, from its tag or from main's history; None before it was promoted.

        Raises UsageError where the tag stands for something else.
        """
        if repository is None:
            return None
        history = self.hub.history(self.plan.repo_id)
        tagged = repository.tags.get(self.plan.tag)
        if tagged is not None:
            difference = self.difference(tagged)
            if difference is not None:
                raise self.taken(repository, difference)
            if tagged not in {commit.commit for commit in history}:
                raise self.tagged_elsewhere(repository, tagged)
            return tagged
        for commit in history:
            if self.journal.plan_digest in commit.message and self.difference(commit.commit) is None:
                return commit.commit
        return None

    def taken(self, repository: HubRepository, found: str) -> UsageError:
        """The error of a tag that others were faster to release; what was staged for it is removed."""
        self.staging(repository).remove(self.hub, repository)
        if self.journal.lines():
            self.journal.record(WITHDRAWN, target=self.target)
        return UsageError(
            f"the tag {self.plan.tag} of {self.plan.repo_id} stands for other bytes, and a release never changes",
            where=f"{self.hub.endpoint}/{self.plan.repo_id}",
            expected="the files of this plan",
            found=found,
            next_step="choose a new --tag for this release",
        )

    def require_no_branch(self, repository: HubRepository) -> None:
        """Raises UsageError where a branch has the tag's name: the Hub makes no tag beside it, and a revision would mean both."""
        if self.plan.tag in repository.branches:
            raise UsageError(
                f"{self.plan.repo_id} has a branch {self.plan.tag}, so there can be no tag of this name",
                where=f"{self.hub.endpoint}/{self.plan.repo_id}",
                expected="a --tag that nothing else is called by",
                found=f"the branch {self.plan.tag} at commit {repository.branches[self.plan.tag]}",
                next_step=f"choose another --tag; or, where the branch is not needed, hf repos branch delete {self.plan.repo_id} "
                f"{self.plan.tag}, and then the same command again",
            )

    def tagged_elsewhere(self, repository: HubRepository, tagged: str) -> UsageError:
        """The error of a tag that is at these very files, on a branch or nowhere, and not on main."""
        return UsageError(
            f"the tag {self.plan.tag} of {self.plan.repo_id} is at a commit that main does not have",
            where=f"{self.hub.endpoint}/{self.plan.repo_id}",
            expected="no tag of this name, or one on main",
            found=f"{self.plan.tag} at commit {tagged}, main at {repository.main}",
            next_step=f"choose another --tag; or hf repos tag delete {self.plan.repo_id} {self.plan.tag}, "
            "and then the same command again",
        )

    def receipt(self) -> Receipt | None:
        """The receipt, if this very plan was released to this Hub to the end."""
        path = self.run / RECEIPT
        receipt = Receipt.read(path) if path.is_file() else None
        if receipt is None or (receipt.endpoint, receipt.plan_digest) != (self.hub.endpoint, self.journal.plan_digest):
            return None
        return receipt
