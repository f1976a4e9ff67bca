"""Is what a receipt says still so on the Hub? Asked where `publish` would else say that it is released already.

    require_still_there(planned, receipt, hub.repository("org/name"))     # raises VerificationMismatch

Bytes are not downloaded here (`release verify` does that): the Hub's lists of files, tags and readers are looked at. A later
release on main is as it should be.
"""

from __future__ import annotations

from release.family import CARD, SUPERSEDED
from release.hub_client import HubRepository
from release.planned_release import RECEIPT, PlannedRelease
from release.records import Receipt
from release.releases_there import plan_at, released_by, same_files
from release.space_rollback import served
from training.errors import VerificationMismatch

Difference = tuple[str, str]  # what is not as it was released, and what to type next


def require_still_there(planned: PlannedRelease, receipt: Receipt, repository: HubRepository | None) -> None:
    """Raises VerificationMismatch where tag, main, readers or Space are not what was released, with every difference."""
    if repository is None:
        run = planned.run
        found = [
            (
                "repository: gone, or this token may no longer see it",
                f"set HF_TOKEN to a token that may see it; where it was deleted, move {run / RECEIPT} and {run / 'journal.jsonl'} "
                "away, and the same command releases it anew",
            )
        ]
    else:
        differs = planned.difference(repository.main)
        found = [*_tag(planned, receipt, repository), *_readers(planned, repository)]
        # Where main is a later release, the Space is, too.
        found += _space(planned, receipt) if differs is None else _main(planned, repository, differs)
    if found:
        plan, hub = planned.plan, planned.hub
        raise VerificationMismatch(
            f"{plan.repo_id} {plan.tag} was released from this run, and is not there as it was\n"
            + "\n".join(f"  {what}" for what, _ in found),
            where=f"{hub.endpoint}/{plan.repo_id}",
            expected=f"what {planned.run / RECEIPT} says: {plan.tag} at commit {receipt.commit}",
            next_step="; ".join(dict.fromkeys(step for _, step in found)),
        )


def _tag(planned: PlannedRelease, receipt: Receipt, repository: HubRepository) -> list[Difference]:
    repo_id, tag = planned.plan.repo_id, planned.plan.tag
    tagged = repository.tags.get(tag)
    if tagged == receipt.commit:
        return []
    again = f"hf repos tag create {repo_id} {tag} --revision {receipt.commit}"
    if tagged is None:
        branch = tag in repository.branches
        first = f"hf repos branch delete {repo_id} {tag} && " if branch else ""
        return [(f"tag: {tag} is gone" + (", and a branch is called so" if branch else ""), first + again)]
    return [(f"tag: {tag} is at commit {tagged} now", f"hf repos tag delete {repo_id} {tag} && {again}")]


def _main(planned: PlannedRelease, repository: HubRepository, differs: str) -> list[Difference]:
    """Nothing where main is a later release, or its card alone was changed by `release supersede`."""
    hub, repo_id, tag = planned.hub, planned.plan.repo_id, planned.plan.tag
    newest = hub.history(repo_id)[0]
    if released_by(hub, repo_id, newest) is not None:
        return []
    if newest.title.startswith(SUPERSEDED) and planned.difference(repository.main, without=CARD) is None:
        return []
    plan = plan_at(hub, repo_id, repository.main)
    held = repository.tags.get(plan.tag) if plan is not None and plan.tag != tag else None
    whole = held is not None and same_files(hub, repo_id, held, repository.main)
    said = (
        f"the files of {plan.tag}"
        if plan is not None and whole
        else f"since {newest.date[:10]} ({newest.author}: {newest.title!r}), {differs}"
    )
    return [(f"main: {said}", f"python -m release rollback --repo {repo_id} --to {tag} returns main to it")]


def _readers(planned: PlannedRelease, repository: HubRepository) -> list[Difference]:
    plan, settings = planned.plan, f"hf repos settings {planned.plan.repo_id}"
    found = []
    if repository.private != plan.private:
        said = "readers: the repository is private" if repository.private else "readers: the repository is public"
        found.append((said, f"{settings} {'--private' if plan.private else '--public'}"))
    gate = False if plan.gated == "no" else plan.gated
    if gate is not None and repository.gated != gate:
        found.append(
            (f"readers: the repository is {repository.gated or 'not'} gated", f"{settings} --gated {str(gate).lower()}")
        )
    return found


def _space(planned: PlannedRelease, receipt: Receipt) -> list[Difference]:
    plan, hub = planned.plan, planned.hub
    if receipt.space is None:
        return []
    name = receipt.space.repo_id
    space = hub.repository(name, "space")
    if space is None:
        return [(f"Space: {name} is gone", "release it with a Space again under a new --tag")]
    found = []
    if served(hub, name) != (plan.repo_id, receipt.commit):
        to = f"python -m release rollback --repo {plan.repo_id} --to {plan.tag}"
        found.append((f"Space: {name} does not serve this release", f"{to} returns it"))
    if space.private != plan.private:
        found.append(
            (
                f"Space: {name} is {'private' if space.private else 'public'}",
                f"hf repos settings {name} --type space {'--private' if plan.private else '--public'}",
            )
        )
    return found
