"""Roll back: main holds the files of an earlier release again, in one commit; nothing is erased.

    python -m release rollback --run runs/a             # undo what this run published, however far it came
    python -m release rollback --repo org/name --to v1.0.0

A publication that stopped before its commit on main loses its staging branch, and nothing else is there to undo. Where
there is no earlier release, the repository becomes private: readers find nothing, as before it, and the bytes stay for
whoever looks into what went wrong. The Space goes back with its model. Tags are never moved: what was released under a
tag can still be asked for by it. The commands are safe to repeat, and the run's plan is not published again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from release.bundle import PLAN, files_of
from release.hub_client import HubClient, HubCommit, HubRepository, Kind
from release.hub_files import HUB_OWN_FILE, LocalFile, changes, difference
from release.journal import ROLLED_BACK, WITHDRAWN, Journal, exclusive
from release.records import Receipt, ReleasePlan
from training.command import log
from training.errors import HubError, UsageError, VerificationMismatch

Done = dict[str, str | None]


@dataclass(frozen=True)
class Published:
    """What a run began to publish, or has published."""

    repo_id: str
    tag: str
    space: str | None
    plan_digest: str
    commit: str | None  # of main, where the journal or the receipt knows it

    @property
    def staging(self) -> str:
        return f"release-staging-{self.tag}"


def published_by(run: Path, endpoint: str) -> tuple[Published, Journal]:
    """The publication that `run` has begun and not ended, or else the one in its receipt. Raises UsageError."""
    path = run / "journal.jsonl"
    if (run / PLAN).is_file():
        plan = ReleasePlan.read(run / PLAN)
        journal = Journal(path, plan.content_digest(), endpoint)
        if journal.lines():
            commit = (journal.find("promoted") or journal.find("tagged") or {}).get("commit")
            return Published(plan.repo_id, plan.tag, plan.space, plan.content_digest(), commit), journal
    if (run / "receipt.json").is_file():
        receipt = Receipt.read(run / "receipt.json")
        if receipt.endpoint == endpoint:
            space = receipt.space.repo_id if receipt.space else None
            published = Published(receipt.repo_id, receipt.tag, space, receipt.plan_digest, receipt.commit)
            return published, Journal(path, receipt.plan_digest, endpoint)
    raise UsageError(
        "this run has published nothing to this Hub, so there is nothing to undo",
        where=str(run),
        found=endpoint,
        next_step="set HF_ENDPOINT to the Hub that it was published to, or give --repo ORG/NAME --to TAG",
    )


def roll_back_run(hub: HubClient, run: Path, *, to: str | None = None) -> Done:
    """Undo what `run` published, or return to the tag `to`; what was done, with main's commit.

    Raises UsageError where main has moved on to another release, VerificationMismatch where the old files come back
    damaged, HubError.
    """
    with exclusive(run):
        published, journal = published_by(run, hub.endpoint)
        repository = hub.repository(published.repo_id)
        if repository is None:
            _withdraw(journal, published)
            return {"repo_id": published.repo_id, "action": "nothing to undo", "tag": None, "commit": None}
        if published.staging in repository.branches:
            hub.delete_branch(published.repo_id, published.staging)
        released = _release_of(hub, repository, published)
        if released is None:
            _withdraw(journal, published)
            return {"repo_id": published.repo_id, "action": "withdrew", "tag": None, "commit": repository.main}
        target = to or _previous_tag(repository, hub.history(published.repo_id, released))
        done = _go_back(hub, repository, target, forced=to is not None, released=released)
        if published.space is not None:
            _return_space(hub, published.space, released)
        if journal.find(ROLLED_BACK) is None:
            journal.record(ROLLED_BACK, commit=done["commit"], to=target)
        return done


def _withdraw(journal: Journal, published: Published) -> None:
    """Note that nothing of it is open any more, so that the run may be published elsewhere."""
    if journal.lines() and journal.lines()[-1]["step"] != WITHDRAWN:
        target = {"repo_id": published.repo_id, "tag": published.tag, "space": published.space}
        journal.record(WITHDRAWN, target=target)


def roll_back(hub: HubClient, repo_id: str, *, to: str) -> Done:
    """Return main to the tag `to`; what was done, with the commit.

    Raises UsageError where there is no such tag, VerificationMismatch where the old files come back damaged, HubError.
    """
    repository = hub.repository(repo_id)
    if repository is None:
        raise HubError(f"there is no repository {repo_id} that this token may see", where=hub.endpoint)
    return _go_back(hub, repository, to, forced=True)


def _release_of(hub: HubClient, repository: HubRepository, published: Published) -> str | None:
    """The commit on main, now or earlier, by which the plan was released; None where it never was."""
    for commit in hub.history(repository.repo_id):
        # Where main had the files already, the release is a commit that does not name the plan.
        if published.plan_digest in commit.message or commit.commit == published.commit:
            return commit.commit
    return None


def _previous_tag(repository: HubRepository, history: list[HubCommit]) -> str | None:
    """The tag of the release before the first commit of `history`; None where it was the first."""
    by_commit = {commit: name for name, commit in repository.tags.items()}
    return next((by_commit[entry.commit] for entry in history[1:] if entry.commit in by_commit), None)


def _go_back(
    hub: HubClient, repository: HubRepository, target: str | None, *, forced: bool, released: str | None = None
) -> Done:
    """Main at the files of `target`, or (None) nothing to be seen; not over a later release unless `forced`."""
    repo_id = repository.repo_id
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
    by_commit = {commit: name for name, commit in repository.tags.items()}
    later = by_commit.get(repository.main)
    if not forced and repository.main != released and later not in (None, target):
        raise UsageError(
            f"main of {repo_id} has moved on to the release {later}",
            where=hub.endpoint,
            expected=f"main at commit {released}",
            found=repository.main,
            next_step=f"roll {later} back first, or say where to: --to {target}",
        )
    commit = _return_to(hub, repo_id, repository.main, repository.tags[target], target)
    return {"repo_id": repo_id, "action": "returned main", "tag": target, "commit": commit}


def _return_space(hub: HubClient, space: str, released: str) -> None:
    """The Space serves what it served before the commit that pinned it to `released`; private where that was nothing."""
    repository = hub.repository(space, "space")
    if repository is None:
        return
    history = hub.history(space, kind="space")
    pinned = next((index for index, commit in enumerate(history) if released in commit.message), None)
    if pinned is None:
        return
    before = history[pinned + 1 :]
    if len(before) <= 1:  # the Hub's own first commit
        hub.set_private(space, True, "space")
        return
    _return_to(hub, space, repository.main, before[0].commit, before[0].title, "space")


def _return_to(hub: HubClient, repo_id: str, main: str, old: str, name: str, kind: Kind = "model") -> str:
    """One commit on main with exactly the files of the commit `old`; none where main holds them already."""
    wanted = hub.tree(repo_id, old, kind)
    with TemporaryDirectory(prefix="slipway-rollback-") as cache:
        log(f"downloading {repo_id} at {name}")
        snapshot = hub.download(repo_id, old, Path(cache), kind)
        files = {
            entry.path: LocalFile(snapshot / entry.path, entry.sha256)
            for entry in files_of(snapshot, without=(HUB_OWN_FILE,))
        }
        damaged = difference(files, wanted)
        if damaged is not None:
            raise VerificationMismatch(
                f"the files of {name} come back damaged; main is as it was",
                where=f"{hub.endpoint}/{repo_id}, commit {old}",
                expected="the files that the Hub lists",
                found=damaged,
                next_step="roll back to another tag with --to",
            )
        additions, deletions = changes(files, hub.tree(repo_id, main, kind))
        if not additions and not deletions:
            return main
        return hub.commit(
            repo_id,
            "main",
            parent=main,
            additions=additions,
            deletions=deletions,
            title=f"Roll back to {name}",
            message=f"The files of commit {old}",
            landed=lambda commit: difference(files, hub.tree(repo_id, commit, kind)) is None,
            kind=kind,
        )
