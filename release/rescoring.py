"""The scores of a downloaded release computed again, as findings: figure by figure, and how much of each task that was.

    findings += rescored(snapshot, Rescoring(items=8, seed=17))
    require_rescored(verification, hub.endpoint)      # who asked for it is not told that all is well where nothing was

A figure that was computed is a finding `rescore`; one that cannot be here is `not rescored` and says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from release.records import Finding, Verification
from training.counted import counted
from training.errors import UsageError

if TYPE_CHECKING:
    from evals.rescore import Rescored
    from evals.scorecard import Scorecard

COMPUTED, NOT_COMPUTED, SHARE = "rescore", "not rescored", "rescored items"


@dataclass(frozen=True)
class Rescoring:
    """How many items of each task to answer again, the seed that draws them, and the file of a suite that is none of ours."""

    items: int
    seed: int
    suite: str | None = None


def rescored(snapshot: Path, rescoring: Rescoring) -> list[Finding]:
    """A finding for every task and every figure of the scorecard. Raises UsageError where the release has none."""
    from evals.evaluated import find
    from evals.rescore import rescore
    from evals.saved import SavedRun

    if not (snapshot / "scorecard.json").is_file():
        raise UsageError("the release has no scorecard.json, so there is nothing to re-score")
    run = SavedRun.open(snapshot)
    figures = rescore(run, find(str(snapshot)), rescoring.items, rescoring.seed, suite=rescoring.suite)
    card = run.scorecard
    return [
        *_shares(card, figures),
        *(figure_finding(card, figure) for figure in figures),
        *(
            Finding(check=NOT_COMPUTED, ok=True, subject=task, found=f"it failed when it was scored: {why}")
            for task, why in sorted(card.failed_tasks.items())
        ),
    ]


def require_rescored(verification: Verification, endpoint: str) -> None:
    """Raise UsageError where re-scoring was asked for and not one figure could be computed here: that shows nothing of them."""
    reasons = [finding for finding in verification.findings if finding.check == NOT_COMPUTED]
    if any(finding.check == COMPUTED for finding in verification.findings):
        return
    told = "".join(f"\n  {finding.subject}: {finding.found}" for finding in reasons)
    suite = any("--suite" in (finding.found or "") for finding in reasons)
    raise UsageError(
        f"not one of {counted(len(reasons), 'figure')} could be re-scored here; all else is as released{told}",
        where=f"{endpoint}/{verification.repo_id}, commit {verification.commit}, scorecard.json",
        next_step="give --suite FILE, as `evals run --suite` was given"
        if suite
        else "verify without --rescore, which holds the figures against their samples alone",
    )


def figure_finding(card: Scorecard, figure: Rescored, of: str = "") -> Finding:
    """What was found of one figure; `of` says whose it is, where there are several."""
    computed = figure.outcome != "not re-scored"
    items = f" ({counted(figure.items, 'item')})" if figure.items else ""
    return Finding(
        check=COMPUTED if computed else NOT_COMPUTED,
        ok=figure.outcome != "does not hold",
        subject=f"{of}{figure.task}/{figure.metric}",
        expected=f"{card.score(figure.task, figure.metric).value:.4g}, as the scorecard says",
        found=f"{figure.outcome}{items}: {figure.explanation}" if computed else figure.explanation,
    )


def _shares(card: Scorecard, figures: list[Rescored]) -> list[Finding]:
    """Of each task: how many of its items were answered again, and how many of its figures could be computed from them."""
    findings = []
    for settings in card.settings.tasks:
        own = [figure for figure in figures if figure.task == settings.task]
        computed = sum(figure.outcome != "not re-scored" for figure in own)
        items = max((figure.items for figure in own), default=0)
        found = f"{items} of {counted(settings.items, 'item')}, {computed} of {counted(len(own), 'figure')} re-scored"
        findings.append(Finding(check=SHARE, ok=True, subject=settings.task, found=found))
    return findings
