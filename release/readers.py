"""Who may read a release: the visibility and the gate that its plan asks for, and what a checkpoint from elsewhere had.

    require_choice(run, request, hub)        # before anything is planned: a gate of the source is not lost unsaid
    narrow(planned, repository)              # right before main gets the release's bytes
    widen_again(hub, journal, repository)    # rollback of a release that never came

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
from release.request import Request
from training.command import log
from training.errors import UsageError
from training.run_record import RunRecord

STEP = "narrowed"
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


def narrow(planned: PlannedRelease, repository: HubRepository) -> None:
    """Private and gated as the plan asks, before main has the release's bytes; what it was stands in the journal first."""
    plan, hub = planned.plan, planned.hub
    hide = plan.private and not repository.private
    gate = plan.gated if plan.gated in ("auto", "manual") and repository.gated != plan.gated else None
    if not hide and gate is None:
        return
    planned.journal.record(STEP, private=repository.private, gated=repository.gated)
    if gate is not None:
        if not repository.private:
            log(f"readers of {plan.repo_id} have to ask from now on, for earlier releases too")
        hub.set_gated(plan.repo_id, gate)
    if hide:
        log(f"{plan.repo_id} was public: from now on its readers find nothing of it, earlier releases included")
        hub.set_private(plan.repo_id, True)


def show(planned: PlannedRelease) -> None:
    """The gate and then the visibility of the plan, of its Space too, at the very end: a reader finds nothing, or all of it."""
    plan, hub = planned.plan, planned.hub
    if plan.gated is not None:
        hub.set_gated(plan.repo_id, False if plan.gated == "no" else plan.gated)
    hub.set_private(plan.repo_id, plan.private)
    if plan.space is not None:
        hub.set_private(plan.space, plan.private, "space")


def widen_again(hub: HubClient, journal: Journal, repository: HubRepository) -> bool:
    """The visibility and the gate that the repository had before a release that never came; whether it is private then."""
    line = journal.find(STEP)
    if line is None:
        return repository.private
    if line["gated"] != repository.gated:
        hub.set_gated(repository.repo_id, line["gated"])
    if line["private"] != repository.private:
        hub.set_private(repository.repo_id, line["private"])
    return bool(line["private"])
