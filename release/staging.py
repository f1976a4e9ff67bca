"""Where a publication is staged: nobody without a token may see what has not been checked yet.

staging = Staging.of(plan, journal, repository)       # the repository itself while it is private, else one of its own beside it
staging.repo_id, staging.branch
staging.remove(hub, repository)

Branches of a public repository are public. So where the repository is public the files go into a private one of the same
owner, which is named after the plan, and is deleted once they are on main; the Hub knows their bytes by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from release.hub_client import HubClient, HubRepository
from release.records import ReleasePlan
from training.errors import HubError

LONGEST_ID = 96  # of a repository, on the Hub


@dataclass(frozen=True)
class Staging:
    """A branch of the repository that is released to, or of one of its own."""

    repo_id: str
    branch: str
    apart: bool

    @classmethod
    def of(cls, plan: ReleasePlan, line: dict[str, Any] | None, repository: HubRepository) -> Staging:
        """As the journal's line `repository` says; before there is one, by whether the repository can be seen."""
        if line is not None:
            return cls.noted(plan.repo_id, plan.tag, line)
        name = plan.repo_id if repository.private else apart(plan.repo_id, plan.content_digest())
        return cls(name, branch_of(plan.tag), name != plan.repo_id)

    @classmethod
    def noted(cls, repo_id: str, tag: str, line: dict[str, Any] | None) -> Staging:
        """By a journal. Lines from before 2026-11-28 name no place: it was the repository itself."""
        name = str((line or {}).get("staging") or repo_id)
        return cls(name, branch_of(tag), name != repo_id)

    def open(self, hub: HubClient, repository: HubRepository) -> HubRepository:
        """The repository to stage in, private and with a main to begin from. Raises HubError."""
        if not self.apart:
            return repository
        hub.create_repository(self.repo_id, private=True)
        made = hub.repository(self.repo_id)
        if made is None:
            raise HubError(
                f"the Hub created {self.repo_id} but does not show it to this token",
                where=hub.endpoint,
                next_step="give HF_TOKEN the right to read this namespace",
            )
        if not made.private:
            hub.set_private(self.repo_id, True)
        return made

    def remove(self, hub: HubClient, repository: HubRepository | None) -> None:
        """What was staged is gone; nothing where it was already."""
        if self.apart:
            if hub.repository(self.repo_id) is not None:
                hub.delete_repository(self.repo_id)
        elif repository is not None and self.branch in repository.branches:
            hub.delete_branch(self.repo_id, self.branch)


def branch_of(tag: str) -> str:
    return f"release-staging-{tag}"


def apart(repo_id: str, plan_digest: str) -> str:
    """The private repository beside a public one, named after the plan so that it is nobody else's."""
    ending = f"-staging-{plan_digest.removeprefix('sha256:')[:12]}"
    return repo_id[: LONGEST_ID - len(ending)].rstrip("-._") + ending
