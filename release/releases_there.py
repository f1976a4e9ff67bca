"""The releases that a repository holds, as the plan.json of its commits tells of them.

plan = plan_at(hub, "org/name", "v1.0.0")
private = [plan.tag for plan in releases_of(hub, repository) if plan.private]
"""

from __future__ import annotations

from pydantic import ValidationError

from release.bundle import PLAN
from release.hub_client import HubClient, HubCommit, HubRepository
from release.hub_files import HUB_OWN_FILE
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


def released_by(hub: HubClient, repo_id: str, commit: HubCommit) -> ReleasePlan | None:
    """The plan that a commit has released; None where it is no release: its message names the plan.json that it holds."""
    if not commit.title.startswith(RELEASE):
        return None
    plan = plan_at(hub, repo_id, commit.commit)
    return plan if plan is not None and plan.content_digest() in commit.message else None


def releases_of(hub: HubClient, repository: HubRepository) -> list[ReleasePlan]:
    """The plans of every release whose files can be asked for, by its tag or by its commit on main; sorted by tag."""
    titled = [commit.commit for commit in hub.history(repository.repo_id) if commit.title.startswith(RELEASE)]
    commits = dict.fromkeys([*repository.tags.values(), *titled])
    plans = [plan_at(hub, repository.repo_id, commit) for commit in commits]
    return sorted((plan for plan in plans if plan is not None), key=lambda plan: plan.tag)


def same_files(hub: HubClient, repo_id: str, one: str, other: str) -> bool:
    """Whether two revisions hold the same files, the Hub's own aside."""
    trees = [hub.tree(repo_id, revision) for revision in (one, other)]
    for tree in trees:
        tree.pop(HUB_OWN_FILE, None)
    return trees[0] == trees[1]
