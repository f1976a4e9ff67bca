"""Roll back: main holds the files of an earlier release again, in one commit; nothing is erased.

    python -m release rollback --run runs/a             # undo what this run published, however far it came
    python -m release rollback --repo org/name --to v1.0.0

A publication that stopped before its commit on main loses what it staged, and readers find the repository as before. What
--run published gives main the files of the commit before it, a release's or anybody's, and no more readers than it had then.
Where there was no file before, the repository becomes private: readers find nothing, as before it, and the bytes stay for
whoever looks into what went wrong. The Space goes back with its model, or it is said what it still serves. --to shows again
what was released publicly under that tag, unless --keep-private. Tags are never moved: what was released under a tag can
still be asked for by it. The commands are safe to repeat, and the run's plan is not published again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from release.bundle import PLAN
from release.foreign_files import foreign_files, holds_nothing
from release.hub_client import HubClient, HubRepository
from release.journal import ROLLED_BACK, WITHDRAWN, Journal, exclusive
from release.readers import BEFORE, narrow_again, widen_again
from release.records import Receipt, ReleasePlan
from release.releases_there import plan_at, releases_of, same_files
from release.return_commit import return_to
from release.space_rollback import SpaceDone, return_before, return_to_release, spaces_of
from release.staging import Staging
from training.command import log
from training.errors import HubError, UsageError


@dataclass
class Done:
    """What was done. `private`: whether readers without a token find nothing."""

    repo_id: str
    action: str  # returned main | made private | withdrew | nothing to undo
    tag: str | None  # whose files main holds; None where they are no release's
    commit: str | None  # of main
    private: bool | None = None
    files_of: str | None = None  # the commit that main returned to
    spaces: list[SpaceDone] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)  # private releases, for whose sake it was not shown again


@dataclass(frozen=True)
class Published:
    """What a run began to publish, or has published."""

    repo_id: str
    tag: str
    space: str | None
    plan_digest: str
    commit: str | None  # of main, where the journal or the receipt knows it
    staging: Staging


def published_by(run: Path, endpoint: str) -> tuple[Published, Journal]:
    """The publication that `run` has begun and not ended, or else the one in its receipt. Raises UsageError."""
    path = run / "journal.jsonl"
    if (run / PLAN).is_file():
        plan = ReleasePlan.read(run / PLAN)
        journal = Journal(path, plan.content_digest(), endpoint)
        if journal.lines():
            commit = (journal.find("promoted") or journal.find("tagged") or {}).get("commit")
            staging = Staging.noted(plan.repo_id, plan.tag, journal.find("repository"))
            return Published(plan.repo_id, plan.tag, plan.space, plan.content_digest(), commit, staging), journal
    if (run / "receipt.json").is_file():
        receipt = Receipt.read(run / "receipt.json")
        if receipt.endpoint == endpoint:
            space = receipt.space.repo_id if receipt.space else None
            journal = Journal(path, receipt.plan_digest, endpoint)
            staging = Staging.noted(receipt.repo_id, receipt.tag, journal.find("repository"))
            published = Published(receipt.repo_id, receipt.tag, space, receipt.plan_digest, receipt.commit, staging)
            return published, journal
    raise UsageError(
        "this run has published nothing to this Hub, so there is nothing to undo",
        where=str(run),
        found=endpoint,
        next_step="set HF_ENDPOINT to the Hub that it was published to, or give --repo ORG/NAME --to TAG",
    )


def roll_back_run(hub: HubClient, run: Path, *, to: str | None = None, keep_private: bool = False) -> Done:
    """Undo what `run` published, or return to the tag `to`, as roll_back does; what was done.

    Raises UsageError where main has moved on to another release, VerificationMismatch where the old files come back
    damaged, HubError.
    """
    with exclusive(run):
        published, journal = published_by(run, hub.endpoint)
        repository = hub.repository(published.repo_id)
        published.staging.remove(hub, repository)
        if repository is None:
            _withdraw(journal, published)
            return Done(published.repo_id, "nothing to undo", None, None)
        released = _release_of(hub, repository, published)
        if released is None:
            private = widen_again(hub, journal, repository, published.space)
            _withdraw(journal, published)
            return Done(published.repo_id, "withdrew", None, repository.main, private)
        if to is not None:
            done = _return_all(hub, repository, to, keep_private=keep_private)
        else:
            done = _undo(hub, repository, published, journal, released)
        if journal.find(ROLLED_BACK) is None:
            journal.record(ROLLED_BACK, commit=done.commit, to=done.tag or done.files_of)
        return done


def _undo(hub: HubClient, repository: HubRepository, published: Published, journal: Journal, released: str) -> Done:
    """Main, readers and Space as they were right before the commit `released`."""
    before = _commit_before(hub, published, journal, released)
    target = None if before is None else Target(before, _tag_of(hub, repository, before))
    if target is not None and repository.main != released:
        _say_what_goes(hub, repository, target)
    done = _go_back(hub, repository, target, forced=False, released=released)
    if target is not None:
        done.private = narrow_again(hub, journal, repository)
        if repository.private:
            done.hidden = _private_releases(hub, repository)
    if published.space is not None:
        done.spaces = return_before(hub, published.space, repository, released)
        for space in done.spaces:
            if (journal.latest(BEFORE) or {}).get("space_private") and not space.private:
                hub.set_private(space.space, True, "space")
                space.private = True
    return done


def _withdraw(journal: Journal, published: Published) -> None:
    """Note that nothing of it is open any more, so that the run may be published elsewhere."""
    if journal.lines() and journal.lines()[-1]["step"] != WITHDRAWN:
        target = {"repo_id": published.repo_id, "tag": published.tag, "space": published.space}
        journal.record(WITHDRAWN, target=target)


def roll_back(hub: HubClient, repo_id: str, *, to: str, keep_private: bool = False) -> Done:
    """Return main to the tag `to`, the Space too, and show both again where that release was public; what was done.

    Raises UsageError where there is no such tag, VerificationMismatch where the old files come back damaged, HubError.
    """
    repository = hub.repository(repo_id)
    if repository is None:
        raise HubError(f"there is no repository {repo_id} that this token may see", where=hub.endpoint)
    return _return_all(hub, repository, to, keep_private=keep_private)


def _return_all(hub: HubClient, repository: HubRepository, to: str, *, keep_private: bool) -> Done:
    """Main at the files of `to`, then its Spaces, and at last the visibility with which it was released."""
    spaces = spaces_of(hub, repository)  # main will not name the one of a later release any more
    done = _go_back(hub, repository, _tagged(hub, repository, to), forced=True)
    done.spaces = [return_to_release(hub, space, repository, to) for space in spaces]
    plan = plan_at(hub, repository.repo_id, repository.tags[to])
    if plan is None or plan.private or keep_private:
        return done
    if repository.private:
        done.hidden = _private_releases(hub, repository)
        if done.hidden:  # their files can be asked for by tag or commit
            return done
        hub.set_private(repository.repo_id, False)
        done.private = False
    for space in done.spaces:
        if space.private and space.serves == to:
            hub.set_private(space.space, False, "space")
            space.private = False
    return done


def _private_releases(hub: HubClient, repository: HubRepository) -> list[str]:
    return [plan.tag for plan in releases_of(hub, repository) if plan.private]


def _release_of(hub: HubClient, repository: HubRepository, published: Published) -> str | None:
    """The commit on main, now or earlier, by which the plan was released; None where it never was."""
    for commit in hub.history(repository.repo_id):
        # Where main had the files already, the release is a commit that does not name the plan.
        if published.plan_digest in commit.message or commit.commit == published.commit:
            return commit.commit
    return None


def _say_what_goes(hub: HubClient, repository: HubRepository, target: Target) -> None:
    """What others have put on main since, and its history alone keeps."""
    kept = hub.tree(repository.repo_id, target.commit)
    going = [
        file
        for file in foreign_files(hub, repository, {})
        if (there := kept.get(file.path)) is None or there.git_oid != file.git_oid
    ]
    if going:
        log(
            f"main had been changed since by others; commit {repository.main} keeps {', '.join(file.path for file in going)}"
        )


def _commit_before(hub: HubClient, published: Published, journal: Journal, released: str) -> str | None:
    """The commit of main before the release; None where it had no file of anybody's."""
    noted = journal.find("promoted") or {}
    if noted.get("commit") == released and noted.get("parent", released) != released:
        before = str(noted["parent"])
    else:  # a kill fell between the commit and its line, or main had the files already
        earlier = hub.history(published.repo_id, released)[1:]
        if not earlier:
            return None
        before = earlier[0].commit
    return None if holds_nothing(hub, published.repo_id, before) else before


