"""Who may read a release: the visibility and the gate that its plan asks for, and what a checkpoint from elsewhere had.

    require_choice(run, request, hub)        # before anything is planned: a gate of the source is not lost unsaid
    require_shown(plan, hub, repository)     # before anything is staged: so is what a private repository has
    note_before(planned, repository)         # in the journal, before anything that readers see changes
    narrow(planned, repository)              # right before main gets the release's bytes
    widen_again(hub, journal, repository, space)   # rollback of a release that never came
    narrow_again(hub, journal, repository)         # rollback of one that has come

A repository that is public, or open to all, is closed only when everything has been checked: until then its readers keep
what was released before. The journal says what it was, so that a rollback gives it back.
"""

from __future__ import annotations

from pathlib import Path

from release.carried import read as read_carried
from release.hub_client import HubClient, HubRepository
from release.journal import Journal
from release.planned_release import PlannedRelease
from release.records import ReleasePlan
from release.releases_there import releases_of
from release.request import Request
from training.command import log
from training.errors import UsageError
from training.run_record import RunRecord

STEP, BEFORE = "narrowed", "before"
PROMPTS = ("extra_gated_prompt", "extra_gated_heading", "extra_gated_fields")  # what a gated page asks, on the Hub


def require_choice(run: Path, request: Request, hub: HubClient | None) -> None:
    """Raises UsageError where the files come from a gated repository and `request` does not say who may read them here.

    Without `hub` only what was noted when they were copied is known.
    """
    if request.gated is not None:
        return
    carried = read_carried(run)
    gate, source = carried.gated if carried else None, "the repository that it was copied from"
    record = RunRecord.read(run / "run.json") if (run / "run.json").is_file() else None
    base = record.parent("base") if record is not None and record.method == "base" else None
    if base is not None and base.hub_id is not None and base.hub_id != request.repo_id:
        source = base.hub_id
        if gate is None and hub is not None:
            gate = hub.gate(base.hub_id)
            if gate is None:
                log(f"{base.hub_id} is not on {hub.endpoint}, so whether its authors choose their readers is not known")
    if gate:
        raise UsageError(
            f"{source} is gated: its authors choose who may read these files, and here they would be open to anyone",
            where=request.repo_id,
            expected="--gated, which says who may read them here",
            found=f"gated: {gate}",
            next_step=f"add --gated {gate} to ask readers here too, or --gated no where the licence lets anyone have them",
        )


def warning(plan: ReleasePlan, card: Path) -> str | None:
    """That the card has words for a gate which the plan does not ask for; None where it has none, or it does."""
    from release.gates.paperwork import front_matter

    asked = [key for key in PROMPTS if key in front_matter(card)] if card.is_file() and plan.gated is None else []
    if not asked:
        return None
    return (
        f"warning: the card has {asked[0]}, which is shown only where the repository is gated; anyone can read this release "
        "unless it is: --gated auto (who agrees may read) or --gated manual (whom you let in), --gated no to say that it is meant"
    )


def require_shown(plan: ReleasePlan, hub: HubClient, repository: HubRepository) -> None:
    """Raises UsageError where a release for everybody would show what a private repository has kept from them."""
    if plan.private or not repository.private:
        return
    releases = releases_of(hub, repository)
    kept = [release.tag for release in releases if release.private]
    if kept or (not releases and len(hub.history(repository.repo_id)) > 1):
        raise UsageError(
            f"{repository.repo_id} is private, and this release would show it to everybody with its whole history",
            where=hub.endpoint,
            expected="--private, or a repository that has nothing to hide",
            found=f"{', '.join(kept)}, released as private" if kept else "commits that no release has made",
            next_step=f"add --private; or hf repos settings {repository.repo_id} --public, where all of it may be read",
        )


def note_before(planned: PlannedRelease, repository: HubRepository) -> None:
    """What main is and who may read it, the Space too, for the rollback of a release that has come."""
    plan, journal = planned.plan, planned.journal
    earlier, latest = journal.under_way(BEFORE), journal.latest(BEFORE)
    if latest is not None and latest["main"] == repository.main:
        return
    if earlier is not None:  # main has moved since, and readers may have been narrowed by this publication already
        was = {name: earlier[name] for name in ("private", "gated", "space_private")}
    else:
        space = planned.hub.repository(plan.space, "space") if plan.space is not None else None
        was = {
            "private": repository.private,
            "gated": repository.gated,
            "space_private": None if space is None else space.private,
        }
    journal.record(BEFORE, main=repository.main, **was)


def narrow(planned: PlannedRelease, repository: HubRepository) -> None:
    """Private and gated as the plan asks, before main has the release's bytes; what it was stands in the journal first.

    A Space that was public goes with its model: the next thing that it is given tells of the release.
    """
    plan, hub = planned.plan, planned.hub
    space = hub.repository(plan.space, "space") if plan.private and plan.space is not None else None
    hide, hide_space = plan.private and not repository.private, space is not None and not space.private
    gate = plan.gated if plan.gated in ("auto", "manual") and repository.gated != plan.gated else None
    if not hide and not hide_space and gate is None:
        return
    if planned.journal.under_way(STEP) is None:  # else a part of it is done, and what it was is no longer to be seen
        was = {"private": repository.private, "gated": repository.gated, "space_private": not hide_space}
        planned.journal.record(STEP, main=repository.main, **was)
    if gate is not None:
        if not repository.private:
            log(f"readers of {plan.repo_id} have to ask from now on, for earlier releases too")
        hub.set_gated(plan.repo_id, gate)
    if hide:
        log(f"{plan.repo_id} was public: from now on its readers find nothing of it, earlier releases included")
        hub.set_private(plan.repo_id, True)
    if hide_space and plan.space is not None:
        log(f"the Space {plan.space} was public: from now on its readers find nothing of it either")
        hub.set_private(plan.space, True, "space")


def show(planned: PlannedRelease) -> None:
    """The gate and then the visibility of the plan, of its Space too, at the very end: a reader finds nothing, or all of it."""
    plan, hub = planned.plan, planned.hub
    if plan.gated is not None:
        hub.set_gated(plan.repo_id, False if plan.gated == "no" else plan.gated)
    hub.set_private(plan.repo_id, plan.private)
    if plan.space is not None:
        hub.set_private(plan.space, plan.private, "space")


def narrow_again(hub: HubClient, journal: Journal, repository: HubRepository) -> bool:
    """No more readers than before the release that is rolled back; whether the repository is private then.

    Nobody is let in again: what was released to some stays theirs, for its tag stands. Journals from before 2026-11-29 do not
    say who the readers were, so all is left as it is.
    """
    line = journal.latest(BEFORE) or {}
    if (line.get("gated"), repository.gated) in (("manual", False), ("manual", "auto"), ("auto", False)):
        hub.set_gated(repository.repo_id, line["gated"])
    if line.get("private") and not repository.private:
        hub.set_private(repository.repo_id, True)
    return bool(repository.private or line.get("private"))


def widen_again(hub: HubClient, journal: Journal, repository: HubRepository, space: str | None) -> bool:
    """The visibility and the gate that the repository and its Space had before a release that never came; whether the
    repository is private then. Left as they are where main has moved on: what others released there may not be for all."""
    line = journal.under_way(STEP)
    if line is None or line.get("main", repository.main) != repository.main:
        return repository.private
    if line["gated"] != repository.gated:
        hub.set_gated(repository.repo_id, line["gated"])
    if line["private"] != repository.private:
        hub.set_private(repository.repo_id, line["private"])
    if space is not None and not line.get("space_private", True):
        hub.set_private(space, False, "space")
    return bool(line["private"])
