"""The Space of a model that is rolled back: it serves the release that main returned to, or it is said what it still serves.

spaces = spaces_of(hub, repository)                      # as the plan.json of main and of every tag name them
done = return_to_release(hub, "org/name-chat", repository, "v1.0.0")
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from release.hub_client import HubClient, HubRepository
from release.releases_there import plan_at
from release.return_commit import return_to
from training.errors import UsageError


@dataclass
class SpaceDone:
    """What became of a Space: `serves` is the tag, or the commit where it has none, of the model that it answers with."""

    space: str
    action: str  # returned | serves it | made private | left
    serves: str | None
    private: bool


def spaces_of(hub: HubClient, repository: HubRepository) -> list[str]:
    """The Spaces that are there and answer with this model, among those that its releases name."""
    revisions = dict.fromkeys([repository.main, *repository.tags.values()])
    plans = [plan_at(hub, repository.repo_id, revision) for revision in revisions]
    named = dict.fromkeys(plan.space for plan in plans if plan is not None and plan.space is not None)
    return [space for space in named if served(hub, space)[0] == repository.repo_id]


def return_to_release(hub: HubClient, space: str, model: HubRepository, tag: str) -> SpaceDone:
    """The Space with the files that were made for the model at `tag`; left as it is where it never had such files.

    Raises VerificationMismatch where they come back damaged, HubError.
    """
    repository, commit = hub.repository(space, "space"), model.tags[tag]
    assert repository is not None  # spaces_of has just seen it
    serves = served(hub, space)[1]
    if serves == commit:
        return SpaceDone(space, "serves it", tag, repository.private)
    message = f"Commit {commit} of {model.repo_id}"  # of the commit that publish_space made
    history = hub.history(space, kind="space")
    pinned = next((entry for entry in history if message in entry.message), None)
    if pinned is None:
        return SpaceDone(space, "left", _tag_of(model, serves), repository.private)
    return_to(hub, space, main=repository.main, old=pinned.commit, name=pinned.title, kind="space")
    return SpaceDone(space, "returned", tag, repository.private)


def return_before(hub: HubClient, space: str, model: HubRepository, released: str) -> list[SpaceDone]:
    """The Space serves what it served before the commit that pinned it to `released`; private where that was nothing."""
    repository = hub.repository(space, "space")
    if repository is None:
        return []
    history = hub.history(space, kind="space")
    pinned = next((index for index, commit in enumerate(history) if released in commit.message), None)
    if pinned is None:
        return []
    before = history[pinned + 1 :]
    if len(before) <= 1:  # the Hub's own first commit
        hub.set_private(space, True, "space")
        return [SpaceDone(space, "made private", _tag_of(model, served(hub, space)[1]), True)]
    return_to(hub, space, main=repository.main, old=before[0].commit, name=before[0].title, kind="space")
    return [SpaceDone(space, "returned", _tag_of(model, served(hub, space)[1]), repository.private)]


def served(hub: HubClient, space: str) -> tuple[str | None, str | None]:
    """The model and its commit that a Space's main names; None, None where there is no such Space, or it is none of ours."""
    if hub.repository(space, "space") is None:
        return None, None
    try:
        told = json.loads(hub.text(space, "main", "space.json", "space"))
        return str(told["model_id"]), str(told["revision"])
    except (UsageError, ValueError, KeyError, TypeError):
        return None, None


def _tag_of(model: HubRepository, commit: str | None) -> str | None:
    return next((name for name, tagged in model.tags.items() if tagged == commit), commit)