def _tag_of(hub: HubClient, repository: HubRepository, commit: str) -> str | None:
    """The release whose files a commit holds, as its own or because main returned to them."""
    tagged = next((name for name, target in repository.tags.items() if target == commit), None)
    if tagged is not None:
        return tagged
    plan = plan_at(hub, repository.repo_id, commit)
    if plan is None or plan.tag not in repository.tags:
        return None
    return plan.tag if same_files(hub, repository.repo_id, commit, repository.tags[plan.tag]) else None


@dataclass(frozen=True)
class Target:
    """What main returns to: a commit, and the tag of the release that it holds, if it is one."""

    commit: str
    tag: str | None

    @property
    def name(self) -> str:
        return self.tag or f"commit {self.commit[:12]}"


def _go_back(
    hub: HubClient, repository: HubRepository, target: Target | None, *, forced: bool, released: str | None = None
) -> Done:
    """Main at the files of `target`, or (None) nothing to be seen; not over a later release unless `forced`."""
    repo_id = repository.repo_id
    later = {commit: name for name, commit in repository.tags.items()}.get(repository.main)
    to = target.tag if target else None
    if not forced and repository.main != released and later not in (None, to):
        raise UsageError(
            f"main of {repo_id} has moved on to the release {later}",
            where=hub.endpoint,
            expected=f"main at commit {released}",
            found=repository.main,
            next_step=f"roll {later} back first" + (f", or say where to: --to {to}" if to else ""),
        )
    if target is None:
        hub.set_private(repo_id, True)
        return Done(repo_id, "made private", None, repository.main, True)
    commit = return_to(hub, repo_id, main=repository.main, old=target.commit, name=target.name)
    return Done(repo_id, "returned main", target.tag, commit, repository.private, target.commit)


def _tagged(hub: HubClient, repository: HubRepository, tag: str) -> Target:
    if tag not in repository.tags:
        raise UsageError(
            f"{repository.repo_id} has no tag {tag}",
            where=hub.endpoint,
            expected=f"one of {', '.join(sorted(repository.tags)) or 'none'}",
            found=tag,
        )
    return Target(repository.tags[tag], tag)
