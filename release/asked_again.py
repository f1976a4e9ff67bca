"""Right before anything is sent: is the plan still what its run gives, and do its gates still say so?

    require_as_planned(run, plan)      # raises GateRefused

plan.json is a file like others: a hash or a verdict that somebody edited in it would else be released as the gates' own
word. So the card and its pictures are rendered from the run's records once more, and the gates that need no weights are asked once
more over the bundle. The gates on weights and text are not: the bytes that they spoke of are pinned by the plan, and what was
staged is downloaded and loaded before it is promoted.
"""

from __future__ import annotations

from pathlib import Path

from model_cards.card import render_card
from release import base_licences
from release.gates.ask import ask
from release.gates.candidate import Candidate
from release.policy import GateName, Policy, load_policy, require_never_waived
from release.policy_told import kept_policy, told
from release.records import ReleasePlan
from training.command import log
from training.errors import GateRefused, UsageError

AGAIN: tuple[GateName, ...] = (
    "file_names_portable",
    "run_record_pinned",
    "scorecard_pinned",
    "figures_from_samples",
    "headlines_regenerable",
    "contamination_bounded",
    "no_regression",
    "card_complete",
    "license_present",
    "license_compatible",
)
PLAN_AGAIN = "python -m release plan again, read what it says, then publish"


def require_as_planned(run: Path, plan: ReleasePlan) -> None:
    """Raises GateRefused where the bundle's card is not the one that the run's records give, where the plan has no verdict
    of a gate that its policy asks, or where a gate says something else than the plan; UsageError where the policy changed."""
    log("holding the plan against the run once more")
    name = kept_policy(run, plan)
    policy = load_policy(name)
    require_never_waived(policy, plan.policy)
    _require_verdicts(plan, policy)
    _require_rendered(run, plan, name)
    asked = [gate for gate in policy.gates if gate in AGAIN]
    lineage = base_licences.read(run)
    candidate = Candidate(
        run,
        run / "bundle",
        tuple(plan.files),
        policy.model_copy(update={"gates": asked}),
        plan.repo_id,
        waivers={gate: reason for gate, reason in plan.waivers.items() if gate in asked},
        signer=plan.signer,
        space=plan.space,
        base_licences=lineage.licences,
        base_models=lineage.bases,
    )
    try:
        verdicts = ask(candidate)
    except UsageError as error:  # a waiver of what does not refuse
        raise _changed(run, "the plan's waivers", error.what) from error
    refused = [verdict for verdict in verdicts if verdict.outcome == "refused"]
    if refused:
        raise _changed(
            run,
            f"{', '.join(verdict.gate for verdict in refused)}: passed, as the plan says",
            "\n".join(f"{verdict.gate}: {verdict.explanation}" for verdict in refused),
        )


def _require_verdicts(plan: ReleasePlan, policy: Policy) -> None:
    given = [verdict.gate for verdict in plan.verdicts]
    waived = {verdict.gate for verdict in plan.verdicts if verdict.outcome == "waived"}
    if given != list(policy.gates) or waived != set(plan.waivers):
        raise GateRefused(
            "the plan's verdicts are not those of its policy's gates",
            where=f"{plan.repo_id} {plan.tag}, policy {plan.policy}",
            expected=f"{', '.join(policy.gates)}; waived: {', '.join(sorted(plan.waivers)) or 'none'}",
            found=f"{', '.join(given)}; waived: {', '.join(sorted(waived)) or 'none'}",
            next_step=PLAN_AGAIN,
        )


def _require_rendered(run: Path, plan: ReleasePlan, policy: str) -> None:
    planned = {entry.path for entry in plan.files}
    if "README.md" not in planned:  # no card could be rendered, and the policy does not ask for one
        return
    rendered = render_card(
        run,
        repo_id=plan.repo_id,
        tag=plan.tag,
        space_id=plan.space,
        endpoint=plan.endpoint,
        signer=plan.signer,
        waivers=plan.waivers,
        policy=told(policy, plan.policy),
    ).files
    for name, content in rendered.items():
        if name not in planned or (run / "bundle" / name).read_bytes() != content:
            raise _changed(run, f"{name} as the run's records give it", f"another {name} in the plan and its bundle")


def _changed(run: Path, expected: str, found: str) -> GateRefused:
    return GateRefused(
        "the plan is not what this run gives: the plan, its bundle or Slipway changed after it was made",
        where=str(run / "plan.json"),
        expected=expected,
        found=found,
        next_step=PLAN_AGAIN,
    )
