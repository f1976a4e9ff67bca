"""Files of main, and of the Space, that no release has put there: publishing would replace or remove them, not unasked.

    require_agreed(planned, repository, replace_files=False)    # raises UsageError with the list
    holds_nothing(hub, "org/name", commit)                      # a repository as the Hub makes it

A file is a release's where any release of main's history or of a tag holds these bytes at this path. What the Hub writes itself
when it makes a repository is nobody's: .gitattributes, and a card of nothing but metadata, or a Space's first card.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from release.bundle import PLAN
from release.hub_client import HubClient, HubCommit, HubRepository
from release.hub_files import HUB_OWN_FILE, HubFile, LocalFile
from release.planned_release import PlannedRelease
from release.records import ReleasePlan
from release.releases_there import plan_at, released_by
from release.signature import SIGNATURE
from release.space import SERVE, space_files
from training.command import log
from training.errors import UsageError

STEP = "replaces"  # the journal's line of what somebody agreed to
CARD = "README.md"
SHOWN = 20  # files that are named one by one
OWN_CARD = 1000  # bytes of the longest card that a Hub writes


@dataclass(frozen=True)
class ForeignFile:
    path: str
    git_oid: str  # of the bytes that stand there
    removed: bool  # else replaced
    space: str | None = None

    def __str__(self) -> str:
        return f"{'removed' if self.removed else 'replaced':<10}{self.name}"

    @property
    def name(self) -> str:
        return f"spaces/{self.space}/{self.path}" if self.space else self.path


def require_agreed(planned: PlannedRelease, repository: HubRepository, *, replace_files: bool) -> None:
    """Raises UsageError where main holds others' files that the release would take away and nobody agreed to that.

    `replace_files` agrees to all that stand there now; the journal keeps which bytes these were, for `resume`.
    """
    found = [*foreign_files(planned.hub, repository, planned.files), *_foreign_to_space(planned)]
    agreed = (planned.journal.latest(STEP) or {}).get("files", {})
    new = [file for file in found if agreed.get(file.name) != file.git_oid]
    if not new:
        return
    listed = _listed(new)
    places = " and ".join(
        dict.fromkeys(f"the Space {file.space}" if file.space else repository.repo_id for file in new)
    )
    if replace_files:
        log(f"main of {places} has files that no release put there; with --replace-files:\n{listed}")
        files = {file.name: file.git_oid for file in found}
        planned.journal.record(STEP, main=repository.main, files=files, target=planned.target)
        return
    begun = bool(planned.journal.lines())
    again = f"python -m release resume --run {planned.run}" if begun else "the same command with"
    raise UsageError(
        f"main of {places} has files that no release put there, and this one would replace or remove them\n{listed}",
        where=f"{planned.hub.endpoint}/{repository.repo_id}/tree/main",
        expected="files of earlier releases, or an empty repository",
        found=f"commit {repository.main}",
        next_step="put what should stay into the run's checkpoint/ and plan again, or release into another --repo or --space-id; "
        f"to take all of these away: {again} --replace-files (they stay in main's history, and rollback --run returns to them)",
    )


def foreign_files(hub: HubClient, repository: HubRepository, files: Mapping[str, LocalFile]) -> list[ForeignFile]:
    """What main holds and neither `files` nor any release has there, by path."""
    repo_id = repository.repo_id
    left = {
        path: listed
        for path, listed in hub.tree(repo_id, repository.main).items()
        if path != HUB_OWN_FILE and not (path in files and files[path].is_at(listed))
    }
    if left:
        history = hub.history(repo_id)
        for released in _released_files(hub, repository, history):
            left = {path: listed for path, listed in left.items() if released.get(path) != listed}
            if not left:
                break
        if CARD in left and _is_hubs_own(hub, repo_id, history[-1].commit, left[CARD]):
            del left[CARD]
    return [ForeignFile(path, listed.git_oid, path not in files) for path, listed in sorted(left.items())]


def _foreign_to_space(planned: PlannedRelease) -> list[ForeignFile]:
    """What the Space of the plan holds and no release has given it, by path."""
    hub, name = planned.hub, planned.plan.space
    space = hub.repository(name, "space") if name is not None else None
    if name is None or space is None:
        return []
    left = {path: listed for path, listed in hub.tree(name, space.main, "space").items() if path != HUB_OWN_FILE}
    history = hub.history(name, kind="space")
    for commit in history:
        if left and commit.title.startswith(SERVE):
            given = hub.tree(name, commit.commit, "space")
            left = {path: listed for path, listed in left.items() if given.get(path) != listed}
    if CARD in left and hub.tree(name, history[-1].commit, "space").get(CARD) == left[CARD]:
        left = {path: listed for path, listed in left.items() if path != CARD or listed.size > OWN_CARD}
    kept = space_files(planned.plan, planned.run / "bundle", "0" * 40) if left else {}
    return [ForeignFile(path, listed.git_oid, path not in kept, name) for path, listed in sorted(left.items())]


def holds_nothing(hub: HubClient, repo_id: str, commit: str) -> bool:
    """Whether a commit has no files but those with which the Hub makes a repository."""
    tree = {path: listed for path, listed in hub.tree(repo_id, commit).items() if path != HUB_OWN_FILE}
    if not tree:
        return True
    first = hub.history(repo_id, commit)[-1].commit
    return set(tree) == {CARD} and _is_hubs_own(hub, repo_id, first, tree[CARD])


def _released_files(
    hub: HubClient, repository: HubRepository, history: list[HubCommit]
) -> Iterator[dict[str, HubFile]]:
    """What each release holds, the newest of main first, then those that only a tag names."""
    repo_id, seen = repository.repo_id, set()
    for commit in history:
        if (plan := released_by(hub, repo_id, commit)) is not None:
            seen.add(commit.commit)
            yield _planned_files(hub, repo_id, commit.commit, plan)
    for tag, tagged in repository.tags.items():
        if tagged not in seen and (plan := plan_at(hub, repo_id, tagged)) is not None and plan.tag == tag:
            yield _planned_files(hub, repo_id, tagged, plan)


def _planned_files(hub: HubClient, repo_id: str, commit: str, plan: ReleasePlan) -> dict[str, HubFile]:
    named = {entry.path for entry in plan.files} | {PLAN, SIGNATURE}
    return {path: listed for path, listed in hub.tree(repo_id, commit).items() if path in named}


def _is_hubs_own(hub: HubClient, repo_id: str, first: str, card: HubFile) -> bool:
    """Whether a card came with the repository and has nothing beneath its metadata, as the Hub's page makes it with a licence."""
    if card.size > OWN_CARD or hub.tree(repo_id, first).get(CARD) != card:
        return False
    lines = [line.rstrip() for line in hub.text(repo_id, first, CARD).strip().splitlines()]
    return not lines or (lines[0] == "---" and lines[1:].count("---") == 1 and lines[-1] == "---")


def _listed(files: list[ForeignFile]) -> str:
    lines = [f"  {file}" for file in files[:SHOWN]]
    return "\n".join([*lines, *([f"  and {len(files) - SHOWN} more"] if len(files) > SHOWN else [])])
