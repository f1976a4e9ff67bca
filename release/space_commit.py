"""A Space's repository brought to exactly these files, in one commit; nothing is done where it holds them already."""

from __future__ import annotations

from collections.abc import Mapping

from release.hub_client import HubClient
from release.hub_files import LocalFile, changes, difference
from training.errors import HubError


def commit_space(
    hub: HubClient, repo_id: str, files: Mapping[str, LocalFile], *, sdk: str, title: str, message: str
) -> tuple[str, bool]:
    """The commit at which the Space holds these files, and whether it had to be made.

    A Space that is not there yet is created, private. May be called again after a kill, or where the answer was lost.
    Raises HubError where the Hub refuses, or hides from this token what it has created.
    """
    space = hub.repository(repo_id, "space")
    if space is None:
        hub.create_repository(repo_id, "space", private=True, sdk=sdk)
        space = hub.repository(repo_id, "space")
    if space is None:
        raise HubError(
            f"the Hub created the Space {repo_id} but does not show it to this token",
            where=hub.endpoint,
            next_step="give HF_TOKEN the right to read this namespace",
        )
    additions, deletions = changes(files, hub.tree(repo_id, space.main, "space"))
    if not additions and not deletions:
        return space.main, False
    commit = hub.commit(
        repo_id,
        "main",
        parent=space.main,
        additions=additions,
        deletions=deletions,
        title=title,
        message=message,
        landed=lambda found: difference(files, hub.tree(repo_id, found, "space")) is None,
        kind="space",
    )
    return commit, True
