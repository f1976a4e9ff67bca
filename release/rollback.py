"""Roll back: main holds the files of an earlier release again, in one commit; nothing is erased.

    python -m release rollback --run runs/a             # to the release before the one in receipt.json
    python -m release rollback --repo org/name --to v1.0.0

Where there is no earlier release, the repository becomes private instead: readers find nothing, as before it, and
the bytes stay for whoever looks into what went wrong. Tags are never moved: what was released under a tag can still be
asked for by it. The commands are safe to repeat.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from release.bundle import files_of
from release.hub_client import HubClient, HubRepository
from release.hub_files import HUB_OWN_FILE, LocalFile, changes, difference
from training.command import log
from training.errors import HubError, UsageError, VerificationMismatch


def previous_release(hub: HubClient, repository: HubRepository, tag: str) -> str | None:
    """The tag of the release that was on main before `tag`'s commit; None where it was the first."""
    released = repository.tags.get(tag)
    if released is None:
        raise UsageError(
            f"{repository.repo_id} has no tag {tag}",
            where=hub.endpoint,
            expected=f"one of {', '.join(sorted(repository.tags)) or 'none'}",
        )
    by_commit = {commit: name for name, commit in repository.tags.items()}
    older = [entry.commit for entry in hub.history(repository.repo_id, tag)][1:]
    return next((by_commit[commit] for commit in older if commit in by_commit), None)


def roll_back(
    hub: HubClient, repo_id: str, *, release: str | None = None, to: str | None = None
) -> dict[str, str | None]:
    """Return main to the tag `to`, or to the release before `release`; what was done, with the commit.

    Raises UsageError where there is no such repository or tag, VerificationMismatch where the old files come back
    damaged, HubError.
    """
    repository = hub.repository(repo_id)
    if repository is None:
        raise HubError(f"there is no repository {repo_id} that this token may see", where=hub.endpoint)
    target = to or previous_release(hub, repository, release or "")
    if target is None:
        hub.set_private(repo_id, True)
        return {"repo_id": repo_id, "action": "made private", "tag": None, "commit": repository.main}
    if target not in repository.tags:
        raise UsageError(
            f"{repo_id} has no tag {target}",
            where=hub.endpoint,
            expected=f"one of {', '.join(sorted(repository.tags)) or 'none'}",
            found=target,
        )
    commit = _return_to(hub, repository, target)
    return {"repo_id": repo_id, "action": "returned main", "tag": target, "commit": commit}


def _return_to(hub: HubClient, repository: HubRepository, tag: str) -> str:
    """One commit on main with exactly the files of the tag; none where main holds them already."""
    repo_id, old = repository.repo_id, repository.tags[tag]
    wanted = hub.tree(repo_id, old)
    with TemporaryDirectory(prefix="slipway-rollback-") as cache:
        log(f"downloading {repo_id}@{tag}")
        snapshot = hub.download(repo_id, old, Path(cache))
        files = {
            entry.path: LocalFile(snapshot / entry.path, entry.sha256)
            for entry in files_of(snapshot, without=(HUB_OWN_FILE,))
        }
        damaged = difference(files, wanted)
        if damaged is not None:
            raise VerificationMismatch(
                f"the files of {tag} come back damaged; main is as it was",
                where=f"{hub.endpoint}/{repo_id}, commit {old}",
                expected="the files that the Hub lists",
                found=damaged,
                next_step="roll back to another tag with --to",
            )
        additions, deletions = changes(files, hub.tree(repo_id, repository.main))
        if not additions and not deletions:
            return repository.main
        return hub.commit(
            repo_id,
            "main",
            parent=repository.main,
            additions=additions,
            deletions=deletions,
            title=f"Roll back to {tag}",
            message=f"The files of commit {old}",
            landed=lambda commit: difference(files, hub.tree(repo_id, commit)) is None,
        )
