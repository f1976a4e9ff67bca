"""The releases that a repository holds, as the plan.json of its commits tells of them.

plan = plan_at(hub, "org/name", "v1.0.0")
private = [plan.tag for plan in releases_of(hub, repository) if plan.private]
"""

from __future__ import annotations

from pydantic import ValidationError

from release.bundle import PLAN
from release.hub_client import HubClient, HubRepository
from release.records import ReleasePlan
from training.command import log
from training.errors import UsageError

RELEASE = "Release "  # how the title of a release's commit begins (release/planned_release.py)


def plan_at(hub: HubClient, repo_id: str, revision: str) -> ReleasePlan | None:
    """The plan.json of a revision; None where it is no release of Slipway's."""
    try:
        return ReleasePlan.model_validate_json(hub.text(repo_id, revision, PLAN))
    except (UsageError, ValidationError):
        log(f"{repo_id} at {revision} has no {PLAN} of a release")
        return None


def releases_of(hub: HubClient, repository: HubRepository) -> list[ReleasePlan]:
    """The plans of every release whose files can be asked for, by its tag or by its commit on main; sorted by tag."""
    titled = [commit.commit for commit in hub.history(repository.repo_id) if commit.title.startswith(RELEASE)]
    commits = dict.fromkeys([*repository.tags.values(), *titled])
    plans = [plan_at(hub, repository.repo_id, commit) for commit in commits]
    return sorted((plan for plan in plans if plan is not None), key=lambda plan: plan.tag)
