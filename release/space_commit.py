"""A Space's repository brought to exactly these files, in one commit; nothing is done where it holds them already."""

from __future__ import annotations

from collections.abc import Mapping

from release.hub_client import HubClient
from release.hub_files import LocalFile, changes, difference
from training.counted import shortened
from training.errors import HubError, UsageError


def commit_space(
    hub: HubClient,
    repo_id: str,
    files: Mapping[str, LocalFile],
    *,
    sdk: str,
    title: str,
    message: str,
    ours: str | None = None,
) -> tuple[str, bool]:
    """The commit at which the Space holds these files, and whether it had to be made.

    A Space that is not there yet is created, private. May be called again after a kill, or where the answer was lost.
    `ours` is how the title of every commit of this kind begins: a Space with other commits and none of these is somebody's.
    Raises UsageError for such a one, HubError where the Hub refuses, or hides from this token what it has created.
    """
    space = hub.repository(repo_id, "space")
    if space is not None and ours is not None:
        _require_ours(hub, repo_id, space.main, ours)
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


def _require_ours(hub: HubClient, repo_id: str, main: str, ours: str) -> None:
    """Raise UsageError where somebody has given the Space files and no command of this kind ever has."""
    history = hub.history(repo_id, kind="space")
    if len(history) < 2 or any(commit.title.startswith(ours) for commit in history):  # the first one is the Hub's
        return
    raise UsageError(
        "this Space holds something else, which would be replaced as a whole",
        where=f"{hub.endpoint}/spaces/{repo_id}",
        expected="a new Space, or one that this command has made",
        found=shortened(sorted(hub.tree(repo_id, main, "space"))),
        next_step="name another Space",
    )
